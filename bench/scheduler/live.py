"""Pods a second through a real apiserver: the same workloads, created by a client, scheduled by the scheduler's own process, seen by a watch.

The clock runs from the first measured pod's creation to the last one's binding, as the watch shows it: creating, deciding, binding and watching all share
the machine's processors with this client.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.resources import NODES, PODS, PRIORITY_CLASSES, SERVICES
from kubeling.bench.scheduler import workloads as w
from kubeling.bench.scheduler.plane import Plane
from kubeling.client.informer import Change, Informer
from kubeling.client.rest import Client

Obj = dict[str, Any]

#: Requests on their way at once.
PARALLEL = 32
#: A workload that is not done by then is given up.
SECONDS = 900.0
HIGH = "high"


def run(workload: w.Workload) -> dict[str, Any]:
    """The measured part's pods a second."""
    with tempfile.TemporaryDirectory(prefix="kubeling-bench-") as folder, Plane(Path(folder) / "plane") as plane:
        plane.scheduler("--leader-elect=false")
        return asyncio.run(asyncio.wait_for(_Live(plane).run(workload), SECONDS))


def priority_class() -> Obj:
    """What pods of high priority name."""
    return {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": HIGH}, "value": 10}


class _Live:
    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._numbers = itertools.count()
        self._bound: set[str] = set()
        self._changed = asyncio.Event()

    async def run(self, workload: w.Workload) -> dict[str, Any]:
        async with self._plane.client() as client:
            await self._plane.namespace(client, "default")
            await client.create(PRIORITY_CLASSES, priority_class())
            informer = Informer(client, PODS)
            informer.add_handler(self._seen)
            watching = asyncio.ensure_future(informer.run())
            churning: list[asyncio.Task[None]] = []
            figures: dict[str, Any] = {}
            try:
                for each in workload.operations:
                    if isinstance(each, w.Churn):
                        churning.append(asyncio.create_task(self._churn(client, each)))
                    else:
                        figures |= await self._operate(client, each)
            finally:
                for task in (watching, *churning):
                    task.cancel()
                await asyncio.gather(watching, *churning, return_exceptions=True)
            return figures

    def _seen(self, change: Change) -> None:
        pod = change.obj
        if (pod.get("spec") or {}).get("nodeName"):
            self._bound.add(pod["metadata"]["uid"])
            self._changed.set()

    async def _operate(self, client: Client, operation: w.Operation) -> dict[str, Any]:
        match operation:
            case w.CreateNodes(count, zones, tainted, name):
                huge = {"pods": 90_000} if name else {}
                nodes = [
                    w.node(
                        name or f"node-{next(self._numbers)}",
                        zone=zones[at % len(zones)] if zones else "",
                        tainted=tainted,
                        **huge,
                    )
                    for at in range(count)
                ]
                await _all(client.create(NODES, node) for node in nodes)
            case w.CreateNamespaces(prefix, count, labelled):
                for number in range(count):
                    await self._plane.namespace(client, f"{prefix}-{number}", {"team": "devops"} if labelled else None)
            case w.CreateService(namespace):
                spec = {"selector": {"app": "scheduler-perf"}, "ports": [{"port": 80}]}
                await client.create(
                    SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}, namespace
                )
            case w.CreatePods():
                return await self._pods(client, operation)
        return {}

    async def _pods(self, client: Client, operation: w.CreatePods) -> dict[str, Any]:
        names = [f"{operation.namespace}-{number}" for number in range(operation.spread_over)] or [operation.namespace]
        began, cpu = time.monotonic(), self._plane.cpu()
        made = await _all(self._pod(client, operation.template, names[at % len(names)]) for at in range(operation.count))
        created = time.monotonic()
        wanted = {pod["metadata"]["uid"] for pod in made}
        while not wanted <= self._bound:
            self._changed.clear()
            await self._changed.wait()
        if not operation.collect:
            return {}
        done = time.monotonic()
        spent = {name: seconds - cpu[name] for name, seconds in self._plane.cpu().items()}
        return {
            "pods_per_second": round(len(wanted) / (done - began)),
            "created_per_second": round(len(wanted) / (created - began)),
            "cpu_ms_per_pod": {name: round(seconds * 1000 / len(wanted), 2) for name, seconds in spent.items()},
        }

    async def _pod(self, client: Client, template: str, namespace: str) -> Obj:
        pod = w.TEMPLATES[template]()
        if pod["spec"].pop("priority", 0):
            pod["spec"]["priorityClassName"] = HIGH  # The apiserver takes a priority only by its class.
        pod["metadata"]["name"] = f"{template}-{next(self._numbers)}"
        return await client.create(PODS, pod, namespace)

    async def _churn(self, client: Client, churn: w.Churn) -> None:
        while True:
            await asyncio.sleep(churn.seconds)
            with contextlib.suppress(ApiError):
                pod = await self._pod(client, churn.template, "default")
                if churn.node_and_service:
                    name = f"churn-{next(self._numbers)}"
                    await client.create(NODES, w.node(name))
                    await client.delete(NODES, name)
                    await client.delete(PODS, pod["metadata"]["name"], "default", grace_period_seconds=0)


async def _all(work: Iterable[Awaitable[Obj]]) -> list[Obj]:
    """All results, a limited number at a time, in order."""
    slots = asyncio.Semaphore(PARALLEL)

    async def one(each: Awaitable[Obj]) -> Obj:
        async with slots:
            return await each

    return list(await asyncio.gather(*(one(each) for each in work)))
