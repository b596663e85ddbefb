"""What much data costs: memory, restart, and the pauses of the chores."""

from __future__ import annotations

import contextlib
import selectors
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from kubeling.bench.etcd import calls
from kubeling.bench.etcd.h2 import Connection, Failed, Unary, message
from kubeling.bench.etcd.servers import Cluster
from kubeling.bench.etcd.throughput import ClosedLoop
from kubeling.proto import etcd_pb2 as pb


def fill(cluster: Cluster, keys: int, size: int) -> None:
    """Put `keys` keys, each once (a few twice)."""
    ClosedLoop(cluster.urls, calls.PUT, calls.puts(range(keys), size), 64).run(0, total=keys + 64)


def restart(cluster: Cluster) -> tuple[float, float]:
    """Kill the only member; seconds from starting it again until it answers, and its memory in MB then."""
    cluster.kill(0)
    seconds = cluster.restart(0)
    return seconds, cluster.pss()


@dataclass(frozen=True, slots=True)
class Gaps:
    """The longest time in ms without a completed write: nothing else going on, while the past is compacted, while a snapshot is downloaded."""

    quiet: float
    compaction: float
    download: float
    overall_rate: float


def write_gaps(cluster: Cluster, keys: int, size: int, seconds: float) -> Gaps:
    """16 clients overwrite `keys` keys of `size` bytes; meanwhile each chore is done. The store's own snapshots come when they come."""
    requests = calls.puts(range(keys), size)

    def loop(chore: contextlib.AbstractContextManager[None]) -> tuple[float, float]:
        with chore:
            done = ClosedLoop(cluster.urls, calls.PUT, requests, 16).run(seconds)
        return done.longest_gap, done.rate

    quiet, rate = loop(contextlib.nullcontext())
    compaction, _ = loop(_meanwhile(lambda: _compact(cluster.urls[0])))
    download, _ = loop(_meanwhile(lambda: _download(cluster.urls[0])))
    return Gaps(quiet, compaction, download, rate)


@contextlib.contextmanager
def _meanwhile(chore: object) -> Iterator[None]:
    """Do the chore in a thread, half a second after the load has begun. It only waits, so it takes nothing from the client."""
    failures: list[BaseException] = []

    def work() -> None:
        time.sleep(0.8)
        try:
            assert callable(chore)
            chore()
        except (Failed, OSError) as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()
    if failures:
        raise failures[0]


def _compact(url: str) -> None:
    """Compact all but the newest revision."""
    ask = Unary(url, calls.COMPACT)
    ask(pb.CompactionRequest(revision=calls.revision(url)).SerializeToString(), 60)
    ask.close()


def _download(url: str) -> None:
    """Fetch a snapshot, as `etcdctl snapshot save` does, and throw it away."""
    connection = Connection(url, calls.SNAPSHOT)
    received = 0
    ended: list[int] = []

    def count(stream: int, piece: bytes) -> None:
        nonlocal received
        received += len(piece)

    connection.on_data, connection.on_end = count, ended.append
    connection.call(message(pb.SnapshotRequest().SerializeToString()))
    connection.flush()
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while not ended:
            if not selector.select(60):
                raise Failed("the snapshot stands still")
            connection.receive()
            connection.flush()
    connection.close()
    if not received:
        raise Failed("no snapshot came")
