"""A store and an apiserver of this test run's own, controller-managers on request, and a stand-in for kubelets that marks pods as a node would."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from kubeling.api.errors import ApiError
from kubeling.api.resources import NAMESPACES, PODS
from kubeling.api.times import format_time
from kubeling.client.informer import Change, Informer
from kubeling.client.rest import Client
from tests.plane import Plane, running_plane, stop

Obj = dict[str, Any]


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with running_plane(tmp_path_factory.mktemp("plane")) as made:
        yield made


@pytest_asyncio.fixture
async def client(plane: Plane) -> AsyncIterator[Client]:
    async with Client(plane.config()) as made:
        await until(lambda: reachable(made), "the apiserver is ready")
        yield made


async def reachable(client: Client) -> bool:
    try:
        await client.get(NAMESPACES, "default")
    except ApiError:
        return False
    return True


@pytest.fixture
def manager(plane: Plane) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts controller-managers that end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: str) -> subprocess.Popen[bytes]:
        process = plane.manager(*args)
        started.append(process)
        return process

    yield start
    for each in started:
        stop(each)


@pytest_asyncio.fixture
async def namespace(client: Client) -> AsyncIterator[str]:
    """A namespace of the test's own."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    with contextlib.suppress(ApiError):
        await client.delete(NAMESPACES, name)


async def until(check: Callable[[], Awaitable[Any]], what: str, seconds: float = 30) -> Any:
    """Poll until `check` returns something true; its last value is returned. An assertion or 404 in it counts as not yet."""
    deadline = time.monotonic() + seconds
    problem: object = None
    while True:
        try:
            found = await check()
            if found:
                return found
            problem = found
        except AssertionError as error:
            problem = error
        except ApiError as error:
            problem = error
            if error.code != 404:
                raise
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}; last: {problem!r}")
        await asyncio.sleep(0.05)


class Hollow:
    """Plays the nodes of one namespace: pods become Running and ready, and pods that are to be deleted go."""

    def __init__(self, client: Client, namespace: str, node: str = "hollow") -> None:
        self.client, self.namespace, self.node = client, namespace, node
        self.paused: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._addresses: dict[str, str] = {}
        self.informer = Informer(client, PODS, namespace=namespace)
        self.informer.add_handler(self._seen)
        #: What to do with a pod whose image says so: the phase that it ends in.
        self.fate: Callable[[Obj], str] = lambda pod: "Running"

    def _seen(self, change: Change) -> None:
        if change.new is None:
            return
        task = asyncio.get_running_loop().create_task(self._move(change.new))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _move(self, pod: Obj) -> None:
        meta = pod["metadata"]
        with contextlib.suppress(ApiError):
            if meta.get("deletionTimestamp"):
                await self.client.delete(PODS, meta["name"], self.namespace, grace_period_seconds=0, uid=meta["uid"])
            elif (pod.get("status") or {}).get("phase") in (None, "", "Pending") and self.fate(pod) != "Pending":
                if not pod["spec"].get("nodeName"):
                    binding = {
                        "apiVersion": "v1",
                        "kind": "Binding",
                        "metadata": {"name": meta["name"], "namespace": self.namespace},
                        "target": {"apiVersion": "v1", "kind": "Node", "name": wanted_node(pod) or self.node},
                    }
                    await self.client.create(PODS, binding, self.namespace, name=meta["name"], subresource="binding")
                # Its binding is a change too, and may be seen before it runs: a pod keeps the address that it was given first.
                number = len(self._addresses) + 1
                address = self._addresses.setdefault(meta["uid"], f"10.244.{number // 250}.{number % 250 + 1}")
                await mark(self.client, pod, self.fate(pod), address)

    async def __aenter__(self) -> Hollow:
        self._run = asyncio.get_running_loop().create_task(self.informer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._run.cancel()
        for each in list(self._tasks):
            each.cancel()
        await asyncio.gather(self._run, *self._tasks, return_exceptions=True)


def wanted_node(pod: Obj) -> str:
    """The node to which a DaemonSet's affinity pins a pod."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or [{}]
    fields = terms[0].get("matchFields") or [{}]
    return str((fields[0].get("values") or [""])[0])


async def mark(client: Client, pod: Obj, phase: str, address: str = "", *, ready: bool = True) -> Obj:
    """Write a pod's status as a kubelet would."""
    now = format_time(datetime.now(UTC))
    is_ready = "True" if ready and phase == "Running" else "False"
    status: Obj = {
        "phase": phase,
        "conditions": [
            {"type": kind, "status": is_ready if kind in ("Ready", "ContainersReady") else "True", "lastTransitionTime": now}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
    }
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}], "hostIP": "127.0.0.1", "startTime": now}
    meta = pod["metadata"]
    return await client.patch(PODS, meta["name"], {"status": status}, meta["namespace"], subresource="status")


@pytest_asyncio.fixture
async def hollow(client: Client, namespace: str) -> AsyncIterator[Hollow]:
    async with Hollow(client, namespace) as made:
        yield made


@pytest.fixture
def tools() -> Any:
    """This module: test files cannot import it."""
    return sys.modules[__name__]
