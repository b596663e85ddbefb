"""Fan-out: one pod changes, and so many watchers are told."""

from __future__ import annotations

import json
import selectors
import time
from dataclasses import dataclass

from kubeling.bench.api import objects
from kubeling.bench.api.servers import Server
from kubeling.bench.api.wire import Connection, Failed, fetch, request
from kubeling.bench.report import percentile

_PATIENCE = 30.0
_SETTLE = 1.0
#: Numbers that no other part uses: a patch that changes nothing is no event.
_FIRST = 50_000_000


@dataclass(frozen=True, slots=True)
class FanOut:
    """Milliseconds from the sending of a change to a watcher's receipt (`p50`, `p99`) and to the last one's (`last`); KB a watcher and a connection without one; CPU ms an event."""

    p50: float
    p99: float
    last: float
    memory: float
    connection: float
    cpu: float
    client: float


def fan_out(server: Server, watchers: int, events: int) -> FanOut:
    """`events` changes of one pod, one after the other, each awaited by all of `watchers`, which have a connection each."""
    path = f"/api/v1/namespaces/{objects.NAMESPACE}/pods"
    before = server.memory()
    connections = _open(server, watchers, request("GET", f"{path}?limit=1"))
    connected = server.memory()
    # From now on, and not all pods at first.
    version = _version(server, path)
    for connection in connections:
        connection.send(request("GET", f"{path}?watch=1&resourceVersion={version}&timeoutSeconds=3600"))
    writer = Connection(server.url, server.tls)
    clock = time.perf_counter
    delays: list[float] = []
    last: list[float] = []
    change = objects.patches(1)
    try:
        with selectors.EpollSelector() as selector:
            for connection in connections:
                selector.register(connection, selectors.EVENT_READ, 0)
            _heads(selector, watchers)
            memory = (server.memory() - connected) / watchers
            selector.register(writer, selectors.EVENT_READ, -1)
            cpu, client, began = server.cpu(), time.process_time(), clock()
            for number in range(events + 5):
                if number == 5:
                    delays.clear()
                    last.clear()
                    cpu, client, began = server.cpu(), time.process_time(), clock()
                sent = clock()
                writer.send(change(_FIRST + number))
                told, answered = 0, False
                while told < watchers or not answered:
                    ready = selector.select(_PATIENCE)
                    if not ready:
                        raise Failed(f"{told} of {watchers} watchers were told in {_PATIENCE} s")
                    for key, _ in ready:
                        connection = key.fileobj
                        assert isinstance(connection, Connection)
                        if key.data == -1:
                            answered = connection.receive() or answered
                            continue
                        if any(b"}\n" in piece for piece in connection.pieces()):
                            told += 1
                            delays.append(clock() - sent)
                last.append(delays[-1])
            took = clock() - began
            return FanOut(
                p50=percentile(delays, 0.5) * 1000,
                p99=percentile(delays, 0.99) * 1000,
                last=percentile(last, 0.5) * 1000,
                memory=memory,
                connection=(connected - before) / watchers,
                cpu=(server.cpu() - cpu) / events * 1000,
                client=(time.process_time() - client) / took,
            )
    finally:
        for connection in (*connections, writer):
            connection.close()


def _open(server: Server, count: int, first: bytes) -> list[Connection]:
    """Connections on which one request has been answered."""
    connections = []
    for _ in range(count):
        connection = Connection(server.url, server.tls)
        connections.append(connection)
        connection.send(first)
        with selectors.EpollSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            while not connection.receive():
                if not selector.select(_PATIENCE):
                    raise Failed(f"no answer in {_PATIENCE} s")
    return connections


def _version(server: Server, path: str) -> str:
    """A revision of just now: that of an empty list."""
    found = json.loads(fetch(server.url, server.tls, request("GET", f"{path}?labelSelector=none%3Dnone")))
    return str(found["metadata"]["resourceVersion"])


def _heads(selector: selectors.BaseSelector, watchers: int) -> None:
    """Wait until each watch has begun."""
    begun: set[int] = set()
    while len(begun) < watchers:
        ready = selector.select(_PATIENCE)
        if not ready:
            raise Failed(f"{len(begun)} of {watchers} watches began in {_PATIENCE} s")
        for key, _ in ready:
            assert isinstance(key.fileobj, Connection)
            if any(b"200 OK" in piece for piece in key.fileobj.pieces()):
                begun.add(key.fd)
    time.sleep(_SETTLE)
