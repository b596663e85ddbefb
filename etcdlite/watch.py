"""Who is told what: watchers of keys and ranges, and how far each has got. No I/O: messages go into bounded queues that the service empties.

A watcher is *synced* where it has been queued everything up to the store's revision; synced watchers of the same range form a group, and a new
event is encoded once for a group. One that starts in the past, or whose stream does not read fast enough, is *lagging*: it keeps only the next
revision that it needs, and is fed from the store's log, a piece at a time, as its stream empties. So a slow watcher costs a number and not memory,
and misses nothing, unless compaction overtakes it: then it is cancelled with the compacted revision. Events of one revision are never split
over two answers, unless the watcher allows fragments.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable

from kubeling.etcdlite import wire
from kubeling.etcdlite.errors import COMPACTED
from kubeling.etcdlite.mvcc import Record
from kubeling.etcdlite.requests import covers
from kubeling.etcdlite.state import State
from kubeling.proto import etcd_pb2 as pb

#: A stream with more than this in its queue is slow: its watchers lag from there on.
MAX_QUEUED_BYTES = 4 << 20
#: Log records looked at for a lagging watcher in one go.
CATCH_UP_RECORDS = 1000
#: Where a watcher allows fragments, an answer is cut at about this size.
FRAGMENT_BYTES = 1536 << 10
MAX_WATCHES_PER_STREAM = 10_000

_ID = b"\x10"
_EVENTS = b"\x5a"
_FRAGMENT = b"\x38\x01"
NO_WATCH = -1


class Watcher:
    """One watch. `next_revision` is the first that has not been queued; it is looked at while the watcher lags or waits for the future."""

    __slots__ = ("fragment", "group", "id", "key", "next_revision", "notify", "quiet", "range_end", "stream", "variant")

    def __init__(self, watch_id: int, request: pb.WatchCreateRequest, stream: Stream) -> None:
        self.id = watch_id
        self.key, self.range_end = request.key, request.range_end
        # What the events look like: without puts, without deletes, with previous values.
        self.variant = (
            pb.WatchCreateRequest.NOPUT in request.filters,
            pb.WatchCreateRequest.NODELETE in request.filters,
            request.prev_kv,
        )
        self.fragment = request.fragment
        self.notify = request.progress_notify
        self.quiet = True
        self.stream = stream
        self.next_revision = request.start_revision
        self.group: Group | None = None


class Group:
    """The synced watchers of one range, and the new records that concern them."""

    __slots__ = ("hits", "key", "range_end", "watchers")

    def __init__(self, key: bytes, range_end: bytes) -> None:
        self.key, self.range_end = key, range_end
        self.watchers: set[Watcher] = set()
        self.hits: list[Record] = []


class Stream:
    """One client's stream: its watches and what is queued for it.

    A message is offered to the client first, and queued where it has no room. `wake` is called when the queue or the lag ceases to be empty.
    """

    def __init__(self, offer: Callable[[bytes], bool], wake: Callable[[], None]) -> None:
        self._offer = offer
        self.wake = wake
        self.watchers: dict[int, Watcher] = {}
        self.queue: deque[bytes] = deque()
        self.queued_bytes = 0
        self.lagging: dict[int, Watcher] = {}
        self.progress_wanted = False
        self._ids = itertools.count()

    def push(self, message: bytes) -> None:
        if not self.queue and self._offer(message):
            return
        self.queue.append(message)
        self.queued_bytes += len(message)
        if len(self.queue) == 1:
            self.wake()

    def pop(self) -> bytes:
        message = self.queue.popleft()
        self.queued_bytes -= len(message)
        return message

    def new_id(self) -> int:
        return next(number for number in self._ids if number not in self.watchers)


class Hub:
    """All watches of this member."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._by_key: dict[bytes, Group] = {}
        self._by_range: dict[tuple[bytes, bytes], Group] = {}
        self._future: list[tuple[int, int, Watcher]] = []
        self._order = itertools.count()
        self.streams: set[Stream] = set()

    @property
    def watcher_count(self) -> int:
        return sum(len(stream.watchers) for stream in self.streams)

    # Requests.

    def create(self, stream: Stream, request: pb.WatchCreateRequest) -> None:
        """Begin a watch; the answer is queued, also where it is a refusal."""
        if not request.key:
            request.key = b"\x00"
        reason = ""
        if request.range_end and request.range_end != b"\x00" and request.range_end <= request.key:
            reason = "mvcc: watcher range is empty"
        elif request.watch_id and request.watch_id in stream.watchers:
            reason = "mvcc: duplicate watch ID provided on the WatchStream"
        elif len(stream.watchers) >= MAX_WATCHES_PER_STREAM:
            reason = "etcdserver: too many watches on this stream"
        if reason:
            self.refuse(stream, reason)
            return
        watcher = Watcher(request.watch_id or stream.new_id(), request, stream)
        stream.watchers[watcher.id] = watcher
        stream.push(self._header() + wire.integer(_ID, watcher.id) + b"\x18\x01")
        revision = self._state.store.revision
        if watcher.next_revision <= 0:
            watcher.next_revision = revision + 1
        if watcher.next_revision <= revision:
            self._lag(watcher)
        elif watcher.next_revision == revision + 1:
            self._join(watcher)
        else:
            heapq.heappush(self._future, (watcher.next_revision, next(self._order), watcher))

    def refuse(self, stream: Stream, reason: str) -> None:
        """A watch is not begun."""
        refusal = pb.WatchResponse(watch_id=NO_WATCH, created=True, canceled=True, cancel_reason=reason)
        stream.push(self._header() + refusal.SerializeToString())

    def cancel(self, stream: Stream, watch_id: int) -> None:
        """End a watch; unknown ones are ignored, since a cancellation may cross the server's own."""
        watcher = stream.watchers.get(watch_id)
        if watcher is not None:
            self._remove(watcher)
            stream.push(self._header() + wire.integer(_ID, watch_id) + b"\x20\x01")
            self._settle(stream)

    def progress(self, stream: Stream) -> None:
        """Tell the stream how far all of its watches have got, as soon as none of them lags or waits for a revision of the future."""
        stream.progress_wanted = True
        self._settle(stream)

    def notify_quiet(self, stream: Stream) -> None:
        """Tell those watches that asked for it, and have had nothing since the last time, how far they have got."""
        for watcher in stream.watchers.values():
            # Nothing to one that lags, or waits for a revision of the future: a client would go on behind what it is told, too early.
            if watcher.notify and watcher.quiet and watcher.group is not None:
                stream.push(self._header() + wire.integer(_ID, watcher.id))
            watcher.quiet = True

    def close(self, stream: Stream) -> None:
        """The client is gone."""
        for watcher in list(stream.watchers.values()):
            self._remove(watcher)
        self.streams.discard(stream)

    def resume_all(self, revision: int) -> None:
        """The store has jumped (a snapshot came from the leader): watchers that had everything before `revision` catch up from the log."""
        for stream in self.streams:
            for watcher in stream.watchers.values():
                if watcher.group is not None:
                    self._leave(watcher)
                    watcher.next_revision = revision
                    self._lag(watcher)
        self._release_future()

    # Events.

    def publish(self, records: list[Record]) -> None:
        """Queue new records for the synced watchers that they concern."""
        touched: set[Group] = set()
        by_key, ranges = self._by_key, list(self._by_range.values())
        for record in records:
            key = record.key
            group = by_key.get(key)
            if group is not None:
                group.hits.append(record)
                touched.add(group)
            for group in ranges:
                if key >= group.key and (key < group.range_end or group.range_end == b"\x00"):
                    group.hits.append(record)
                    touched.add(group)
        header = self._header()
        for group in touched:
            hits, group.hits = group.hits, []
            self._tell(group, hits, header)
        self._release_future()

    def _release_future(self) -> None:
        revision = self._state.store.revision
        while self._future and self._future[0][0] <= revision:
            watcher = heapq.heappop(self._future)[2]
            if watcher.stream.watchers.get(watcher.id) is watcher:
                self._lag(watcher)

    def _tell(self, group: Group, hits: list[Record], header: bytes) -> None:
        bodies: dict[tuple[bool, bool, bool], list[bytes]] = {}
        joined: dict[tuple[bool, bool, bool], bytes] = {}
        # Most clients' only watch has the number 0, so one answer serves them all.
        made: dict[tuple[int, tuple[bool, bool, bool]], bytes] = {}
        for watcher in list(group.watchers):
            variant = watcher.variant
            if variant not in bodies:
                bodies[variant] = _events(hits, variant)
                joined[variant] = b"".join(bodies[variant])
            if not bodies[variant]:
                continue
            if watcher.stream.queued_bytes > MAX_QUEUED_BYTES:
                group.watchers.discard(watcher)
                self._leave(watcher)
                watcher.next_revision = hits[0].mod
                self._lag(watcher)
            elif watcher.fragment and len(joined[variant]) > FRAGMENT_BYTES:
                self._push_events(watcher, header, bodies[variant])
            else:
                watcher.quiet = False
                message = made.get((watcher.id, variant))
                if message is None:
                    message = made[watcher.id, variant] = b"%b%b%b" % (header, wire.integer(_ID, watcher.id), joined[variant])
                watcher.stream.push(message)

    def catch_up(self, stream: Stream) -> None:
        """Queue the next piece of history for one lagging watcher of `stream`; called while there is one and the queue is short."""
        watcher = stream.lagging.pop(next(iter(stream.lagging)))
        store = self._state.store
        if watcher.next_revision < store.compact_revision:
            self._remove(watcher)
            lost = pb.WatchResponse(
                watch_id=watcher.id, canceled=True, compact_revision=store.compact_revision, cancel_reason=COMPACTED.text
            )
            stream.push(self._header() + lost.SerializeToString())
        else:
            records = store.events_from(watcher.next_revision, CATCH_UP_RECORDS)
            hits = [record for record in records if covers(watcher.key, watcher.range_end, record.key)]
            events = _events(hits, watcher.variant)
            if events:
                self._push_events(watcher, self._header(), events)
            watcher.next_revision = records[-1].mod + 1 if records else store.revision + 1
            if watcher.next_revision > store.revision:
                self._join(watcher)
            else:
                # To the end of the line, so that several catch up together.
                stream.lagging[watcher.id] = watcher
        self._settle(stream)

    def _push_events(self, watcher: Watcher, header: bytes, events: list[bytes]) -> None:
        watcher.quiet = False
        head = header + wire.integer(_ID, watcher.id)
        pieces = list(_pieces(events)) if watcher.fragment else [events]
        for number, piece in enumerate(pieces, 1):
            watcher.stream.push(head + (_FRAGMENT if number < len(pieces) else b"") + b"".join(piece))

    # Where a watcher is kept.

    def _join(self, watcher: Watcher) -> None:
        if watcher.range_end:
            group = self._by_range.setdefault((watcher.key, watcher.range_end), Group(watcher.key, watcher.range_end))
        else:
            group = self._by_key.setdefault(watcher.key, Group(watcher.key, b""))
        group.watchers.add(watcher)
        watcher.group = group

    def _leave(self, watcher: Watcher) -> None:
        group, watcher.group = watcher.group, None
        if group is None:
            return
        group.watchers.discard(watcher)
        if not group.watchers:
            if group.range_end:
                self._by_range.pop((group.key, group.range_end), None)
            else:
                self._by_key.pop(group.key, None)

    def _lag(self, watcher: Watcher) -> None:
        stream = watcher.stream
        stream.lagging[watcher.id] = watcher
        stream.wake()

    def _remove(self, watcher: Watcher) -> None:
        self._leave(watcher)
        watcher.stream.watchers.pop(watcher.id, None)
        watcher.stream.lagging.pop(watcher.id, None)

    def _settle(self, stream: Stream) -> None:
        if stream.progress_wanted and all(watcher.group is not None for watcher in stream.watchers.values()):
            stream.progress_wanted = False
            stream.push(self._header() + wire.integer(_ID, NO_WATCH))

    def _header(self) -> bytes:
        return self._state.header(self._state.store.revision)


def _events(records: Iterable[Record], variant: tuple[bool, bool, bool]) -> list[bytes]:
    """The encoded event fields of an answer."""
    no_put, no_delete, with_prev = variant
    events: list[bytes] = []
    for record in records:
        deleted = not record.version
        if no_delete if deleted else no_put:
            continue
        prev = record.live_prev if with_prev else None
        events.append(wire.message(_EVENTS, wire.event(deleted, record.wire, None if prev is None else prev.wire)))
    return events


def _pieces(events: list[bytes]) -> Iterable[list[bytes]]:
    piece: list[bytes] = []
    size = 0
    for event in events:
        if piece and size + len(event) > FRAGMENT_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(event)
        size += len(event)
    yield piece
