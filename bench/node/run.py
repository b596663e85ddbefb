"""One run: the same measurements on a node with crilite and on a node with containerd and runc, one after the other, with the same kubelet."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubeling.bench.node import containerd, measure
from kubeling.bench.node.containerd import ContainerdNode
from kubeling.cluster.pytest_plugin import ClusterHandle

Figures = dict[str, tuple[float, str]]

#: What it is built for: figure to (aim in words, whether the two columns satisfy it).
AIMS: dict[str, tuple[str, Callable[[float, float | None], bool]]] = {
    "pod create to Running, p50": ("1/4 of containerd's", lambda ours, theirs: theirs is None or ours <= theirs / 4),
    "110 pods at once, all Running": ("10 s", lambda ours, _: ours <= 10),
    "memory of kubelet and runtime, 110 pods": ("90 MB", lambda ours, _: ours <= 90),
    "CPU of kubelet and runtime, 110 pods": ("1 % of a core", lambda ours, _: ours <= 1),
}


def add_flags(flags: argparse.ArgumentParser) -> None:
    flags.add_argument("--pods", type=int, default=30, help="pods started one after the other")
    flags.add_argument("--many", type=int, default=110, help="pods started at once")
    flags.add_argument("--idle-seconds", type=float, default=20)
    flags.add_argument("--runtimes", default="crilite,containerd")
    flags.add_argument("--json", type=Path, default=Path("bench/results/node.json"))


def run(args: argparse.Namespace) -> int:
    """Measure, print a table, write JSON."""
    found: dict[str, Figures] = {}
    for runtime in args.runtimes.split(","):
        if runtime == "containerd" and (words := containerd.missing()):
            print(f"without containerd: {words}", file=sys.stderr)
            continue
        folder = Path(tempfile.mkdtemp(prefix="kl-bench-"))
        cluster = ClusterHandle(f"bench-{runtime}", folder / "home", folder / "kubeconfig")
        node = ContainerdNode(folder / "cd") if runtime == "containerd" else None
        try:
            if node is None:
                cluster.up("--workers=1", f"--owner={os.getpid()}")
            else:
                node.up(cluster, f"--owner={os.getpid()}")
            found[runtime] = asyncio.run(measured(cluster, args, node))
        finally:
            cluster.down()
            if node is not None:
                node.stop(kill=True)
            shutil.rmtree(folder, ignore_errors=True)
    print(table(found))
    write(found, args.json)
    print(f"\nwritten to {args.json}")
    return 0


async def measured(cluster: ClusterHandle, args: argparse.Namespace, node: ContainerdNode | None) -> Figures:
    figures: Figures = {}
    async with cluster.client() as client:
        lab = measure.Lab(cluster, client, node)
        steps: list[Callable[[], Awaitable[Figures]]] = [
            lambda: lab.idle(0, args.idle_seconds),
            lambda: lab.one_by_one(args.pods),
            lab.execs,
            lab.logs,
            lambda: lab.many(args.many),
            lambda: lab.idle(args.many, args.idle_seconds),
            lambda: lab.end(args.many),
            lab.image,
        ]
        for step in steps:
            for name, (value, unit) in (await step()).items():
                figures[name] = (value, unit)
                print(f"{cluster.name}: {name}: {value:,.1f} {unit}", file=sys.stderr, flush=True)
    return figures


def table(found: dict[str, Figures]) -> str:
    """A row for each figure, a column for each runtime."""
    runtimes = list(found)
    rows = [["what", *runtimes, "aim", ""]]
    for name in dict.fromkeys(name for each in found.values() for name in each):
        cells = [
            f"{found[runtime][name][0]:,.3g} {found[runtime][name][1]}" if name in found[runtime] else "" for runtime in runtimes
        ]
        words, verdict = "", ""
        if name in AIMS and name in found.get("crilite", {}):
            words, holds = AIMS[name]
            theirs = found.get("containerd", {}).get(name)
            verdict = "met" if holds(found["crilite"][name][0], theirs[0] if theirs else None) else "missed"
        rows.append([name, *cells, words, verdict])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def write(found: dict[str, Figures], path: Path) -> None:
    machine = {"processors": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}
    figures: dict[str, Any] = {
        runtime: {name: {"value": round(value, 3), "unit": unit} for name, (value, unit) in each.items()}
        for runtime, each in found.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, "figures": figures}
    path.write_text(json.dumps(document, indent=2) + "\n")
