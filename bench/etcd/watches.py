"""Watch fan-out: many watchers of one key, and how long after the put the last of them has been told."""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence
from dataclasses import dataclass

from kubeling.bench.etcd import calls
from kubeling.bench.etcd.h2 import Connection, Failed, message
from kubeling.bench.report import percentile
from kubeling.proto import etcd_pb2 as pb

#: The watched key, and the pause between two puts: each event is a burst of its own.
_KEY = b"/registry/leases/kube-system/watched"
_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class FanOut:
    """From sending the put to the last delivery, in ms."""

    p50: float
    p99: float


def fan_out(url: str, watchers: int, connections: int, events: int) -> FanOut:
    """`watchers` watches of one key, shared out to one stream on each of `connections`; then `events` puts, one after the other.

    The time is taken when the bytes have arrived, before anything is parsed: each value holds a mark of its own, so counting the mark in the
    bytes counts deliveries. Where a mark is cut in two by a frame the count falls short, and the frames are looked at.
    """
    streams = [Connection(url, calls.WATCH) for _ in range(connections)]
    writer = Connection(url, calls.PUT)
    took = []
    try:
        _subscribe(streams, watchers)
        with selectors.EpollSelector() as selector:
            for stream in streams:
                selector.register(stream, selectors.EVENT_READ)
            for number in range(events + 5):
                seconds = _event(selector, writer, b"<event-%06d>" % number, watchers)
                if number >= 5:
                    took.append(seconds * 1000)
                time.sleep(_PAUSE)
                writer.receive()
    finally:
        for each in (*streams, writer):
            each.close()
    return FanOut(percentile(took, 0.5), percentile(took, 0.99))


def _subscribe(streams: Sequence[Connection], watchers: int) -> None:
    create = message(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=_KEY)).SerializeToString())
    with selectors.DefaultSelector() as selector:
        waiting = 0
        for at, connection in enumerate(streams):
            counter = _Messages()
            connection.on_data = counter.feed
            share = watchers // len(streams) + (at < watchers % len(streams))
            stream = connection.call(create, more=True)
            for _ in range(share - 1):
                connection.send(stream, create)
            connection.flush()
            selector.register(connection, selectors.EVENT_READ, (counter, share))
            waiting += 1
        while waiting:
            ready = selector.select(15)
            if not ready:
                raise Failed("watches were not created")
            for found, _ in ready:
                assert isinstance(found.fileobj, Connection)
                found.fileobj.receive()
                counter, share = found.data
                if counter.count >= share:
                    selector.unregister(found.fileobj)
                    waiting -= 1


class _Messages:
    """Counts the gRPC messages of one stream."""

    def __init__(self) -> None:
        self.count = 0
        self._rest = b""

    def feed(self, stream: int, piece: bytes) -> None:
        data = self._rest + piece
        at = 0
        while len(data) - at >= 5:
            end = at + 5 + int.from_bytes(data[at + 1 : at + 5], "big")
            if end > len(data):
                break
            self.count += 1
            at = end
        self._rest = data[at:]


def _event(selector: selectors.BaseSelector, writer: Connection, mark: bytes, watchers: int) -> float:
    """One put; the seconds until the last watcher has been told."""
    framed = message(pb.PutRequest(key=_KEY, value=mark + calls.value(100)).SerializeToString())
    clock = time.perf_counter
    taken: dict[Connection, bytes] = {}
    found_marks: dict[Connection, int] = {}
    writer.call(framed)
    began = last = clock()
    writer.flush()
    while sum(found_marks.values()) < watchers:
        ready = selector.select(0.25)
        if not ready:
            if _marks_in_frames(taken, mark) >= watchers:
                break
            if clock() - began > 15:
                raise Failed(f"{sum(found_marks.values())} of {watchers} watchers were told")
        for found, _ in ready:
            connection = found.fileobj
            assert isinstance(connection, Connection)
            data = taken.get(connection, b"") + connection.take()
            last = clock()
            taken[connection] = data
            found_marks[connection] = data.count(mark)
    for connection, data in taken.items():
        connection.on_data = _forget
        connection.parse(data)
    return last - began


def _marks_in_frames(taken: dict[Connection, bytes], mark: bytes) -> int:
    """How often the mark is there when the frames' heads are taken out."""
    total = 0
    for data in taken.values():
        at, payload = 0, []
        while len(data) - at >= 9:
            end = at + 9 + int.from_bytes(data[at : at + 3], "big")
            payload.append(data[at + 9 : end] if data[at + 3] == 0 else b"")
            at = end
        total += b"".join(payload).count(mark)
    return total


def _forget(stream: int, piece: bytes) -> None:
    """It was counted already."""
