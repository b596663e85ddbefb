"""All measurements in order."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kubeling.bench.etcd import calls, faults, servers, volume, watches
from kubeling.bench.etcd.h2 import Failed
from kubeling.bench.etcd.results import Results
from kubeling.bench.etcd.servers import Cluster
from kubeling.bench.etcd.throughput import ClosedLoop, Loop, keep_alives

_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    seconds: float
    clients: tuple[int, ...]
    events: int
    keys: int
    large_keys: int
    gap_seconds: float
    kills: int


FULL = Plan(seconds=3, clients=(1, 16, 64, 256), events=200, keys=100_000, large_keys=50_000, gap_seconds=8, kills=3)
QUICK = Plan(seconds=1, clients=(1, 64), events=50, keys=20_000, large_keys=10_000, gap_seconds=3, kills=1)

Say = Callable[[str], None]


class Bench:
    """One run. A part that fails is said so and left out; the others go on."""

    def __init__(self, plan: Plan, kinds: list[str], folder: Path, results: Results, say: Say) -> None:
        self._plan = plan
        self._kinds = kinds
        self._folder = folder
        self._results = results
        self._say = say
        self._number = 0

    def _clusters(self, stack: ExitStack, members: int) -> list[Cluster]:
        clusters = []
        for kind in self._kinds:
            self._number += 1
            cluster = Cluster(kind, self._folder / f"{kind}-{self._number}", members)
            stack.callback(cluster.stop)
            clusters.append(cluster.start())
        return clusters

    def _each(self, what: str, clusters: Iterable[Cluster], measure: Callable[[Cluster], None]) -> None:
        for cluster in clusters:
            self._say(f"{cluster.kind}: {what}")
            try:
                measure(cluster)
            except (Failed, OSError) as error:
                self._say(f"{cluster.kind}: {what}: NOT MEASURED: {error}")

    def _loop(
        self, what: str, cluster: Cluster, path: str, requests: list[bytes], clients: int, aims: tuple[str, str] = ("", "")
    ) -> None:
        self._record(cluster.kind, what, ClosedLoop(cluster.urls, path, requests, clients).run(self._plan.seconds), aims)

    def _record(self, kind: str, what: str, loop: Loop, aims: tuple[str, str] = ("", "")) -> None:
        add = self._results.add
        add(kind, what, "/s", loop.rate, more=True, aim=aims[0], client=loop.client)
        add(kind, f"{what}: p50", "ms", loop.p50, more=False)
        add(kind, f"{what}: p99", "ms", loop.p99, more=False, aim=aims[1])
        if loop.failed:
            add(kind, f"{what}: failed", "", loop.failed, more=False)

    def throughput(self, members: int) -> None:
        """Puts and gets."""
        plural = "1 member" if members == 1 else f"{members} members"
        with ExitStack() as stack:
            clusters = self._clusters(stack, members)
            for size in (256, 2048):
                requests = calls.puts(range(_KEYS), size)
                for clients in self._plan.clients:
                    what = f"put {size} B, {clients} clients, {plural}"
                    aims = (">= 0.5x", "<= 2x") if clients == 64 else ("", "")
                    self._each(what, clusters, lambda each: self._loop(what, each, calls.PUT, requests, clients, aims))  # noqa: B023
            for serializable in (False, True):
                requests = calls.gets(range(_KEYS), serializable=serializable)
                for clients in (1, 64):
                    what = f"get {'serializable' if serializable else 'linearizable'}, {clients} clients, {plural}"
                    self._each(what, clusters, lambda each: self._loop(what, each, calls.RANGE, requests, clients))  # noqa: B023

    def single(self) -> None:
        """What is measured at one member: ranges, watches, leases."""
        with ExitStack() as stack:
            clusters = self._clusters(stack, 1)
            for cluster in clusters:
                volume.fill(cluster, _KEYS, 256)
            pages = calls.pages(range(0, _KEYS - 600, 17), 500)
            self._each("range", clusters, lambda each: self._loop("range of 500, 16 clients", each, calls.RANGE, pages, 16))
            self._each("old range", clusters, self._old_range)
            for connections in (10, 100):
                self._each(f"watch, {connections} connections", clusters, lambda each: self._watch(each, connections))  # noqa: B023
            self._each(
                "leases",
                clusters,
                lambda each: self._record(
                    each.kind, "lease keep-alive, 64 clients", keep_alives(each.urls[0], 64, self._plan.seconds)
                ),
            )

    def _old_range(self, cluster: Cluster) -> None:
        revision = calls.revision(cluster.urls[0])
        requests = calls.old_pages(range(0, _KEYS - 600, 17), 500, revision - 1)
        self._loop("range of 500 at an old revision, 16 clients", cluster, calls.RANGE, requests, 16)

    def _watch(self, cluster: Cluster, connections: int) -> None:
        told = watches.fan_out(cluster.urls[0], 1000, connections, self._plan.events)
        what = f"put to last of 1,000 watchers, {connections} connections"
        self._results.add(cluster.kind, f"{what}: p50", "ms", told.p50, more=False)
        self._results.add(cluster.kind, f"{what}: p99", "ms", told.p99, more=False, aim="< 5 ms")

    def volume(self) -> None:
        """Memory, restart, pauses. One store after the other, since both need the memory."""
        for kind in self._kinds:
            with ExitStack() as stack:
                self._number += 1
                cluster = Cluster(kind, self._folder / f"{kind}-{self._number}", 1)
                stack.callback(cluster.stop)
                cluster.start()
                self._each("memory and restart", [cluster], self._memory)
            with ExitStack() as stack:
                self._number += 1
                cluster = Cluster(kind, self._folder / f"{kind}-{self._number}", 1)
                stack.callback(cluster.stop)
                cluster.start()
                self._each("pauses", [cluster], self._gaps)

    def _memory(self, cluster: Cluster) -> None:
        add, keys = self._results.add, self._plan.keys
        add(cluster.kind, "memory, empty", "MB", cluster.pss(), more=False)
        volume.fill(cluster, keys, 256)
        add(cluster.kind, f"memory, {keys:,} keys of 256 B", "MB", cluster.pss(), more=False)
        seconds, megabytes = volume.restart(cluster)
        add(cluster.kind, f"restart after kill -9, {keys:,} keys", "s", seconds, more=False)
        add(cluster.kind, f"memory after restart, {keys:,} keys", "MB", megabytes, more=False)

    def _gaps(self, cluster: Cluster) -> None:
        volume.fill(cluster, self._plan.large_keys, 2048)
        gaps = volume.write_gaps(cluster, self._plan.large_keys, 2048, self._plan.gap_seconds)
        size = f"{self._plan.large_keys * 2048 / 1e6:.0f} MB"
        add = self._results.add
        add(cluster.kind, f"longest write gap, {size}, own snapshots only", "ms", gaps.quiet, more=False, aim="< 100 ms")
        add(cluster.kind, f"longest write gap, {size}, compaction", "ms", gaps.compaction, more=False, aim="< 100 ms")
        add(cluster.kind, f"longest write gap, {size}, snapshot download", "ms", gaps.download, more=False, aim="< 100 ms")

    def faults(self) -> None:
        """Leader kills."""
        with ExitStack() as stack:
            clusters = self._clusters(stack, 3)
            self._each("leader kill", clusters, self._kills)

    def _kills(self, cluster: Cluster) -> None:
        took = sorted(faults.leader_kill(cluster) for _ in range(self._plan.kills))
        self._results.add(cluster.kind, "leader killed until a write succeeds, median", "s", took[len(took) // 2], more=False)
        self._results.add(cluster.kind, "leader killed until a write succeeds, worst", "s", took[-1], more=False, aim="< 1.5 s")


PARTS: dict[str, Callable[[Bench], None]] = {
    "one": lambda bench: bench.throughput(1),
    "three": lambda bench: bench.throughput(3),
    "single": Bench.single,
    "volume": Bench.volume,
    "faults": Bench.faults,
}


def add_flags(flags: argparse.ArgumentParser) -> None:
    """The suite's flags."""
    flags.add_argument("--quick", action="store_true", help="fewer points, shorter, less data: about two minutes")
    flags.add_argument("--parts", default=",".join(PARTS), metavar="P,…", help=f"of {', '.join(PARTS)}")
    flags.add_argument("--stores", default=",".join(servers.COMMANDS), metavar="S,…", help="which stores (default: both)")
    flags.add_argument(
        "--dir", type=Path, default=None, help="where the stores' data live while it runs: on the disk that is to be measured"
    )
    flags.add_argument("--json", type=Path, default=Path("bench/results/etcd.json"))


