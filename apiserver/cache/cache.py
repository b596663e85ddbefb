"""All objects of one kind, in memory and in order, with the recent changes.

Loaded from the store when first used, kept up by the hub. Serves lists and reads; feeds the watches. The history is what a client can resume from: at
least the last 75 seconds as far as its bound allows. A revision older than it is `410 Expired`, and the client lists again.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import orjson

from kubeling.api import errors
from kubeling.apiserver.cache.encodings import Encodings
from kubeling.apiserver.cache.entry import Entry, Fields, Settle, head_of, make_entry
from kubeling.apiserver.cache.hub import Hub
from kubeling.apiserver.cache.watcher import Event, Watcher
from kubeling.apiserver.storage.errors import Compacted, Undecryptable
from kubeling.apiserver.storage.kv import KV
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("cache")

HISTORY_SECONDS = 75.0
HISTORY_MIN = 128
HISTORY_MAX = 20_000
#: How long a read waits for the cache to reach the revision that it needs.
WAIT_SECONDS = 3.0


class Cache:
    """Call :meth:`ready` before anything else; it loads the cache the first time."""

    def __init__(
        self,
        prefix: str,
        api_version: str,
        kind: str,
        fields: Fields,
        kv: KV,
        hub: Hub,
        clock: Clock,
        trigger: str = "",
        settle: Settle | None = None,
    ) -> None:
        self.prefix = prefix
        self.kind = kind
        self.settle = settle
        self.head = head_of(api_version, kind)
        self.fields = fields
        self._kv = kv
        self._hub = hub
        self._clock = clock
        #: A field by whose value watchers are indexed (pods by node), so that a change is not offered to every kubelet.
        self._trigger = trigger
        self._entries: dict[str, Entry] = {}
        self._keys: list[str] = []
        self._history: deque[Event] = deque()
        self._oldest = 0
        self._base = 0
        self._watchers: set[Watcher] = set()
        self._indexed: dict[str, set[Watcher]] = {}
        self._dirty: set[Watcher] = set()
        self.encodings = Encodings()
        self._loaded = False
        self._loading: asyncio.Task[None] | None = None
        #: Counts the resets: a load that one of them overtook is done again.
        self._epoch = 0

    @property
    def active(self) -> bool:
        """Whether the objects are in memory."""
        return self._loaded

    @property
    def revision(self) -> int:
        """The revision that the content is of, at least."""
        return max(self._base, self._hub.revision)

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key: str) -> Entry | None:
        """The object under that key of the store."""
        return self._entries.get(key)

    def entries(self, prefix: str = "", start: str = "") -> Iterator[Entry]:
        """Objects in key order whose key begins with `prefix`, from `start` on. Do not await while iterating."""
        keys, entries = self._keys, self._entries
        if not prefix and not start:
            for key in keys:
                yield entries[key]
            return
        for at in range(bisect_left(keys, max(prefix, start)), len(keys)):
            key = keys[at]
            if not key.startswith(prefix):
                return
            yield entries[key]

    def knows(self, revision: int) -> bool:
        """Whether the history has all changes since `revision`, which has been reached."""
        return self._loaded and self._oldest <= revision <= self.revision

    def past(self, revision: int, prefix: str, start: str = "") -> Iterator[Entry] | None:
        """As :meth:`entries`, as they were at `revision`; None where :meth:`knows` says so."""
        if not self.knows(revision):
            return None
        undone: dict[str, Entry | None] = {}
        for event in reversed(self._history):
            if event.revision <= revision:
                break
            undone[event.entry.key] = event.previous
        return self._without(undone, prefix, max(prefix, start)) if undone else self.entries(prefix, start)

    def _without(self, undone: dict[str, Entry | None], prefix: str, start: str) -> Iterator[Entry]:
        """The objects, with what is in `undone` in place of what it is now."""
        kept = (each for each in self.entries(prefix, start) if each.key not in undone)
        former = [each for key, each in undone.items() if each is not None and key >= start and key.startswith(prefix)]
        yield from heapq.merge(kept, sorted(former, key=_key), key=_key)

    async def ready(self) -> None:
        """Load from the store unless that is done."""
        while not self._loaded:
            if self._loading is None or self._loading.done():
                self._loading = asyncio.ensure_future(self._load())
                self._loading.add_done_callback(_retrieve)
            await asyncio.shield(self._loading)

    async def fresh(self) -> None:
        """Until the cache includes every write acknowledged before this call."""
        if not self._loaded:
            await self.ready()
        await self.at_least(await self._kv.revision())

    async def at_least(self, revision: int) -> None:
        """Until the cache is as new as `revision`. Raises 504 where the store has not got there in time."""
        if not self._loaded:
            await self.ready()
        if self.revision >= revision:
            return
        if not await self._hub.wait_for(revision, WAIT_SECONDS):
            error = errors.timeout(f"Too large resource version: {revision}, current: {self.revision}", 1)
            error.status["details"]["causes"] = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
            raise error

    # Loading

    async def _load(self) -> None:
        self._hub.subscribe(self.prefix, self)
        await self._hub.wait_for(self._hub.target, WAIT_SECONDS)
        missed: list[Any] | None = None
        revision = self._hub.recent_start
        while missed is None:
            epoch = self._epoch
            try:
                page = await self._kv.list_all(self.prefix, revision)
            except (Compacted, Undecryptable):
                page = await self._kv.list_all(self.prefix)
            if epoch == self._epoch:
                missed = self._hub.since(self.prefix, page.revision)
                if missed and revision and not self._readable(missed):
                    missed = None
            # Where that was too far back already, the newest state will do.
            revision = 0
        entries = {each.key: self.make(each.key, each.value, each.revision) for each in page.items}
        self._entries = entries
        self._keys = sorted(entries)
        self._history.clear()
        self._base = self._oldest = page.revision
        self._loaded = True
        self.apply(missed)

    def _readable(self, events: Sequence[Any]) -> bool:
        """Whether all that was written can be decrypted: what is past may be under a key that is no more."""
        try:
            for each in events:
                if each.type == 0:
                    self._kv.open(each.kv.key.decode(), each.kv.value)
        except Undecryptable:
            return False
        return True

    def reset(self) -> None:
        """Forget everything and end the watches with 410: changes may have been missed."""
        self._loaded = False
        self._epoch += 1
        self.encodings.clear()
        gone = errors.expired("too old resource version: the server's history was compacted")
        line = error_line(gone.status)
        for watcher in self.watchers():
            watcher.close(line)

    def renew(self, api_version: str, fields: Fields, settle: Settle | None) -> None:
        """The stored form of the kind has changed: end the watches, and load again when next used."""
        self.head, self.fields, self.settle = head_of(api_version, self.kind), fields, settle
        self.end()

    def end(self) -> None:
        """Forget everything and end the watches; their clients go on where they were, if there is still anything."""
        self._loaded = False
        self._epoch += 1
        self.encodings.clear()
        self.cut_off()

    def cut_off(self) -> None:
        """End the watches, and keep what is known: it may be all that there is."""
        for watcher in self.watchers():
            watcher.close()

    # Changes

    def make(self, key: str, raw: bytes, revision: int) -> Entry:
        """An entry from what the store holds."""
        return make_entry(key, raw, revision, self.head, self.fields, self.settle)

    def apply(self, events: Sequence[Any]) -> None:
        if not self._loaded:
            return
        now = self._clock.monotonic()
        for change in events:
            kv = change.kv
            if kv.mod_revision <= self._base:
                continue
            key = kv.key.decode()
            if change.type == 0:
                try:
                    value = self._kv.open(key, kv.value).value
                except Undecryptable as error:
                    # Whoever asks for this kind next loads it again, and hears the same.
                    log.error("a change cannot be read", error=str(error))
                    self.reset()
                    return
            previous = self._entries.get(key)
            if change.type == 0:
                entry = self.make(key, value, kv.mod_revision)
                if previous is None:
                    insort(self._keys, key)
                self._entries[key] = entry
                event = Event("MODIFIED" if previous else "ADDED", kv.mod_revision, entry, previous, self.head, now)
            elif previous is not None:
                del self._entries[key]
                del self._keys[bisect_left(self._keys, key)]
                event = Event("DELETED", kv.mod_revision, previous, previous, self.head, now)
            else:
                continue
            self._remember(event, now)
            self._fan_out(event)
            event.lines.clear()

    def flush(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for watcher in dirty:
            watcher.wake()

    def _remember(self, event: Event, now: float) -> None:
        history = self._history
        history.append(event)
        while len(history) > HISTORY_MIN and (len(history) > HISTORY_MAX or history[0].time < now - HISTORY_SECONDS):
            self._oldest = history.popleft().revision

    def _fan_out(self, event: Event) -> None:
        for watcher in self._watchers:
            watcher.offer(event)
        self._dirty |= self._watchers
        if self._trigger:
            values = {each.fields.get(self._trigger, "") for each in (event.entry, event.previous) if each is not None}
            for value in values:
                for watcher in self._indexed.get(value, ()):
                    watcher.offer(event)
                    self._dirty.add(watcher)

    # Watching

    def check_window(self, revision: int) -> None:
        """Raise 410 where changes after `revision` are no longer all known."""
        if revision < self._oldest:
            raise errors.expired(f"too old resource version: {revision} ({self._oldest})")

    def replay(self, watcher: Watcher, after: int) -> None:
        """Offer what happened after `after`, which lies in the window."""
        missed = []
        for event in reversed(self._history):
            if event.revision <= after:
                break
            missed.append(event)
        for event in reversed(missed):
            watcher.offer(event)

    def attach(self, watcher: Watcher, trigger: str | None = None) -> None:
        """Feed `watcher` from now on. `trigger`: the only value of the trigger field that it cares for."""
        if self._trigger and trigger is not None:
            self._indexed.setdefault(trigger, set()).add(watcher)
        else:
            self._watchers.add(watcher)

    def detach(self, watcher: Watcher, trigger: str | None = None) -> None:
        """The client is gone."""
        self._watchers.discard(watcher)
        self._dirty.discard(watcher)
        if trigger is not None and (group := self._indexed.get(trigger)) is not None:
            group.discard(watcher)
            if not group:
                del self._indexed[trigger]

    @property
    def lost(self) -> bool:
        """Whether the store has been out of reach for so long that nobody should watch here."""
        return self._hub.lost

    @property
    def trigger(self) -> str:
        return self._trigger

    def watchers(self) -> list[Watcher]:
        """All that are attached."""
        return [*self._watchers, *(each for group in self._indexed.values() for each in group)]


_key = attrgetter("key")


def _retrieve(task: asyncio.Task[None]) -> None:
    """Whoever waits gets the exception; where nobody is left, asyncio shall not complain about it."""
    if not task.cancelled():
        task.exception()


def error_line(status: dict[str, Any]) -> bytes:
    """The watch event that carries a Status."""
    return b'{"type":"ERROR","object":%b}\n' % orjson.dumps(status)
