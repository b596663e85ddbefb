"""The processes that are measured, and a stand-in for kubelets that says of every pod that it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.resources import PODS
from kubeling.bench.scheduler.plane import Plane, stop
from kubeling.client.informer import Change, Informer
from kubeling.client.rest import Client

Obj = dict[str, Any]
_PARALLEL = 32


@contextlib.contextmanager
def controllers(plane: Plane) -> Iterator[subprocess.Popen[bytes]]:
    """A controller-manager with all its controllers."""
    with open(plane.folder / "controllers.log", "ab") as log:
        command = [sys.executable, "-m", "kubeling.controllers", f"--kubeconfig={plane.kubeconfig}", "--secure-port=0"]
        process = subprocess.Popen([*command, "--leader-elect=false"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        stop(process)


async def each(items: list[Any], work: Callable[[Any], Awaitable[Any]]) -> None:
    """Do the work for every item, so many at a time."""
    room = asyncio.Semaphore(_PARALLEL)

    async def one(item: Any) -> None:
        async with room:
            await work(item)

    await asyncio.gather(*map(one, items))


class Readiness:
    """Marks pods as ready as they come, and counts what is there. Use as an async context manager."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client, self._namespace = client, namespace
        self.informer = Informer(client, PODS, namespace=namespace)
        self.informer.add_handler(self._seen)
        self._changed = asyncio.Event()
        self._queue: asyncio.Queue[str] = asyncio.Queue(maxsize=100_000)
        self._tasks: list[asyncio.Task[None]] = []

    def _seen(self, change: Change) -> None:
        self._changed.set()
        if change.old is None and change.new is not None:
            self._queue.put_nowait(change.new["metadata"]["name"])

    async def _mark(self) -> None:
        ready = {"phase": "Running", "conditions": [{"type": kind, "status": "True"} for kind in ("ContainersReady", "Ready")]}
        while True:
            name = await self._queue.get()
            with contextlib.suppress(ApiError):
                await self._client.patch(PODS, name, {"status": ready}, self._namespace, subresource="status")

    async def until(self, condition: Callable[[list[Obj]], bool]) -> None:
        """Wait until the pods are so."""
        while not condition(list(self.informer.store)):
            self._changed.clear()
            await self._changed.wait()

    async def __aenter__(self) -> Readiness:
        self._tasks = [asyncio.create_task(self.informer.run()), *(asyncio.create_task(self._mark()) for _ in range(_PARALLEL))]
        await self.informer.synced.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