def run(args: argparse.Namespace) -> int:
    """Measure, print, write. The exit status."""
    plan = QUICK if args.quick else FULL
    wanted = args.stores.split(",")
    kinds = [kind for kind in servers.available() if kind in wanted]
    parts = args.parts.split(",")
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not kinds:
        print(f"error: --parts has no {unknown[0]}" if unknown else f"error: none of {wanted} is installed", file=sys.stderr)
        return 2

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    for missing in set(wanted) - set(kinds):
        say(f"{missing}: NOT MEASURED: it is not installed (Debian: apt-get install etcd-server)")
    with tempfile.TemporaryDirectory(prefix="kubeling-bench-", dir=args.dir) as name:
        folder = Path(name)
        conditions: dict[str, object] = {
            "quick": args.quick,
            "fdatasync_ms": round(servers.disk_sync_ms(folder), 3),
            "load_average_before": os.getloadavg()[0],
            "etcd": subprocess.run(["etcd", "--version"], check=True, capture_output=True, text=True).stdout.split("\n")[0]
            if "etcd" in kinds
            else "",
        }
        results = Results(kinds, conditions)
        bench = Bench(plan, kinds, folder, results, say)
        try:
            for part in parts:
                PARTS[part](bench)
        finally:
            conditions["load_average_after"] = os.getloadavg()[0]
            print(results.show())
            results.write(args.json)
            print(f"\n{conditions}\nwritten to {args.json}")
    return 0
