"""Closed loops: each of N clients sends its next request when it has its answer."""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence
from dataclasses import dataclass

from kubeling.bench.etcd import calls
from kubeling.bench.etcd.h2 import MAX_OUTSTANDING, Connection, Failed, Unary, message
from kubeling.bench.report import percentile
from kubeling.proto import etcd_pb2 as pb

#: Clients that share a connection, as those of one process do.
STREAMS_PER_CONNECTION = 8
_WARM_UP = 0.3


@dataclass(frozen=True, slots=True)
class Loop:
    """What a closed loop did. Latencies in ms; `client` is how busy this process was (1: it may have been the bottleneck)."""

    rate: float
    p50: float
    p99: float
    failed: int
    client: float
    longest_gap: float


class ClosedLoop:
    """`clients` clients on as many connections as they need, spread over `urls`, each taking the next of `requests` again and again."""

    def __init__(self, urls: Sequence[str], path: str, requests: Sequence[bytes], clients: int) -> None:
        self._requests = requests
        self._at = 0
        count = max(1, -(-clients // STREAMS_PER_CONNECTION))
        if max(map(len, requests)) * -(-clients // count) > MAX_OUTSTANDING:
            raise ValueError("too much for the window of one connection: fewer streams, or smaller messages")
        self._connections = [Connection(urls[at % len(urls)], path) for at in range(count)]
        self._clients = [clients // count + (at < clients % count) for at in range(count)]
        self._latencies: list[float] = []
        self._failed = 0
        self._completed = 0
        self._last = 0.0
        self._gap = 0.0
        self._running = True

    def run(self, seconds: float, total: int | None = None) -> Loop:
        """Go on for `seconds` after a short warm-up, or until `total` requests are answered."""
        clock = time.perf_counter
        with selectors.EpollSelector() as selector:
            for connection, clients in zip(self._connections, self._clients, strict=True):
                self._drive(connection, clients)
                selector.register(connection, selectors.EVENT_READ)
            began = clock()
            warm_until = began + (0.0 if total else min(_WARM_UP, seconds / 3))
            measuring = False
            cpu = time.process_time()
            idle_until = clock() + 15
            while True:
                now = clock()
                if not measuring and now >= warm_until:
                    measuring, began, cpu = True, now, time.process_time()
                    self._latencies.clear()
                    self._failed = self._completed = 0
                    self._gap, self._last = 0.0, now
                if (total is not None and self._completed >= total) or (total is None and measuring and now - began >= seconds):
                    break
                ready = selector.select(0.5)
                if ready:
                    idle_until = clock() + 15
                elif clock() > idle_until:
                    raise Failed("no answer for 15 s")
                for found, _ in ready:
                    connection = found.fileobj
                    assert isinstance(connection, Connection)
                    connection.receive()
                    connection.flush()
            took = clock() - began
            busy = (time.process_time() - cpu) / took
        self._drain()
        done = self._latencies or [0.0]
        return Loop(
            rate=self._completed / took,
            p50=percentile(done, 0.5) * 1000,
            p99=percentile(done, 0.99) * 1000,
            failed=self._failed,
            client=busy,
            longest_gap=self._gap * 1000,
        )

    def _drive(self, connection: Connection, clients: int) -> None:
        """Start the clients of one connection."""
        clock, requests, count = time.perf_counter, self._requests, len(self._requests)
        started: dict[int, float] = {}
        answered: set[int] = set()

        def data(stream: int, piece: bytes) -> None:
            answered.add(stream)

        def end(stream: int) -> None:
            now = clock()
            begun = started.pop(stream, None)
            if begun is None:
                return  # Ended already; a server may add that it wants no more of a call.
            if stream in answered:
                answered.discard(stream)
                self._completed += 1
                self._latencies.append(now - begun)
                self._gap = max(self._gap, now - self._last)
                self._last = now
            else:
                self._failed += 1
            self._at += 1
            started[connection.call(requests[self._at % count])] = now

        connection.on_data, connection.on_end = data, end
        for _ in range(clients):
            self._at += 1
            started[connection.call(requests[self._at % count])] = clock()
        connection.flush()

    def _drain(self) -> None:
        """Requests on their way are given up with their connections."""
        for connection in self._connections:
            connection.close()


def keep_alives(url: str, clients: int, seconds: float) -> Loop:
    """Each client renews a lease of its own on a stream of its own, again and again."""
    grant = Unary(url, calls.GRANT)
    leases = [
        pb.LeaseGrantResponse.FromString(grant(pb.LeaseGrantRequest(TTL=600).SerializeToString())).ID for _ in range(clients)
    ]
    grant.close()
    clock = time.perf_counter
    latencies: list[float] = []
    connections = []
    with selectors.EpollSelector() as selector:
        for start in range(0, clients, STREAMS_PER_CONNECTION):
            connection = Connection(url, calls.KEEP_ALIVE)
            _renew(connection, leases[start : start + STREAMS_PER_CONNECTION], latencies)
            connections.append(connection)
            selector.register(connection, selectors.EVENT_READ)
        began, cpu = clock(), time.process_time()
        while clock() - began < seconds:
            for found, _ in selector.select(0.5):
                assert isinstance(found.fileobj, Connection)
                found.fileobj.receive()
                found.fileobj.flush()
        took = clock() - began
        busy = (time.process_time() - cpu) / took
    for connection in connections:
        connection.close()
    if not latencies:
        raise Failed("no lease was renewed")
    return Loop(len(latencies) / took, percentile(latencies, 0.5) * 1000, percentile(latencies, 0.99) * 1000, 0, busy, 0.0)


def _renew(connection: Connection, leases: list[int], latencies: list[float]) -> None:
    clock = time.perf_counter
    messages: dict[int, bytes] = {}
    sent: dict[int, float] = {}

    def data(stream: int, piece: bytes) -> None:
        now = clock()
        latencies.append(now - sent[stream])
        sent[stream] = now
        connection.send(stream, messages[stream])

    def end(stream: int) -> None:
        raise Failed("a keep-alive stream has ended")

    connection.on_data, connection.on_end = data, end
    for lease in leases:
        framed = message(pb.LeaseKeepAliveRequest(ID=lease).SerializeToString())
        stream = connection.call(framed, more=True)
        messages[stream] = framed
        sent[stream] = clock()
    connection.flush()
