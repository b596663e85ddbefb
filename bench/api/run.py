"""All measurements in order, each at every server that is installed."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeling.bench.api import objects, reference, servers, watches
from kubeling.bench.api.load import Clients, Loop
from kubeling.bench.api.servers import OURS, THEIRS, Server
from kubeling.bench.api.wire import Failed, fetch, request
from kubeling.bench.etcd.results import Results
from kubeling.bench.etcd.servers import disk_sync_ms

_POOL = 500
_REFERENCE = "upstream 1.20"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    seconds: float
    clients: tuple[int, ...]
    watchers: tuple[int, ...]
    events: int
    objects: int


FULL = Plan(seconds=3, clients=(1, 16, 64), watchers=(100, 1000), events=200, objects=30_000)
QUICK = Plan(seconds=1, clients=(1, 16), watchers=(200,), events=40, objects=5000)
Say = Callable[[str], None]


class Bench:
    """One run at one server."""

    def __init__(self, plan: Plan, server: Server, results: Results, say: Say) -> None:
        self._plan = plan
        self._server = server
        self._results = results
        self._say = say
        self.stored: dict[str, Any] = {}

    def _add(self, name: str, unit: str, value: float, *, more: bool = False, aim: str = "", client: float | None = None) -> None:
        self._results.add(self._server.kind, name, unit, value, more=more, aim=aim, client=client)

    def _record(self, name: str, loop: Loop, aims: tuple[str, str] = ("", "")) -> None:
        self._add(name, "/s", loop.rate, more=True, aim=aims[0], client=loop.client)
        self._add(f"{name}: p50", "ms", loop.p50, aim=aims[1])
        self._add(f"{name}: p99", "ms", loop.p99)
        self._add(f"{name}: CPU a request", "ms", loop.cpu)
        if loop.failed:
            self._add(f"{name}: failed", "", loop.failed)

    def _loop(self, name: str, make: objects.Make, clients: int, aims: tuple[str, str] = ("", "")) -> None:
        plural = "1 client" if clients == 1 else f"{clients} clients"
        self._say(f"{self._server.kind}: {name}, {plural}")
        pool = Clients(self._server, clients)
        try:
            self._record(f"{name}, {plural}", pool.run(make, self._plan.seconds), aims)
        finally:
            pool.close()

    def _fill(self, where: str, count: int) -> None:
        """`count` pods named p-00000000 and so on."""
        pool = Clients(self._server, 16)
        try:
            done = pool.run(objects.creates(where, "p"), 0, total=count)
        finally:
            pool.close()
        if done.failed:
            raise Failed(f"{done.failed} of {count} pods were refused")

    def prepare(self) -> None:
        """Namespaces, and pods to read and change."""
        for name in (objects.NAMESPACE, "creates", "list500", "list5000", "many"):
            statuses = self._server.exchange(objects.namespace(name), objects.account(name))
            if any(status not in (200, 201, 409) for status in statuses):
                raise Failed(f"namespace {name}: {statuses}")
        self._fill(objects.NAMESPACE, _POOL)
        path = f"/api/v1/namespaces/{objects.NAMESPACE}/pods/p-00000000"
        self.stored = json.loads(fetch(self._server.url, self._server.tls, request("GET", path)))

    def verbs(self) -> None:
        """get, create, update, patch, apply."""
        for clients in self._plan.clients:
            self._loop("get", objects.gets(_POOL), clients, (">= upstream's", ""))
        for clients in self._plan.clients:
            self._loop("create pod", objects.creates("creates", f"c{clients}"), clients, (">= upstream's", ""))
        for clients in self._plan.clients:
            self._loop("update pod", objects.updates(_POOL, self.stored), clients)
            self._loop("patch pod", objects.patches(_POOL), clients)
            self._loop("apply pod", objects.applies(_POOL), clients)

    def lists(self) -> None:
        """Lists of 500 and 5,000 pods, and what 5,000 pods cost in memory."""
        self._fill("list500", 500)
        self._fill("list5000", 5000)
        for clients in self._plan.clients[:2]:
            self._loop("list of 500", objects.lists("list500"), clients)
            aims = ("", "< 150 ms" if clients == 1 else "")
            self._loop("list of 5,000", objects.lists("list5000"), clients, aims)
        for form, accept in objects.FORMS.items():
            self._loop(f"list of 5,000 {form}", objects.lists("list5000", accept=accept), 1, ("", "< 150 ms"))
        self._pages()
        self._add("memory after the lists", "MB", self._server.memory() / 1024, aim="< 300 MB")

    def objects(self) -> None:
        """What an object costs in memory, with the history of its creation."""
        count = self._plan.objects
        self._say(f"{self._server.kind}: {count:,} pods")
        before = self._server.memory()
        self._fill("many", count)
        self._add(f"memory an object, of {count:,} pods", "KB", (self._server.memory() - before) / count, aim="< 20 KB")

    def _pages(self) -> None:
        """What kubectl asks for: 500 of 5,000 pods as a Table, and then the next 500."""
        table = objects.FORMS["as Table"]
        self._loop("page of 500", objects.lists("list5000", "limit=500"), 1)
        self._loop("page of 500 as Table", objects.lists("list5000", "limit=500", table), 1)
        first = request("GET", "/api/v1/namespaces/list5000/pods?limit=500")
        token = json.loads(fetch(self._server.url, self._server.tls, first))["metadata"]["continue"]
        for form, accept in (("", "application/json"), (" as Table", table)):
            self._loop(f"following page of 500{form}", objects.lists("list5000", f"limit=500&continue={token}", accept), 1)

    def watch(self) -> None:
        """Fan-out."""
        for count in self._plan.watchers:
            self._say(f"{self._server.kind}: {count} watchers")
            told = watches.fan_out(self._server, count, self._plan.events)
            name = f"change to {count:,} watchers"
            self._add(f"{name}: p50", "ms", told.p50, client=told.client)
            self._add(f"{name}: p99", "ms", told.p99, aim="< 50 ms" if count == 1000 else "")
            self._add(f"{name}: last of them, median", "ms", told.last)
            self._add(f"{name}: CPU an event", "ms", told.cpu)
            self._add(f"{name}: memory a watcher", "KB", told.memory)
            self._add(f"{name}: memory a connection", "KB", told.connection)


PARTS: dict[str, Callable[[Bench], None]] = {
    "verbs": Bench.verbs,
    "lists": Bench.lists,
    "objects": Bench.objects,
    "watch": Bench.watch,
}


def add_flags(flags: argparse.ArgumentParser) -> None:
    """The suite's flags."""
    flags.add_argument("--quick", action="store_true", help="fewer points, shorter: about a minute")
    flags.add_argument("--parts", default=",".join(PARTS), metavar="P,…", help=f"of {', '.join(PARTS)}")
    flags.add_argument("--servers", default=f"{OURS},{THEIRS}", metavar="S,…", help="which servers (default: both)")
    flags.add_argument("--dir", type=Path, default=None, help="where the stores' data live while it runs")
    flags.add_argument("--json", type=Path, default=Path("bench/results/api.json"))


