"""The scheduler itself: informers in, bindings out.

Correct with two of them at work: a binding is a compare-and-set at the apiserver (a pod that has a node already refuses another), and what was assumed
here is given up when that fails. Nothing rests on being the leader.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubeling.api import pods
from kubeling.api.conditions import find_condition
from kubeling.api.errors import ApiError
from kubeling.api.labels import Selector, from_labels, from_selector
from kubeling.api.meta import controller_of, key_of, labels_of, namespace_of, spec_of, uid_of
from kubeling.api.resources import (
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    SERVICES,
    STATEFUL_SETS,
    STORAGE_CLASSES,
)
from kubeling.api.times import format_time
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Change, InformerFactory
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor
from kubeling.scheduler import metrics
from kubeling.scheduler.algorithm import decide
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.framework import Framework
from kubeling.scheduler.nodeinfo import Obj, PodInfo
from kubeling.scheduler.plugins import default_plugins
from kubeling.scheduler.queue import QueuedPod, SchedulingQueue
from kubeling.scheduler.types import ClusterChange, Cycle
from kubeling.scheduler.verdicts import FitError

log = get_logger("scheduler")

#: Bindings and reports on their way to the apiserver at once.
MAX_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """What can be set. `scheduler_name`: only pods that ask for this scheduler are taken."""

    scheduler_name: str = "default-scheduler"
    percentage_of_nodes_to_score: int = 0


@dataclass(slots=True)
class _Binding:
    cycle: Cycle
    node: str
    queued: QueuedPod
    began: float = field(default=0.0)


class Scheduler:
    """:meth:`run` schedules until cancelled; the informers of `informers` must be started by the caller."""

    def __init__(
        self,
        client: Client,
        informers: InformerFactory,
        recorder: EventRecorder,
        *,
        config: SchedulerConfig | None = None,
        clock: Clock | None = None,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._client, self._informers, self._recorder = client, informers, recorder
        self._config = config or SchedulerConfig()
        self._clock, self._rand = clock or SystemClock(), rand
        self.cache = Cache(spaces=self._namespace_labels)
        self._nodes = informers.informer(NODES)
        self._pods = informers.informer(PODS)
        self._namespaces = informers.informer(NAMESPACES)
        self._services = informers.informer(SERVICES)
        self._owners = {
            "ReplicaSet": informers.informer(REPLICA_SETS),
            "StatefulSet": informers.informer(STATEFUL_SETS),
            "ReplicationController": informers.informer(REPLICATION_CONTROLLERS),
        }
        self._claims = informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = informers.informer(PERSISTENT_VOLUMES)
        self._classes = informers.informer(STORAGE_CLASSES)
        self._budgets = informers.informer(POD_DISRUPTION_BUDGETS)
        self.framework = Framework(
            default_plugins(
                namespace_labels=self._namespace_labels,
                default_selector=self._default_selector,
                get_claim=lambda namespace, name: self._claims.store.get(name, namespace),
                get_volume=self._volumes.store.get,
                get_class=self._classes.store.get,
                budgets=self._budgets.store.in_namespace,
                rand=rand,
            ),
            scheduler_name=self._config.scheduler_name,
        )
        self.queue = SchedulingQueue(lambda pod: self.framework.gate(pod) is not None, clock=self._clock)
        self._next_start = 0
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._nodes.add_handler(self._on_node)
        self._pods.add_handler(self._on_pod)
        for informer, name in (
            (self._claims, "persistentvolumeclaims"),
            (self._volumes, "persistentvolumes"),
            (self._classes, "storageclasses"),
        ):
            informer.add_handler(self._on_other(name))
        metrics.watch_queue(self.queue.counts)

    async def run(self) -> None:
        """Schedule until cancelled."""
        await self._informers.wait_synced()
        async with Supervisor(self._clock) as parts:
            while True:
                queued = await self.queue.pop()
                await self._slots.acquire()
                aftermath = self._attempt(queued)
                if aftermath is None:
                    self._slots.release()
                else:
                    parts.spawn(self._finish(aftermath, queued.key), f"finish {queued.key}")
                await asyncio.sleep(0)  # Lets the watches run between two cycles.

    async def _finish(self, aftermath: Coroutine[Any, Any, None], key: str) -> None:
        """What follows a cycle at the apiserver. It frees its slot whatever happens, and never takes the scheduler down."""
        try:
            await aftermath
        except Exception:
            log.exception("what followed a cycle failed", pod=key)
        finally:
            self._slots.release()

    # -- one attempt ---------------------------------------------------------------------------------------------------------------

    def _attempt(self, queued: QueuedPod) -> Coroutine[Any, Any, None] | None:
        """One cycle. Returns what is left to do at the apiserver, None for nothing."""
        pod = queued.pod
        if pod["metadata"].get("deletionTimestamp") or self.cache.is_placed(uid_of(pod)):
            self.queue.remove(queued.key)
            return None
        began = self._clock.monotonic()
        try:
            cycle, node = self.decide(PodInfo(pod))
        except FitError as error:
            metrics.attempt("unschedulable", self._clock.monotonic() - began)
            self.queue.park(queued, error.plugins)
            log.debug("no node fits", pod=queued.key, why=str(error))
            return self._report_unschedulable(pod, error)
        except Exception:
            metrics.attempt("error", self._clock.monotonic() - began)
            log.exception("a cycle failed", pod=queued.key)
            self.queue.back_off(queued)
            return None
        metrics.attempt("scheduled", self._clock.monotonic() - began)
        self.cache.assume(cycle.pod, node)
        return self._bind(_Binding(cycle, node, queued, began))

    def decide(self, pod: PodInfo) -> tuple[Cycle, str]:
        """The best node for `pod` as things stand. Raises FitError where none fits. Changes nothing."""
        cycle = self.cache.cycle(pod)
        try:
            found = decide(self.framework, cycle, start=self._next_start, rand=self._rand)
        except FitError as error:
            raise self.framework.cure(cycle, error) from None
        self._next_start = found.next_start
        return cycle, found.node

    # -- the binding cycle ---------------------------------------------------------------------------------------------------------

    async def _bind(self, binding: _Binding) -> None:
        pod, node = binding.cycle.pod, binding.node
        try:
            for plugin in self.framework.at("pre_bind"):
                await plugin.pre_bind(binding.cycle, node)
            await self._post_binding(pod, node)
        except (ApiError, ConnectionFailed) as error:
            await self._binding_failed(binding, error)
            return
        except Exception:
            self._give_up(binding)
            raise
        metrics.bound(self._clock.monotonic() - binding.began, binding.queued.attempts)
        self.queue.remove(pod.key)
        self._recorder.event(pod.pod, "Normal", "Scheduled", f"Successfully assigned {pod.key} to {node}")
        log.info("bound", pod=pod.key, node=node)

    async def _post_binding(self, pod: PodInfo, node: str) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await self._client.create(PODS, body, pod.namespace, name=pod.name, subresource="binding")

    async def _binding_failed(self, binding: _Binding, error: ApiError | ConnectionFailed) -> None:
        """Look what became of the pod: the write may have gone through although its answer was lost, or somebody else was faster."""
        pod = binding.cycle.pod
        try:
            current = await self._client.get(PODS, pod.name, pod.namespace)
        except ApiError as failed:
            self._give_up(binding)
            if failed.code == 404:
                self.queue.remove(pod.key)
            return
        except ConnectionFailed:
            self._give_up(binding)
            return
        if uid_of(current) != pod.uid or pods.node_of(current):
            self._give_up(binding)
            self.queue.remove(pod.key)
            if pods.node_of(current):
                self.cache.set_pod(current)
            return
        log.warning("binding was refused", pod=pod.key, node=binding.node, error=str(error))
        self._give_up(binding)

    def _give_up(self, binding: _Binding) -> None:
        self.cache.forget(binding.cycle.pod.uid)
        self.queue.back_off(binding.queued)

    async def _report_unschedulable(self, pod: Obj, error: FitError) -> None:
        """Say why on the pod and as an event; carry out a preemption that was decided."""
        message = str(error)
        self._recorder.event(pod, "Warning", "FailedScheduling", message)
        status = pod.get("status") or {}
        old = find_condition(status.get("conditions"), "PodScheduled") or {}
        nomination = error.nomination
        nominated = nomination.nominated if nomination else ""
        try:
            if (old.get("status"), old.get("message")) != ("False", message) or (
                nominated and status.get("nominatedNodeName") != nominated
            ):
                now = format_time(self._clock.now())
                condition = {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": message,
                    "lastProbeTime": None,
                    "lastTransitionTime": old.get("lastTransitionTime") if old.get("status") == "False" else now,
                }
                body: Obj = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [condition]}}
                if nominated:
                    body["status"]["nominatedNodeName"] = nominated
                await self._client.patch(
                    PODS, pod["metadata"]["name"], body, namespace_of(pod), patch_type="strategic", subresource="status"
                )
            for victim in nomination.victims if nomination else ():
                await self._evict(victim, pod)
        except ApiError as refused:
            if refused.code not in (404, 409):
                log.warning("cannot report on a pod", pod=key_of(pod), error=str(refused))
        except ConnectionFailed as failed:
            log.debug("cannot report on a pod", pod=key_of(pod), error=str(failed))

    async def _evict(self, victim: PodInfo, preemptor: Obj) -> None:
        if victim.is_terminating:
            return
        await self._client.delete(PODS, victim.name, victim.namespace, uid=victim.uid)
        message = f"Preempted by pod {uid_of(preemptor)} on node {pods.node_of(victim.pod)}"
        self._recorder.event(victim.pod, "Normal", "Preempted", message)

    # -- what the informers see ----------------------------------------------------------------------------------------------------

    def _on_node(self, change: Change) -> None:
        if change.new is None:
            self.cache.remove_node(change.obj["metadata"]["name"])
        else:
            self.cache.set_node(change.new)
            if change.old is None or _scheduling_view(change.old) != _scheduling_view(change.new):
                self._changed(ClusterChange("nodes", "add" if change.old is None else "update", change.old, change.new))

    def _on_pod(self, change: Change) -> None:
        pod = change.obj
        if change.new is None:
            self.queue.remove(key_of(pod))
            had_room = self.cache.is_placed(uid_of(pod))
            self.cache.remove_pod(uid_of(pod))
            if had_room:
                self._changed(ClusterChange("pods", "delete", pod, None))
        elif pods.node_of(pod):
            self.queue.remove(key_of(pod))
            self.cache.set_pod(pod)
            self._changed(ClusterChange("pods", "update" if change.old is not None else "add", change.old, pod))
        elif spec_of(pod).get(
            "schedulerName", self._config.scheduler_name
        ) == self._config.scheduler_name and not pods.is_terminal(pod):
            self.queue.update(pod)

    def _on_other(self, resource: str) -> Callable[[Change], None]:
        def handler(change: Change) -> None:
            self._changed(ClusterChange(resource, change.type, change.old, change.new))

        return handler

    def _changed(self, change: ClusterChange) -> None:
        self.queue.cluster_changed(lambda queued: self.framework.may_cure(change, queued.pod, queued.plugins))

    def _namespace_labels(self) -> Mapping[str, Mapping[str, str]]:
        return {namespace["metadata"]["name"]: labels_of(namespace) for namespace in self._namespaces.store}

    def _default_selector(self, pod: Obj) -> Selector | None:
        """What the Services that select `pod` and the controller that owns it select, together; None where that is nothing."""
        labels, namespace = labels_of(pod), namespace_of(pod)
        merged: dict[str, str] = {}
        for service in self._services.store.in_namespace(namespace):
            selector = spec_of(service).get("selector")
            if selector and from_labels(selector).matches(labels):
                merged.update(selector)
        requirements = from_labels(merged).requirements
        owner = controller_of(pod)
        informer = self._owners.get(owner["kind"]) if owner else None
        found = informer.store.get(owner["name"], namespace) if informer and owner else None
        if found is not None:
            selector = spec_of(found).get("selector") or {}
            parsed = from_labels(selector) if owner and owner["kind"] == "ReplicationController" else from_selector(selector)
            requirements = (*requirements, *parsed.requirements)
        return Selector(requirements) if requirements else None


def _scheduling_view(node: Obj) -> tuple[object, ...]:
    """What of a node can make a difference to scheduling: heartbeats do not."""
    status, spec = node.get("status") or {}, node.get("spec") or {}
    conditions = [(each.get("type"), each.get("status")) for each in status.get("conditions") or []]
    return (labels_of(node), spec.get("taints"), spec.get("unschedulable"), status.get("allocatable"), conditions)
