"""The binding cycle: what follows a decision at the apiserver, many at a time, while the next pods are being decided.

Wait for permission, *pre_bind*, *bind*, *post_bind*. Whatever fails, the pod's room is given back, its plugins are told (*unreserve*), and what really
became of the pod is looked up: the write may have gone through although its answer was lost, or somebody else was faster.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kubeling.api import pods
from kubeling.api.errors import ApiError
from kubeling.api.meta import uid_of
from kubeling.api.resources import PODS
from kubeling.client.events import EventRecorder
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.scheduler import metrics
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.extender import Extender, ExtenderFailed
from kubeling.scheduler.framework import Framework
from kubeling.scheduler.handle import Handle, WaitingPod
from kubeling.scheduler.queue import QueuedPod, SchedulingQueue
from kubeling.scheduler.types import ClusterChange, Cycle

log = get_logger("scheduler")


class NotPermitted(Exception):
    """A plugin took its permission back, or did not give it in time."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A decision to be carried out. `waits`: plugin → seconds for which it may hold the pod at most."""

    framework: Framework
    cycle: Cycle
    node: str
    queued: QueuedPod
    began: float
    waits: dict[str, float]
    extender: Extender | None = None


class Binder:
    """Carries out placements."""

    def __init__(
        self,
        client: Client,
        recorder: EventRecorder,
        cache: Cache,
        queue: SchedulingQueue,
        handle: Handle,
        slots: asyncio.Semaphore,
        clock: Clock,
    ) -> None:
        self._client, self._recorder, self._cache, self._queue = client, recorder, cache, queue
        self._handle, self._slots, self._clock = handle, slots, clock

    async def bind(self, placement: Placement) -> None:
        """All of it. The caller holds one of the slots; while the pod waits for permission somebody else may have it."""
        framework, cycle, node, pod = placement.framework, placement.cycle, placement.node, placement.cycle.pod
        try:
            if placement.waits:
                await self._wait(placement)
            if cycle.slow:
                self._slots.release()
            try:
                for plugin in framework.at("pre_bind"):
                    await plugin.pre_bind(cycle, node)
            finally:
                if cycle.slow:
                    await self._slots.acquire()
            if not self._handle.may_bind():
                raise NotPermitted("the lease may be somebody else's by now")
            async with asyncio.timeout(self._handle.bind_seconds):
                await self._bind(placement)
        except (ApiError, ConnectionFailed, ExtenderFailed, TimeoutError) as error:
            await self._failed(placement, error)
            return
        except NotPermitted as refused:
            log.info("permission was refused", pod=pod.key, node=node, why=str(refused))
            self._give_up(placement, park=frozenset(placement.waits))
            return
        except BaseException:
            self._give_up(placement)
            raise
        self._cache.bound(pod.uid, self._clock.monotonic())
        self._queue.remove(pod.key)
        metrics.bound(self._clock.monotonic() - placement.began, placement.queued.attempts)
        self._recorder.event(pod.pod, "Normal", "Scheduled", f"Successfully assigned {pod.key} to {node}")
        log.info("bound", pod=pod.key, node=node)
        for plugin in framework.at("post_bind"):
            await plugin.post_bind(cycle, node)

    async def _bind(self, placement: Placement) -> None:
        if placement.extender is not None:
            await placement.extender.bind(placement.cycle.pod, placement.node)
            return
        for plugin in placement.framework.at("bind"):
            if await plugin.bind(placement.cycle, placement.node):
                return

    async def _wait(self, placement: Placement) -> None:
        pod = placement.cycle.pod
        waiting = self._handle.waiting[pod.uid] = WaitingPod(placement.cycle, placement.node, placement.waits)
        self._slots.release()
        timer = asyncio.ensure_future(self._clock.sleep(min(placement.waits.values())))
        timer.add_done_callback(
            lambda done: None if done.cancelled() else waiting.reject("the time to wait for permission is over")
        )
        try:
            refusal = await waiting.wait()
        finally:
            timer.cancel()
            self._handle.waiting.pop(pod.uid, None)
            await self._slots.acquire()
        if refusal:
            raise NotPermitted(refusal)

    async def _failed(self, placement: Placement, error: Exception) -> None:
        pod = placement.cycle.pod
        try:
            current = await self._client.get(PODS, pod.name, pod.namespace)
        except ApiError as failed:
            self._give_up(placement)
            if failed.code == 404:
                self._queue.remove(pod.key)
            return
        except ConnectionFailed:
            self._give_up(placement)
            return
        if uid_of(current) != pod.uid or pods.node_of(current):
            self._give_up(placement)
            if uid_of(current) == pod.uid:
                self._queue.remove(pod.key)
                self._cache.set_pod(current)
            return
        log.warning("binding was refused", pod=pod.key, node=placement.node, error=str(error))
        self._give_up(placement)

    def _give_up(self, placement: Placement, park: frozenset[str] | None = None) -> None:
        """Give the room back, tell the plugins, and let others know that there is room."""
        uid = placement.cycle.pod.uid
        placement.framework.unreserve(placement.cycle, placement.node)
        if park is None:
            self._queue.back_off(placement.queued)
        else:
            self._queue.park(placement.queued, park)
        if self._cache.is_assumed(uid):
            self._cache.forget(uid)
            self._queue.cluster_changed(
                ClusterChange("pods", "delete", placement.cycle.pod.pod, None), besides=placement.queued.key
            )