def run(args: argparse.Namespace) -> int:
    """Measure, print, write. The exit status."""
    plan = QUICK if args.quick else FULL
    wanted, parts = args.servers.split(","), args.parts.split(",")
    kinds = [kind for kind in servers.available() if kind in wanted]
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not kinds:
        print(f"error: --parts has no {unknown[0]}" if unknown else f"error: none of {wanted} is installed", file=sys.stderr)
        return 2

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    shown = [*kinds, _REFERENCE]
    with tempfile.TemporaryDirectory(prefix="kubeling-bench-", dir=args.dir) as name:
        folder = Path(name)
        conditions: dict[str, object] = {
            "quick": args.quick,
            "fdatasync_ms": round(disk_sync_ms(folder), 3),
            "load_average_before": os.getloadavg()[0],
            THEIRS: _version() if THEIRS in kinds else "not installed; its column has the reference figures only",
        }
        results = Results(shown, conditions, ours=OURS, theirs=THEIRS if THEIRS in kinds else _REFERENCE)
        try:
            for kind in kinds:
                _measure(kind, plan, parts, folder, results, say)
        finally:
            for row, value in reference.FIGURES.items():
                results.add_known(_REFERENCE, row, value)
            conditions["load_average_after"] = os.getloadavg()[0]
            print(results.show())
            results.write(args.json)
            print(f"\n{conditions}\nwritten to {args.json}")
    return 0


def _measure(kind: str, plan: Plan, parts: list[str], folder: Path, results: Results, say: Say) -> None:
    """A part that fails is said so and left out; the others go on."""
    server = Server(kind, folder / kind)
    bench = Bench(plan, server, results, say)
    try:
        results.add(kind, "cold start with its store", "s", server.start(), more=False)
        results.add(kind, "memory, empty", "MB", server.memory() / 1024, more=False)
        bench.prepare()
        for part in parts:
            try:
                PARTS[part](bench)
            except (Failed, OSError) as error:
                say(f"{kind}: {part}: NOT MEASURED: {error}")
    finally:
        server.stop()


def _version() -> str:
    return subprocess.run([THEIRS, "--version"], check=True, capture_output=True, text=True).stdout.strip()
