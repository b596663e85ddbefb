"""The one watch on the store that feeds every cache.

It covers the whole key space, so every revision passes through it, whoever made it; a cache is known to be as new as revision N as soon as the hub has
seen N. That makes consistent reads from memory possible without progress notifications: read the store's revision, wait until the hub is there.
Caches subscribe by key prefix and load themselves when first used; what nobody uses is not kept. The hub does keep the latest changes of everything, for a
while and within bounds: a cache loads the state as of their beginning and replays them, so that clients can resume from before the load. For the same reason the
watch begins somewhat in the past: a client of a server that was started anew goes on where it was.

When the stream breaks it is resumed from the revision after the last one seen, on another member; when that revision is compacted away, every cache starts
afresh. While no member can be watched, nothing new is known here: after some seconds the clients' watches are ended, so that those who know of another
apiserver go there, and new ones are refused until the store is back.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from kubeling.apiserver.storage.errors import StoreError
from kubeling.apiserver.storage.kv import KV
from kubeling.apiserver.storage.rpc import Messages, RpcError
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.proto import etcd_pb2 as pb

log = get_logger("hub")

_EVERYTHING = b"\0"
#: How far back the watch begins, in revisions.
HISTORY_REVISIONS = 1000
#: So long without a watch on the store, and clients had better ask another apiserver.
LOST_SECONDS = 5.0
#: Bounds of what is kept of all changes.
_RECENT_MIN, _RECENT_MAX, _RECENT_BYTES, _RECENT_SECONDS = 1000, 5000, 8 << 20, 75.0


class Subscriber(Protocol):
    """What the hub calls, in revision order, from one task."""

    def apply(self, events: Sequence[Any]) -> None:
        """mvccpb events under the subscriber's prefix."""

    def flush(self) -> None:
        """The events of one response are all applied: wake the watchers."""

    def reset(self) -> None:
        """History was lost: what is held may be out of date."""

    def cut_off(self) -> None:
        """The store is out of reach: end the watches of clients."""


