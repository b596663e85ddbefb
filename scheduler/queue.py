"""Whose turn it is.

Three places: *active* (highest priority first, then the one that waits longest), *back-off* (tried lately, waits 1 s doubling to 10 s), and
*unschedulable* (waits for a change in the cluster that may help, or for five minutes). Gated pods wait outside all three until they change.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from kubeling.api.meta import key_of
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.scheduler.nodeinfo import Obj

INITIAL_BACKOFF = 1.0
MAX_BACKOFF = 10.0
UNSCHEDULABLE_SECONDS = 300.0


@dataclass(slots=True)
class QueuedPod:
    """A pod that waits. `plugins` are those that rejected it last."""

    pod: Obj
    since: float
    attempts: int = 0
    tried_at: float = 0.0
    plugins: frozenset[str] = field(default_factory=frozenset)
    #: Raised whenever the entry moves, so that stale heap entries are told from live ones.
    version: int = 0

    @property
    def key(self) -> str:
        return key_of(self.pod)

    @property
    def priority(self) -> int:
        return int((self.pod.get("spec") or {}).get("priority") or 0)


class SchedulingQueue:
    """Use it from one event loop. `gated` says whether a pod may not be tried at all (scheduling gates)."""

    def __init__(self, gated: Callable[[Obj], bool] = lambda _pod: False, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._gated = gated
        self._order = itertools.count()
        self._pods: dict[str, QueuedPod] = {}
        self._active: list[tuple[int, float, int, str, int]] = []
        self._waiting: list[tuple[float, int, str, int]] = []
        self._parked: set[str] = set()
        self._wake = asyncio.Event()

    def __contains__(self, key: str) -> bool:
        return key in self._pods

    def counts(self) -> dict[str, int]:
        """How many pods wait where, for the metrics."""
        live = sum(1 for _, _, _, key, version in self._active if self._is_live(key, version))
        backing_off = sum(1 for _, _, key, version in self._waiting if self._is_live(key, version) and key not in self._parked)
        return {"active": live, "backoff": backing_off, "unschedulable": len(self._parked)}

    def add(self, pod: Obj) -> None:
        """A pod without a node appeared."""
        key = key_of(pod)
        if key in self._pods:
            self.update(pod)
            return
        self._pods[key] = QueuedPod(pod, self._clock.monotonic())
        self._enter(self._pods[key])

    def update(self, pod: Obj) -> None:
        """It changed; an unschedulable one whose spec, labels or gates changed gets another chance."""
        queued = self._pods.get(key_of(pod))
        if queued is None:
            self.add(pod)
            return
        old, queued.pod = queued.pod, pod
        if queued.key in self._parked and (
            old["spec"] != pod["spec"] or old["metadata"].get("labels") != pod["metadata"].get("labels")
        ):
            self._release(queued)

    def remove(self, key: str) -> None:
        """It is gone, or has a node."""
        self._pods.pop(key, None)
        self._parked.discard(key)

    async def pop(self) -> QueuedPod:
        """The next pod to try; it stays known until :meth:`remove`, :meth:`back_off` or :meth:`park`."""
        while True:
            self._ripen()
            while self._active:
                _, _, _, key, version = heapq.heappop(self._active)
                if self._is_live(key, version):
                    queued = self._pods[key]
                    queued.version += 1
                    queued.attempts += 1
                    queued.tried_at = self._clock.monotonic()
                    return queued
            self._wake.clear()
            await self._sleep_until_ripe()

    def back_off(self, queued: QueuedPod) -> None:
        """The attempt failed through no fault of the pod: try again after its back-off."""
        if self._pods.get(queued.key) is queued:
            self._wait(queued, queued.tried_at + backoff_of(queued.attempts))

    def park(self, queued: QueuedPod, plugins: frozenset[str]) -> None:
        """No node fits: wait until something changes that may cure the rejection by `plugins`."""
        if self._pods.get(queued.key) is queued:
            queued.plugins = plugins
            self._parked.add(queued.key)
            self._push_waiting(queued, self._clock.monotonic() + UNSCHEDULABLE_SECONDS)

    def cluster_changed(self, may_cure: Callable[[QueuedPod], bool]) -> None:
        """Give the unschedulable pods for which `may_cure` holds another chance, after what is left of their back-off."""
        for key in [key for key in self._parked if may_cure(self._pods[key])]:
            self._release(self._pods[key])

    def _enter(self, queued: QueuedPod) -> None:
        if self._gated(queued.pod):
            self._parked.add(queued.key)
            queued.plugins = frozenset({"SchedulingGates"})
            return
        queued.version += 1
        heapq.heappush(self._active, (-queued.priority, queued.since, next(self._order), queued.key, queued.version))
        self._wake.set()

    def _release(self, queued: QueuedPod) -> None:
        self._parked.discard(queued.key)
        ripe = queued.tried_at + backoff_of(queued.attempts) if queued.attempts else 0.0
        if ripe <= self._clock.monotonic():
            self._enter(queued)
        else:
            self._wait(queued, ripe)

    def _wait(self, queued: QueuedPod, until: float) -> None:
        self._parked.discard(queued.key)
        self._push_waiting(queued, until)

    def _push_waiting(self, queued: QueuedPod, until: float) -> None:
        queued.version += 1
        heapq.heappush(self._waiting, (until, next(self._order), queued.key, queued.version))
        self._wake.set()

    def _ripen(self) -> None:
        now = self._clock.monotonic()
        while self._waiting and (self._waiting[0][0] <= now or not self._is_live(self._waiting[0][2], self._waiting[0][3])):
            _, _, key, version = heapq.heappop(self._waiting)
            if self._is_live(key, version):
                self._parked.discard(key)
                self._enter(self._pods[key])

    async def _sleep_until_ripe(self) -> None:
        if not self._waiting:
            await self._wake.wait()
            return
        waker = asyncio.ensure_future(self._clock.sleep(max(0.0, self._waiting[0][0] - self._clock.monotonic())))
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({waker, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waker.cancel()
            woken.cancel()

    def _is_live(self, key: str, version: int) -> bool:
        queued = self._pods.get(key)
        return queued is not None and queued.version == version


def backoff_of(attempts: int) -> float:
    """Seconds between the last attempt and the next."""
    return float(min(MAX_BACKOFF, INITIAL_BACKOFF * 2 ** min(max(attempts - 1, 0), 16)))
