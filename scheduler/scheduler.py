"""The scheduler itself: informers in, bindings out.

Correct with two of them at work: a binding is a compare-and-set at the apiserver (a pod that has a node already refuses another), and what was assumed
here is given up when that fails. Nothing rests on being the leader.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from kubeling.api import pods
from kubeling.api.errors import ApiError
from kubeling.api.meta import key_of, spec_of, uid_of
from kubeling.api.resources import PODS
from kubeling.api.times import format_time
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor
from kubeling.scheduler import metrics
from kubeling.scheduler.algorithm import Decision, decide
from kubeling.scheduler.binding import Binder, Placement
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.cluster import ClusterView
from kubeling.scheduler.config import SchedulerConfig, build
from kubeling.scheduler.explain import Explanations, now, record, render
from kubeling.scheduler.extender import Extender, ExtenderFailed
from kubeling.scheduler.framework import Framework
from kubeling.scheduler.handle import Handle
from kubeling.scheduler.nodeinfo import Obj, PodInfo
from kubeling.scheduler.queue import QueuedPod, SchedulingQueue
from kubeling.scheduler.report import Reporter
from kubeling.scheduler.types import Cycle, Rejection
from kubeling.scheduler.verdicts import FitError

log = get_logger("scheduler")

#: Bindings and reports on their way to the apiserver at once.
MAX_IN_FLIGHT = 64
#: Pods that wait at *permit* hold no place among those, but there is an end to them too.
MAX_WAITING = 10_000
#: How often assumed pods are looked through for expired ones (seconds).
EXPIRY_PERIOD = 30.0


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
        may_bind: Callable[[], bool] = lambda: True,
        bind_seconds: float | None = None,
    ) -> None:
        """`may_bind` and `bind_seconds`: see :class:`Handle`; a scheduler that leads by a lease passes them."""
        config = config or SchedulerConfig()
        self._client, self._informers, self._rand = client, informers, rand
        self._clock = clock or SystemClock()
        self.view = ClusterView(informers)
        self.cache = Cache(spaces=self.view.namespace_labels)
        self.handle = Handle(
            namespace_labels=self.view.namespace_labels,
            default_selector=self.view.default_selector,
            get_claim=self.view.get_claim,
            get_volume=self.view.get_volume,
            volumes=self.view.volumes,
            get_class=self.view.get_class,
            get_csi_node=self.view.get_csi_node,
            claims_until=self.view.claims_until,
            budgets=self.view.budgets,
            pods=self.view.pods,
            is_placed=self.cache.is_placed,
            rand=rand,
            client=client,
            may_bind=may_bind,
            bind_seconds=bind_seconds,
        )
        self.frameworks = {profile.name: build(profile, self.handle) for profile in config.profiles}
        self.extenders = [Extender(each) for each in config.extenders]
        first = next(iter(self.frameworks.values()))
        self.queue = SchedulingQueue(
            lambda pod: self._framework(pod).gate(pod) is not None,
            lambda change, queued: self._framework(queued.pod).may_cure(change, queued.pod, queued.plugins),
            sort_key=first.at("sort_key")[0].sort_key,
            initial_backoff=config.initial_backoff,
            max_backoff=config.max_backoff,
            clock=self._clock,
        )
        self.explanations = Explanations()
        self._starts = dict.fromkeys(self.frameworks, 0)
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._reporter = Reporter(client, recorder, self.cache, self.queue, self._clock)
        self._binder = Binder(client, recorder, self.cache, self.queue, self.handle, self._slots, self._clock)
        self.view.connect(self.cache, self.queue, self._is_mine, self.explanations.drop)
        metrics.watch_queue(self.queue.counts)

    def _is_mine(self, pod: Obj) -> bool:
        return self._name_of(pod) in self.frameworks

    def _framework(self, pod: Obj) -> Framework:
        return self.frameworks[self._name_of(pod)]

    @staticmethod
    def _name_of(pod: Obj) -> str:
        return str(spec_of(pod).get("schedulerName") or "default-scheduler")

    async def run(self) -> None:
        """Schedule until cancelled."""
        await self._informers.wait_synced()
        await self._catch_up()
        async with Supervisor(self._clock) as parts:
            parts.start("expiry of assumed pods", self._expire)
            while True:
                queued = await self.queue.pop()
                await self._slots.acquire()
                if self.extenders:
                    parts.spawn(self._finish(self._attempt_with_extenders(queued), queued.key), f"try {queued.key}")
                    continue
                aftermath = self._attempt(queued)
                if aftermath is None:
                    self._slots.release()
                else:
                    parts.spawn(self._finish(aftermath, queued.key), f"finish {queued.key}")
                await asyncio.sleep(0)  # Lets the watches run between two cycles.

    async def _catch_up(self) -> None:
        """See every binding that a predecessor made: informers start from a server's cache, which may be behind."""
        while True:
            try:
                listed = await self._client.list(PODS)
                break
            except (ApiError, ConnectionFailed) as error:
                log.warning("cannot read the pods", error=str(error))
                await self._clock.sleep(1)
        for pod in listed.get("items") or ():
            if pods.node_of(pod) and not self.cache.is_placed(uid_of(pod)):
                self.queue.remove(key_of(pod))
                self.cache.set_pod({"apiVersion": "v1", "kind": "Pod", **pod})

    async def _expire(self) -> None:
        while True:
            await self._clock.sleep(EXPIRY_PERIOD)
            for uid in self.cache.expire(self._clock.monotonic()):
                log.warning("a binding was never seen, its pod no longer counts", uid=uid)

    async def _finish(self, aftermath: Coroutine[Any, Any, None], key: str) -> None:
        """What follows a cycle at the apiserver. It frees its slot whatever happens, and never takes the scheduler down."""
        try:
            await aftermath
        except Exception:
            log.exception("what followed a cycle failed", pod=key)
        finally:
            self._slots.release()

    # -- one attempt ---------------------------------------------------------------------------------------------------------------

    def _attempt(self, queued: QueuedPod, opinion: _Opinion | None = None) -> Coroutine[Any, Any, None] | None:
        """One cycle. Returns what is left to do at the apiserver, None for nothing."""
        pod = queued.pod
        if pod["metadata"].get("deletionTimestamp") or self.cache.is_placed(uid_of(pod)):
            self.queue.remove(queued.key)
            return None
        framework = self._framework(pod)
        began = self._clock.monotonic()
        try:
            cycle, found = self.decide(PodInfo(pod), opinion)
            rejection = self._take(framework, cycle, found.node)
            if isinstance(rejection, Rejection):
                raise FitError(len(cycle.nodes), prefilter=rejection)
        except FitError as error:
            metrics.attempt("unschedulable", self._clock.monotonic() - began, framework.scheduler_name)
            return self._unschedulable(queued, error)
        except Exception:
            metrics.attempt("error", self._clock.monotonic() - began, framework.scheduler_name)
            log.exception("a cycle failed", pod=queued.key)
            self.queue.back_off(queued)
            return None
        metrics.attempt("scheduled", self._clock.monotonic() - began, framework.scheduler_name)
        return self._binder.bind(
            Placement(framework, cycle, found.node, queued, began, rejection, self._extender_that_binds(pod))
        )

    def _unschedulable(self, queued: QueuedPod, error: FitError) -> Coroutine[Any, Any, None]:
        log.debug("no node fits", pod=queued.key, why=str(error))
        nomination = error.nomination
        if nomination is not None and nomination.nominated:
            # Upstream takes back what lower-priority pods were promised there: they might never fit now.
            info = PodInfo(queued.pod)
            for other in list(self.cache.nominated.get(nomination.nominated, {}).values()):
                if other.priority < info.priority:
                    self.cache.nominate(other.uid, None)
                    self.queue.activate(other.key)
            self.cache.nominate(info.uid, info, nomination.nominated)
        elif nomination is not None and not nomination.keeps:
            self.cache.nominate(uid_of(queued.pod), None)
        self.queue.park(queued, error.plugins)
        return self._reporter.unschedulable(queued.pod, error)

    def _take(self, framework: Framework, cycle: Cycle, node: str) -> Rejection | dict[str, float]:
        """Assume, *reserve* and ask *permit*: a rejection, or the plugins that want the pod to wait, with for how long."""
        self.cache.assume(cycle.pod, node)
        waits: dict[str, float] = {}
        refused: Rejection | None = None
        for plugin in framework.at("reserve"):
            refused = plugin.reserve(cycle, node)
            if refused is not None:
                refused = refused.by(plugin.name)
                break
        else:
            for plugin in framework.at("permit"):
                said = plugin.permit(cycle, node)
                if isinstance(said, Rejection):
                    refused = said.by(plugin.name)
                    break
                if said is not None:
                    waits[plugin.name] = said
        if refused is None and waits and len(self.handle.waiting) >= MAX_WAITING:
            refused = Rejection.of("too many pods wait for permission already")
        if refused is not None:
            framework.unreserve(cycle, node)
            self.cache.forget(cycle.pod.uid)
            return refused
        return waits

    def decide(self, pod: PodInfo, opinion: _Opinion | None = None) -> tuple[Cycle, Decision]:
        """The best node for `pod` as things stand. Raises FitError where none fits. Changes nothing."""
        framework = self._framework(pod.pod)
        cycle = self.cache.cycle(pod)
        at = format_time(self._clock.now())
        try:
            found = decide(
                framework,
                cycle,
                start=self._starts[framework.scheduler_name],
                rand=self._rand,
                allowed=opinion.allowed if opinion else None,
                bonus=opinion.scores if opinion else None,
            )
        except FitError as error:
            framework.cure(cycle, error)
            self.explanations.put(record(cycle, error, at))
            raise
        self.explanations.put(record(cycle, found, at))
        self._starts[framework.scheduler_name] = found.next_start
        return cycle, found

    def explain(self, namespace: str, name: str, *, limit: int, node: str = "") -> Obj | None:
        """The explanation of a pod's latest attempt, or of one made now; None where the pod is not known or not ours."""
        pod = self.view.get_pod(namespace, name)
        if pod is None or not self._is_mine(pod):
            return None
        framework = self._framework(pod)
        found = self.explanations.get(uid_of(pod))
        if found is not None:
            return render(found, framework, recorded=True, limit=limit, only=node)
        info = PodInfo({**pod, "spec": {each: value for each, value in pod["spec"].items() if each != "nodeName"}})
        found = now(framework, self.cache.cycle(info), format_time(self._clock.now()), self._rand)
        return render(found, framework, recorded=False, limit=limit, only=node)

    # -- extenders -----------------------------------------------------------------------------------------------------------------

    async def _attempt_with_extenders(self, queued: QueuedPod) -> None:
        """Ask the extenders about what fits now, then decide in a cycle of its own: while they were asked the cluster may have changed."""
        opinion: _Opinion | None = None
        interested = [each for each in self.extenders if each.is_interested(queued.pod)]
        try:
            if interested:
                opinion = await self._ask(queued.pod, interested)
        except ExtenderFailed as failed:
            log.warning("an extender failed", pod=queued.key, error=str(failed))
            self.queue.back_off(queued)
            return
        except FitError:
            opinion = None  # Nothing fits anyway: the cycle says so itself.
        except Exception:
            log.exception("asking extenders failed", pod=queued.key)
            self.queue.back_off(queued)
            return
        aftermath = self._attempt(queued, opinion)
        if aftermath is not None:
            await aftermath

    async def _ask(self, pod: Obj, extenders: list[Extender]) -> _Opinion:
        framework, info = self._framework(pod), PodInfo(pod)
        cycle = self.cache.cycle(info)
        found = framework.feasible(cycle, enough=max(len(cycle.nodes), 1))
        names = [node.name for node in found.nodes]
        refused: dict[str, Rejection] = {}
        for extender in extenders:
            names, more = await extender.filter(pod, names, lambda name: self.cache.nodes[name].node)
            refused |= more
        scores: dict[str, int] = {}
        for extender in extenders:
            for name, score in (await extender.prioritize(pod, names, lambda name: self.cache.nodes[name].node)).items():
                scores[name] = scores.get(name, 0) + score
        return _Opinion((frozenset(names), refused), scores)

    def _extender_that_binds(self, pod: Obj) -> Extender | None:
        return next((each for each in self.extenders if each.binds and each.is_interested(pod)), None)


@dataclass(frozen=True, slots=True)
class _Opinion:
    """What extenders said: the nodes that they leave with their reasons for the others, and what they add to the scores."""

    allowed: tuple[frozenset[str], dict[str, Rejection]]
    scores: dict[str, int]
