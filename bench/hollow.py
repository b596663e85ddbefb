"""A big cluster whose nodes are hollow: how fast its nodes are there, how fast many pods run, and what it costs to hold them."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubeling.api.resources import DEPLOYMENTS, PODS
from kubeling.bench import report
from kubeling.bench.cluster import idle_costs
from kubeling.bench.report import Figure
from kubeling.client.informer import Informer
from kubeling.cluster.pytest_plugin import ClusterHandle

#: Pods of one Deployment where there are many of them.
_EACH = 1000


def add_flags(flags: argparse.ArgumentParser) -> None:
    """The suite's flags."""
    flags.add_argument("--nodes", type=int, default=1000)
    flags.add_argument("--pods", type=int, default=1000, help="of the one Deployment whose pods are timed")
    flags.add_argument(
        "--hold", type=int, default=0, help="so many pods besides, by Deployments of 1,000, before the cost is measured anew"
    )
    flags.add_argument("--idle-seconds", type=float, default=60)
    flags.add_argument("--json", type=Path, default=Path("bench/results/hollow.json"))


def run(args: argparse.Namespace) -> int:
    """Measure, print, write. The exit status."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="kubeling-bench-") as folder:
        handle = ClusterHandle("bench-hollow", Path(folder) / "home", Path(folder) / "kubeconfig")
        began = time.monotonic()
        try:
            handle.up("--workers=0", f"--hollow-nodes={args.nodes}", "--timeout=600")
            figures.append(
                Figure(
                    f"up with {args.nodes:,} hollow nodes, command to all Ready", time.monotonic() - began, "s", "", _cpu(handle)
                )
            )
            figures += _idle(handle, args.idle_seconds, f"{args.nodes:,} nodes")
            figures += asyncio.run(_deploy(handle, "timed", args.pods, 1))
            if args.hold:
                figures += asyncio.run(_deploy(handle, "held", _EACH, -(-args.hold // _EACH)))
                figures += _idle(handle, args.idle_seconds, f"{args.nodes:,} nodes, {args.hold + args.pods:,} pods")
        finally:
            handle.down()
    print(report.show(figures))
    report.write(figures, args.json)
    print(f"\nwritten to {args.json}")
    return 0


def _idle(handle: ClusterHandle, seconds: float, what: str) -> list[Figure]:
    """The cost of doing nothing, once the last work of what was before is over."""
    time.sleep(10)
    return [
        Figure(f"{what}: {each.name}", each.value, each.unit, "", each.note)
        for each in idle_costs(handle, seconds)
        if each.value >= 20 or "CPU" in each.name
    ]


def _seconds(handle: ClusterHandle) -> dict[str, float]:
    return {each["daemon"]: each.get("cpu_seconds", 0.0) for each in handle.status()["daemons"]}


def _cpu(handle: ClusterHandle, before: dict[str, float] | None = None) -> str:
    """What the busiest daemons have used since."""
    used = {name: seconds - (before or {}).get(name, 0.0) for name, seconds in _seconds(handle).items()}
    busy = sorted(used.items(), key=lambda each: -each[1])[:5]
    return f"CPU {sum(used.values()):.1f} s: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in busy)


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}}}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


async def _deploy(handle: ClusterHandle, name: str, replicas: int, deployments: int) -> list[Figure]:
    """Create Deployments and follow their pods until all run."""
    total = replicas * deployments
    async with handle.client() as client:
        informer = Informer(client, PODS, namespace="default", transform=_shape)
        changed = asyncio.Event()
        informer.add_handler(lambda change: changed.set())
        following = asyncio.create_task(informer.run())
        await informer.synced.wait()
        before, began = _seconds(handle), time.monotonic()
        for number in range(deployments):
            await client.create(DEPLOYMENTS, _deployment(f"{name}-{number}", replicas), "default")
        figures = []
        what = f"{total:,} pods of {deployments} Deployment{'s' if deployments > 1 else ''}"
        aim = "5 s" if total == 1000 else ""
        steps: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
            ("created", lambda pod: True),
            ("bound", lambda pod: pod["node"]),
            ("Running", lambda pod: pod["phase"] == "Running"),
        ]
        for word, reached in steps:
            while sum(1 for each in informer.store if each["app"].startswith(name) and reached(each)) < total:
                changed.clear()
                await changed.wait()
                # A look at every pod for every event would be work of its own.
                await asyncio.sleep(0.05)
            figures.append(Figure(f"{what}: all {word}", time.monotonic() - began, "s", aim if word == "Running" else ""))
        last = figures[-1]
        figures[-1] = Figure(last.name, last.value, last.unit, last.aim, _cpu(handle, before))
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return figures


def _shape(pod: dict[str, Any]) -> dict[str, Any]:
    """As much of a pod as is counted."""
    metadata = {key: pod["metadata"].get(key) for key in ("name", "namespace", "uid", "resourceVersion")}
    app = (pod["metadata"].get("labels") or {}).get("app", "")
    return {
        "metadata": metadata,
        "app": app,
        "node": pod["spec"].get("nodeName"),
        "phase": (pod.get("status") or {}).get("phase"),
    }
