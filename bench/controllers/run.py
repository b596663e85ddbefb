"""The workloads, one after the other."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeling.api.errors import is_not_found
from kubeling.api.resources import CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, SERVICE_ACCOUNTS, Resource
from kubeling.bench import report
from kubeling.bench.controllers.plane import Obj, Readiness, controllers, each
from kubeling.bench.report import Figure
from kubeling.bench.scheduler.plane import Plane, _cpu
from kubeling.client.informer import Informer
from kubeling.client.rest import Client


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    replicas: int = 1000
    deployments: int = 500
    garbage: int = 10_000
    content: int = 5000


FULL, QUICK = Size(), Size(100, 50, 1000, 500)


def deployment(name: str, replicas: int, image: str = "x:1") -> Obj:
    """A Deployment of one small container."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": image}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


class Bench:
    """One run against one plane."""

    def __init__(self, client: Client, size: Size, manager: int, plane: Plane) -> None:
        self._client, self._size, self._manager, self._plane = client, size, manager, plane
        self.figures: list[Figure] = []
        self._began = (0.0, 0.0, 0.0)

    def _start(self) -> None:
        self._began = (time.monotonic(), _cpu(self._manager), self._plane.cpu()["apiserver"])

    def _stop(self, name: str) -> None:
        took = time.monotonic() - self._began[0]
        busy = [_cpu(self._manager) - self._began[1], self._plane.cpu()["apiserver"] - self._began[2]]
        note = f"CPU: controllers {busy[0]:.1f} s, apiserver {busy[1]:.1f} s"
        self.figures.append(Figure(name, took, "s", "", note))
        print(f"{name}: {took:.2f} s; {note}", flush=True)

    async def _namespace(self, name: str) -> str:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self._client.create(NAMESPACES, body)
        await self._there(SERVICE_ACCOUNTS, "default", name)
        return name

    async def _there(self, resource: Resource, name: str, namespace: str) -> None:
        while True:
            try:
                await self._client.get(resource, name, namespace)
            except Exception as error:
                if not is_not_found(error):
                    raise
                await asyncio.sleep(0.05)
            else:
                return

    async def scale(self) -> None:
        """1 → many → 0 replicas."""
        name, many = await self._namespace("scale"), self._size.replicas
        async with Readiness(self._client, name) as pods:
            await self._client.create(DEPLOYMENTS, deployment("x", 1), name)
            await pods.until(lambda found: len(found) == 1)
            for wanted in (many, 0):
                self._start()
                await self._client.patch(DEPLOYMENTS, "x", {"spec": {"replicas": wanted}}, name)
                await pods.until(lambda found: len(found) == wanted)  # noqa: B023
                self._stop(f"{1 if wanted else many:,} -> {wanted:,} replicas")

    async def roll(self) -> None:
        """Many Deployments get another image at once."""
        name, many = await self._namespace("roll"), self._size.deployments
        names = [f"d{number}" for number in range(many)]
        async with Readiness(self._client, name) as pods:
            await each(names, lambda one: self._client.create(DEPLOYMENTS, deployment(one, 1), name))
            await pods.until(lambda found: len(found) == many)
            self._start()
            change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:2"}]}}}}
            await each(names, lambda one: self._client.patch(DEPLOYMENTS, one, change, name))
            await pods.until(
                lambda found: len(found) == many and all(one["spec"]["containers"][0]["image"] == "x:2" for one in found)
            )
            self._stop(f"{many:,} Deployments rolled at once")

    async def garbage(self) -> None:
        """An owner of very many goes."""
        name, many = await self._namespace("garbage"), self._size.garbage
        owner = await self._client.create(CONFIG_MAPS, _config_map("owner"), name)
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        names = [f"c{number}" for number in range(many)]
        await each(names, lambda one: self._client.create(CONFIG_MAPS, _config_map(one, ownerReferences=[reference]), name))
        informer = Informer(self._client, CONFIG_MAPS, namespace=name)
        running = asyncio.create_task(informer.run())
        await informer.synced.wait()
        changed = asyncio.Event()
        informer.add_handler(lambda change: changed.set())
        self._start()
        await self._client.delete(CONFIG_MAPS, "owner", name, propagation_policy="Background")
        # The bundle of the cluster's CA may be there.
        while sum(one["metadata"]["name"] in ("owner", "c0") or one["metadata"]["name"][1:].isdigit() for one in informer.store):
            changed.clear()
            await changed.wait()
        self._stop(f"garbage collection of {many:,} objects")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def empty(self) -> None:
        """A full namespace goes."""
        name, many = await self._namespace("full"), self._size.content
        await each([f"c{number}" for number in range(many)], lambda one: self._client.create(CONFIG_MAPS, _config_map(one), name))
        self._start()
        await self._client.delete(NAMESPACES, name)
        informer = Informer(self._client, NAMESPACES, field_selector=f"metadata.name={name}")
        gone = asyncio.Event()
        informer.add_handler(lambda change: gone.set() if change.new is None else None)
        running = asyncio.create_task(informer.run())
        await informer.synced.wait()
        if len(informer.store):
            await gone.wait()
        self._stop(f"a namespace with {many:,} objects deleted")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _config_map(name: str, **meta: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta}, "data": {"k": "v" * 100}}


def add_flags(flags: argparse.ArgumentParser) -> None:
    """The suite's flags."""
    flags.add_argument("--quick", action="store_true", help="a tenth of everything")
    flags.add_argument("--json", type=Path, default=Path("bench/results/controllers.json"))


def run(args: argparse.Namespace) -> int:
    """Measure, print, write. The exit status."""
    figures = asyncio.run(_run(QUICK if args.quick else FULL))
    print("\n" + report.show(figures))
    report.write(figures, args.json)
    print(f"\nwritten to {args.json}")
    return 0


async def _run(size: Size) -> list[Figure]:
    with (
        tempfile.TemporaryDirectory(prefix="kubeling-bench-") as folder,
        Plane(Path(folder) / "plane") as plane,
        controllers(plane) as manager,
    ):
        async with plane.client() as client:
            bench = Bench(client, size, manager.pid, plane)
            for workload in (bench.scale, bench.roll, bench.garbage, bench.empty):
                await workload()
            return bench.figures
