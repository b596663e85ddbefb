"""Closed loops: each of N clients, on a connection of its own, sends its next request when it has its answer."""

from __future__ import annotations

import selectors
import time
from dataclasses import dataclass

from kubeling.bench.api.objects import Make
from kubeling.bench.api.servers import Server
from kubeling.bench.api.wire import Connection, Failed
from kubeling.bench.report import percentile

_WARM_UP = 0.4
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Loop:
    """Latencies in ms; `cpu` is the server's CPU time a request in ms, `client` how busy this process was (1: it may have been the bottleneck)."""

    rate: float
    p50: float
    p99: float
    cpu: float
    client: float
    failed: int
    megabytes: float


class Clients:
    """`count` connections that take numbers from one counter. Use :meth:`run` as often as wanted, then :meth:`close`."""

    def __init__(self, server: Server, count: int) -> None:
        self._server = server
        self._connections = [Connection(server.url, server.tls) for _ in range(count)]
        self.number = 0

    def run(self, make: Make, seconds: float, total: int | None = None) -> Loop:
        """For `seconds` after a short warm-up; or exactly `total` requests, without one."""
        clock = time.perf_counter
        latencies: list[float] = []
        started: dict[Connection, float] = {}
        failed = received = issued = 0
        limit = total if total is not None else 1 << 60
        with selectors.EpollSelector() as selector:
            for connection in self._connections[:limit]:
                selector.register(connection, selectors.EVENT_READ)
                started[connection] = clock()
                connection.send(make(self.number))
                self.number += 1
                issued += 1
            began = clock()
            measuring = total is not None
            until = began + (_PATIENCE * 20 if measuring else min(_WARM_UP, seconds / 3))
            client, server = time.process_time(), self._server.cpu()
            while started:
                ready = selector.select(_PATIENCE)
                if not ready:
                    raise Failed(f"no answer in {_PATIENCE} s")
                for key, _ in ready:
                    connection = key.fileobj
                    assert isinstance(connection, Connection)
                    if not connection.receive():
                        continue
                    now = clock()
                    latencies.append(now - started[connection])
                    received += connection.bytes
                    failed += connection.status >= 300
                    if issued >= limit or (measuring and total is None and now >= until):
                        del started[connection]
                        continue
                    started[connection] = now
                    connection.send(make(self.number))
                    self.number += 1
                    issued += 1
                if not measuring and clock() >= until:
                    measuring, began, until = True, clock(), clock() + seconds
                    latencies.clear()
                    failed = received = 0
                    client, server = time.process_time(), self._server.cpu()
            took = clock() - began
        done = len(latencies) or 1
        return Loop(
            rate=len(latencies) / took,
            p50=percentile(latencies or [0.0], 0.5) * 1000,
            p99=percentile(latencies or [0.0], 0.99) * 1000,
            cpu=(self._server.cpu() - server) / done * 1000,
            client=(time.process_time() - client) / took,
            failed=failed,
            megabytes=received / done / 1e6,
        )

    def close(self) -> None:
        """Close the connections."""
        for each in self._connections:
            each.close()
