"""What is said of a pod that fits nowhere: its condition, an event, the node it is nominated to; and the eviction of those that make room for it."""

from __future__ import annotations

from kubeling.api import pods
from kubeling.api.conditions import find_condition
from kubeling.api.errors import ApiError
from kubeling.api.meta import key_of, namespace_of, uid_of
from kubeling.api.resources import PODS
from kubeling.api.times import format_time
from kubeling.client.events import EventRecorder
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.scheduler import metrics
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.nodeinfo import Obj, PodInfo
from kubeling.scheduler.queue import SchedulingQueue
from kubeling.scheduler.verdicts import FitError

log = get_logger("scheduler")


class Reporter:
    """Reports failures and carries out preemptions."""

    def __init__(self, client: Client, recorder: EventRecorder, cache: Cache, queue: SchedulingQueue, clock: Clock) -> None:
        self._client, self._recorder, self._cache, self._queue, self._clock = client, recorder, cache, queue, clock

    async def unschedulable(self, pod: Obj, error: FitError) -> None:
        """Say why on the pod and as an event; carry out a preemption that was decided."""
        self._recorder.event(pod, "Warning", "FailedScheduling", str(error))
        nomination = error.nomination
        nominated = nomination.nominated if nomination else ""
        try:
            if nomination is not None and nominated:
                # Victims first: a pod that is marked as nominated while nothing makes room for it would only mislead.
                for victim in nomination.victims:
                    await self._evict(victim, pod)
                metrics.preempted(len(nomination.victims))
            await self._mark(pod, str(error), nominated, clears=nomination is not None and not nominated and not nomination.keeps)
        except ApiError as refused:
            if nominated:
                self._withdraw(pod)
            if refused.code not in (404, 409):
                log.warning("cannot report on a pod", pod=key_of(pod), error=str(refused))
        except ConnectionFailed as failed:
            if nominated:
                self._withdraw(pod)
            log.debug("cannot report on a pod", pod=key_of(pod), error=str(failed))

    def _withdraw(self, pod: Obj) -> None:
        """A preemption that was not carried out promises nothing."""
        self._cache.nominate(uid_of(pod), None)
        self._queue.activate(key_of(pod))

    async def _mark(self, pod: Obj, message: str, nominated: str, clears: bool) -> None:
        status = pod.get("status") or {}
        old = find_condition(status.get("conditions"), "PodScheduled") or {}
        unchanged = (old.get("status"), old.get("message")) == ("False", message)
        before = status.get("nominatedNodeName") or ""
        after = nominated or ("" if clears else before)
        if unchanged and before == after:
            return
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": old.get("lastTransitionTime")
            if old.get("status") == "False"
            else format_time(self._clock.now()),
        }
        body: Obj = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [condition]}}
        if before != after:
            body["status"]["nominatedNodeName"] = after or None
        await self._patch_status(PodInfo(pod), body)

    async def _patch_status(self, pod: PodInfo, body: Obj) -> None:
        await self._client.patch(PODS, pod.name, body, pod.namespace, patch_type="strategic", subresource="status")

    async def _evict(self, victim: PodInfo, preemptor: Obj) -> None:
        """Mark the victim as disrupted, so that its controller knows why (KEP-3329), and delete it gracefully."""
        if victim.is_terminating:
            return
        name = (preemptor.get("spec") or {}).get("schedulerName") or "default-scheduler"
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{name}: preempting to accommodate a higher priority pod",
            "lastProbeTime": None,
            "lastTransitionTime": format_time(self._clock.now()),
        }
        try:
            await self._patch_status(victim, {"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}})
            await self._client.delete(PODS, victim.name, victim.namespace, uid=victim.uid)
        except ApiError as refused:
            if refused.code == 404:
                return  # Gone already: all the better.
            raise
        message = f"Preempted by pod {uid_of(preemptor)} on node {pods.node_of(victim.pod)}"
        self._recorder.event(victim.pod, "Normal", "Preempted", message)
        log.info("preempted", pod=victim.key, by=f"{namespace_of(preemptor)}/{preemptor['metadata']['name']}")