class Hub:
    """Run :meth:`run` as a task; :attr:`revision` grows as the store's changes come in."""

    def __init__(self, kv: KV, clock: Clock) -> None:
        self._kv = kv
        self._clock = clock
        self._subscribers: dict[str, Subscriber] = {}
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._revision = 0
        #: The store's revision when the watch began: before that is reached, nothing is served.
        self.target = 0
        self._recent: deque[tuple[Any, str, float]] = deque()
        self._recent_bytes = 0
        self._recent_start = 0
        self.connected = asyncio.Event()
        #: Since when the watch is broken, where there was one; and whether that is so long that nobody should watch here.
        self._broken_at: float | None = None
        self.lost = False
        self._stream: Messages | None = None
        self._suspected = False

    @property
    def revision(self) -> int:
        """Everything up to here has been handed to the subscribers."""
        return self._revision

    @property
    def recent_start(self) -> int:
        """All changes after this revision are still known."""
        return self._recent_start

    def since(self, prefix: str, revision: int) -> list[Any] | None:
        """The changes under `prefix` after `revision`, None where they are not all known any more."""
        if revision < self._recent_start:
            return None
        return [event for event, each, _ in self._recent if each == prefix and event.kv.mod_revision > revision]

    def subscribe(self, prefix: str, subscriber: Subscriber) -> None:
        """Events whose key begins with `prefix` (`/registry/pods/`) go to `subscriber` from the next response on."""
        self._subscribers[prefix] = subscriber

    def unsubscribe(self, prefix: str) -> None:
        """The kind is gone."""
        self._subscribers.pop(prefix, None)

    async def wait_for(self, revision: int, seconds: float) -> bool:
        """Until the hub has seen `revision`; False after `seconds`."""
        if self._revision >= revision:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (revision, next(self._order), future))
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            await self._suspect(revision)
            return False
        return True

    async def _suspect(self, revision: int) -> None:
        """Has the store come to a revision that the watch has not brought? Then the member behind it may be cut off from the others: watch at another.

        It is asked first: a client may name a version that there is not yet, and somebody may wait for the next change when nothing changes.
        """
        stream = self._stream
        if stream is None or not self.connected.is_set():
            return
        try:
            late = await self._kv.revision() >= revision
        except (StoreError, RpcError):
            late = True
        if late and self._revision < revision and stream is self._stream:
            self._suspected = True
            stream.cancel()

    async def run(self) -> None:
        """Watch for ever."""
        backoff = Backoff(base=0.05, limit=2)
        while True:
            endpoint = self._kv.client.endpoint
            try:
                if not self.target:
                    self.target = await self._kv.revision()
                    # A store begins, empty, with revision 1.
                    self._revision = self._recent_start = max(1, self.target - HISTORY_REVISIONS)
                await self._follow(endpoint, backoff)
            except RpcError as error:
                if self._suspected:
                    log.warning("the watch on the store lags behind, resuming at another member", member=endpoint.target)
                else:
                    log.warning("the watch on the store broke, resuming", member=endpoint.target, error=error.details)
            except Exception:
                log.exception("the watch on the store failed, resuming", member=endpoint.target)
            finally:
                self._suspected = False
                if self.connected.is_set():
                    self._broken_at = self._clock.monotonic()
                    self.connected.clear()
            self._lose()
            self._kv.client.rotate(endpoint)
            await self._clock.sleep(backoff.next())

    def _lose(self) -> None:
        """End the clients' watches where the store's has been broken for long."""
        if self._broken_at is None or self.lost or self._clock.monotonic() - self._broken_at < LOST_SECONDS:
            return
        log.warning("the store cannot be watched, ending the clients' watches", seconds=LOST_SECONDS)
        self.lost = True
        for each in self._subscribers.values():
            each.cut_off()

    async def _follow(self, endpoint: Any, backoff: Backoff) -> None:
        stream = self._stream = await endpoint.watch()
        try:
            create = pb.WatchCreateRequest(key=_EVERYTHING, range_end=_EVERYTHING, start_revision=self._revision + 1)
            stream.send(pb.WatchRequest(create_request=create).SerializeToString())
            while (message := await stream.read()) is not None:
                answer = pb.WatchResponse.FromString(message)
                if answer.canceled:
                    if not answer.compact_revision:
                        log.warning("the store ended the watch", reason=answer.cancel_reason)
                        return
                    if self._revision < self.target and not self._recent:
                        # Nothing was missed, history is only shorter than hoped for.
                        self._revision = self._recent_start = answer.compact_revision
                    else:
                        await self._start_over()
                    return
                if answer.created:
                    self.connected.set()
                    self._broken_at, self.lost = None, False
                    backoff.reset()
                if answer.events:
                    self._deliver(answer.events)
        finally:
            self._stream = None
            stream.cancel()

    async def _start_over(self) -> None:
        """Changes were compacted before they were seen."""
        log.warning("the watch fell behind a compaction, all caches start afresh", revision=self._revision)
        revision = await self._kv.revision()
        self._recent.clear()
        self._recent_bytes = 0
        self._recent_start = revision
        for each in self._subscribers.values():
            each.reset()
        self._advance(revision)

    def _deliver(self, events: Sequence[Any]) -> None:
        touched: dict[str, list[Any]] = {}
        now = self._clock.monotonic()
        for event in events:
            prefix = prefix_of(event.kv.key)
            self._recent.append((event, prefix, now))
            self._recent_bytes += len(event.kv.value)
            if prefix in self._subscribers:
                touched.setdefault(prefix, []).append(event)
        for prefix, mine in touched.items():
            try:
                self._subscribers[prefix].apply(mine)
            except Exception:
                log.exception("a cache could not take an event and starts afresh", prefix=prefix)
                self._subscribers[prefix].reset()
        self._forget(now)
        # The revision moves before anybody wakes, so that a bookmark or a consistent read never lags behind what was sent.
        self._advance(events[-1].kv.mod_revision)
        for prefix in touched:
            self._subscribers[prefix].flush()

    def _forget(self, now: float) -> None:
        """Keep the recent changes within their bounds."""
        recent = self._recent
        while recent and (
            len(recent) > _RECENT_MAX
            or self._recent_bytes > _RECENT_BYTES
            or (len(recent) > _RECENT_MIN and recent[0][2] < now - _RECENT_SECONDS)
        ):
            event, _, _ = recent.popleft()
            self._recent_bytes -= len(event.kv.value)
            self._recent_start = event.kv.mod_revision

    def _advance(self, revision: int) -> None:
        self._revision = max(self._revision, revision)
        while self._waiters and self._waiters[0][0] <= self._revision:
            _, _, future = heapq.heappop(self._waiters)
            if not future.done():
                future.set_result(None)


def prefix_of(key: bytes) -> str:
    """`/registry/pods/` for a built-in kind, `/registry/example.com/widgets/` for a custom one (its group has a dot)."""
    parts = key.decode("utf-8", "replace").split("/", 4)
    if len(parts) < 4:
        return ""
    if "." in parts[2]:
        return f"/{parts[1]}/{parts[2]}/{parts[3]}/"
    return f"/{parts[1]}/{parts[2]}/"
