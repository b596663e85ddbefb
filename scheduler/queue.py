"""Whose turn it is.

Four places: *active* (in the order of the profile's sorting plugin), *back-off* (tried lately, waits 1 s doubling to 10 s), *unschedulable* (waits for a
change in the cluster that may help, or for five minutes), and *gated* (not to be tried at all until the pod itself changes; no event looks at these).

A change in the cluster may come while a pod is being tried, after its attempt looked at what changed. Such changes are kept for as long as pods are in
flight, and are looked at again when an attempt ends without success (KEP-4247).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kubeling.api.meta import key_of
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.tasks import run_until
from kubeling.scheduler.nodeinfo import Obj
from kubeling.scheduler.types import ClusterChange

INITIAL_BACKOFF = 1.0
MAX_BACKOFF = 10.0
UNSCHEDULABLE_SECONDS = 300.0
#: Changes that are kept for pods in flight; with more than these in between a pod is simply tried again.
MAX_EVENTS = 4096


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

    @property
    def created(self) -> str:
        return str(self.pod["metadata"].get("creationTimestamp") or "")


def by_priority(queued: QueuedPod) -> Any:
    """The order where no profile says otherwise."""
    return (-queued.priority, queued.since)


class SchedulingQueue:
    """Use it from one event loop.

    `gated` says whether a pod may not be tried at all, `may_cure` whether a change may make the rejections by these plugins go away, `sort_key` whose turn
    is first.
    """

    def __init__(
        self,
        gated: Callable[[Obj], bool] = lambda _pod: False,
        may_cure: Callable[[ClusterChange, QueuedPod], bool] = lambda _change, _queued: True,
        *,
        sort_key: Callable[[QueuedPod], Any] = by_priority,
        initial_backoff: float = INITIAL_BACKOFF,
        max_backoff: float = MAX_BACKOFF,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._is_gated, self._may_cure, self._sort_key = gated, may_cure, sort_key
        self._initial, self._max = initial_backoff, max_backoff
        self._order = itertools.count()
        self._pods: dict[str, QueuedPod] = {}
        self._active: list[tuple[Any, int, str, int]] = []
        self._waiting: list[tuple[float, int, str, int]] = []
        self._parked: set[str] = set()
        self._gated: set[str] = set()
        #: Pods that are being tried, with the number of the first change that they did not see.
        self._in_flight: dict[str, int] = {}
        self._events: deque[ClusterChange] = deque()
        self._first_event = 0
        self._wake = asyncio.Event()

    def __contains__(self, key: str) -> bool:
        return key in self._pods

    def counts(self) -> dict[str, int]:
        """How many pods wait where, for the metrics."""
        live = sum(1 for _, _, key, version in self._active if self._is_live(key, version))
        backing_off = sum(1 for _, _, key, version in self._waiting if self._is_live(key, version) and key not in self._parked)
        return {"active": live, "backoff": backing_off, "unschedulable": len(self._parked), "gated": len(self._gated)}

    # -- pods ----------------------------------------------------------------------------------------------------------------------

    def add(self, pod: Obj) -> None:
        """A pod without a node appeared."""
        key = key_of(pod)
        known = self._pods.get(key)
        if known is not None and known.pod["metadata"].get("uid") == pod["metadata"].get("uid"):
            self.update(pod)
            return
        if known is not None:
            self.remove(key)
        self._pods[key] = QueuedPod(pod, self._clock.monotonic())
        self._enter(self._pods[key])

    def update(self, pod: Obj) -> None:
        """It changed; an unschedulable one whose spec, labels or gates changed gets another chance."""
        queued = self._pods.get(key_of(pod))
        if queued is None or queued.pod["metadata"].get("uid") != pod["metadata"].get("uid"):
            self.add(pod)
            return
        old, queued.pod = queued.pod, pod
        changed = old["spec"] != pod["spec"] or old["metadata"].get("labels") != pod["metadata"].get("labels")
        if queued.key in self._gated:
            if not self._is_gated(pod):
                self._gated.discard(queued.key)
                self._enter(queued)
        elif queued.key in self._parked and changed:
            self._release(queued)

    def remove(self, key: str) -> None:
        """It is gone, or has a node."""
        self._pods.pop(key, None)
        self._parked.discard(key)
        self._gated.discard(key)
        self._landed(key)

    async def pop(self) -> QueuedPod:
        """The next pod to try; it stays known until :meth:`remove`, :meth:`back_off` or :meth:`park`."""
        while True:
            self._ripen()
            while self._active:
                _, _, key, version = heapq.heappop(self._active)
                if self._is_live(key, version):
                    queued = self._pods[key]
                    queued.version += 1
                    queued.attempts += 1
                    queued.tried_at = self._clock.monotonic()
                    self._in_flight[key] = self._first_event + len(self._events)
                    return queued
            self._wake.clear()
            await self._sleep_until_ripe()

    def back_off(self, queued: QueuedPod) -> None:
        """The attempt failed through no fault of the pod: try again after its back-off."""
        self._landed(queued.key)
        if self._pods.get(queued.key) is queued:
            self._wait(queued, queued.tried_at + self._backoff_of(queued.attempts))

    def park(self, queued: QueuedPod, plugins: frozenset[str]) -> None:
        """No node fits: wait until something changes that may cure the rejection by `plugins`."""
        missed = self._missed(queued.key)
        self._landed(queued.key)
        if self._pods.get(queued.key) is not queued:
            return
        queued.plugins = plugins
        self._parked.add(queued.key)
        self._push_waiting(queued, self._clock.monotonic() + UNSCHEDULABLE_SECONDS)
        if missed is None or any(self._may_cure(change, queued) for change in missed):
            self._release(queued)

    def activate(self, key: str) -> None:
        """Give one pod another chance, whatever it waits for."""
        if key in self._parked:
            self._release(self._pods[key])

    # -- changes in the cluster ----------------------------------------------------------------------------------------------------

    def cluster_changed(self, change: ClusterChange, besides: str = "") -> None:
        """Give the unschedulable pods that `change` may help another chance, after what is left of their back-off; not the one whose doing it is."""
        if self._in_flight:
            self._events.append(change)
            if len(self._events) > MAX_EVENTS:
                self._events.popleft()
                self._first_event += 1
        for key in [key for key in self._parked if key != besides and self._may_cure(change, self._pods[key])]:
            self._release(self._pods[key])

    def _missed(self, key: str) -> list[ClusterChange] | None:
        """What changed since the pod was popped; None where that is not known any more."""
        since = self._in_flight.get(key)
        if since is None:
            return []
        if since < self._first_event:
            return None
        return list(itertools.islice(self._events, since - self._first_event, None))

    def _landed(self, key: str) -> None:
        self._in_flight.pop(key, None)
        if not self._in_flight:
            self._first_event += len(self._events)
            self._events.clear()

    # -- places --------------------------------------------------------------------------------------------------------------------

    def _enter(self, queued: QueuedPod) -> None:
        if self._is_gated(queued.pod):
            self._gated.add(queued.key)
            return
        queued.version += 1
        heapq.heappush(self._active, (self._sort_key(queued), next(self._order), queued.key, queued.version))
        self._wake.set()

    def _release(self, queued: QueuedPod) -> None:
        self._parked.discard(queued.key)
        ripe = queued.tried_at + self._backoff_of(queued.attempts) if queued.attempts else 0.0
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
        await run_until(self._wake, self._clock.sleep(max(0.0, self._waiting[0][0] - self._clock.monotonic())))

    def _is_live(self, key: str, version: int) -> bool:
        queued = self._pods.get(key)
        return queued is not None and queued.version == version

    def _backoff_of(self, attempts: int) -> float:
        return backoff_of(attempts, self._initial, self._max)


def backoff_of(attempts: int, initial: float = INITIAL_BACKOFF, highest: float = MAX_BACKOFF) -> float:
    """Seconds between the last attempt and the next."""
    return float(min(highest, initial * 2 ** min(max(attempts - 1, 0), 16)))
