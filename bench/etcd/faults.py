"""The leader of three is killed: how long until writes succeed again."""

from __future__ import annotations

import selectors
import time

from kubeling.bench.etcd import calls
from kubeling.bench.etcd.h2 import Connection, Failed
from kubeling.bench.etcd.servers import Cluster

#: A new put goes to each survivor every so many seconds: an answer that the dead leader owes is never waited for.
_EVERY = 0.02
_PER_CONNECTION = 100
_PATIENCE = 30.0


def leader_kill(cluster: Cluster) -> float:
    """Kill the leader; the seconds until a put that was sent afterwards is answered. The member is started again."""
    cluster.leader_first()
    requests = calls.puts(range(100), 256)
    connections: list[Connection] = []
    answered: list[float] = []

    def connect(url: str) -> Connection:
        connection = Connection(url, calls.PUT)
        connection.on_data = lambda stream, piece: answered.append(time.monotonic())
        connections.append(connection)
        selector.register(connection, selectors.EVENT_READ)
        return connection

    with selectors.EpollSelector() as selector:
        current = [connect(url) for url in cluster.urls[1:]]
        cluster.kill(0)
        killed = time.monotonic()
        number = 0
        while not answered:
            if time.monotonic() - killed > _PATIENCE:
                raise Failed("no write since the leader was killed")
            number += 1
            if number % _PER_CONNECTION == 0:
                # What the dead leader still owes fills the window of a connection, and may do so for long.
                current = [connect(url) for url in cluster.urls[1:]]
            for connection in current:
                connection.call(requests[number % len(requests)])
                connection.flush()
            for found, _ in selector.select(_EVERY):
                assert isinstance(found.fileobj, Connection)
                found.fileobj.receive()
    for connection in connections:
        connection.close()
    cluster.restart(0)
    return answered[0] - killed
