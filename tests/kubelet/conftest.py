"""Pods on a real node, made and watched through the API: on crilite, and in modules that say so once more on containerd.

A module whose marks contain :data:`ON_BOTH_RUNTIMES` runs twice: on the shared test cluster, and on one whose worker has containerd and runc for its runtime.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.pods import container_status, is_ready, phase_of
from kubeling.api.resources import CONFIG_MAPS, EVENTS, NAMESPACES, PODS, SECRETS, Resource
from kubeling.bench.node.containerd import ContainerdNode, missing
from kubeling.client.rest import Client
from kubeling.cluster.pytest_plugin import ClusterHandle
from kubeling.cluster.state import load as state_of

IMAGE = "kubeling.local/host"
Obj = dict[str, Any]


def shell(script: str, name: str = "c", **more: Any) -> Obj:
    """A container that runs `script` in a shell."""
    return {"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script], **more}


#: For `pytestmark`: every test on both runtimes. The tests of a cluster run one after the other.
ON_BOTH_RUNTIMES = pytest.mark.parametrize(
    "runtime",
    [
        pytest.param("crilite", marks=pytest.mark.xdist_group("cluster")),
        pytest.param(
            "containerd",
            marks=[
                pytest.mark.xdist_group("containerd"),
                pytest.mark.slow,
                pytest.mark.skipif(bool(missing()), reason=missing()),
            ],
        ),
    ],
    indirect=True,
)


def serve(port: int) -> str:
    """A shell command that serves the current folder over HTTP, in both images: busybox has its own server, the node's files have Python's."""
    return f"{{ httpd -f -p {port} 2>/dev/null || python3 -m http.server {port}; }}"


#: Goes on until it is told to stop, and then stops at once.
FOREVER = "trap 'exit 0' TERM; while true; do sleep 0.1; done"


class Pods:
    """A namespace of one's own, and what a test does in it."""

    def __init__(self, cluster: ClusterHandle, client: Client, namespace: str, containerd: ContainerdNode | None = None) -> None:
        self.cluster = cluster
        self.client = client
        self.namespace = namespace
        self._containerd = containerd

    @property
    def runtime(self) -> str:
        return "crilite" if self._containerd is None else "containerd"

    def kill_runtime(self, node: str) -> None:
        """`kill -9` the container runtime of a node; it is started again."""
        if self._containerd is None:
            self.cluster.faults.kill(node, "crilite")
        else:
            self._containerd.stop(kill=True)
            self._containerd.start()

    def start_node(self, node: str) -> None:
        """Boot a node again that was stopped."""
        self.cluster.faults.start_node(node)
        if self._containerd is not None:
            self._containerd.stop(kill=True)
            self._containerd.start()

    async def run(self, name: str, *containers: Obj, labels: dict[str, str] | None = None, **spec: Any) -> Obj:
        """Create a pod."""
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels or {}},
            "spec": {"containers": list(containers), "terminationGracePeriodSeconds": 5, **spec},
        }
        return await self.client.create(PODS, body)

    async def make(self, resource: Resource, name: str, **fields: Any) -> Obj:
        body = {"apiVersion": resource.group_version, "kind": resource.kind, "metadata": {"name": name}, **fields}
        return await self.client.create(resource, body, self.namespace)

    async def config(self, name: str, **data: str) -> Obj:
        return await self.make(CONFIG_MAPS, name, data=data)

    async def secret(self, name: str, **data: str) -> Obj:
        return await self.make(SECRETS, name, stringData=data)

    def cgroups(self) -> list[Path]:
        """The cgroups of all pods of this cluster, in every hierarchy. Other clusters of the machine have theirs elsewhere."""
        found = state_of(self.cluster.root)
        assert found is not None
        top = Path("/sys/fs/cgroup")
        trees = [top] if (top / "cgroup.controllers").exists() else [each for each in top.iterdir() if not each.is_symlink()]
        return [
            Path(folder) / name
            for tree in trees
            for folder, names, _ in os.walk(tree / found.cgroup.strip("/"))
            for name in names
            if name.startswith("pod") and "-" in name
        ]

    async def get(self, name: str) -> Obj:
        return await self.client.get(PODS, name, self.namespace)

    async def delete(self, name: str, grace: int | None = None) -> None:
        await self.client.delete(PODS, name, self.namespace, grace_period_seconds=grace)

    async def until(self, name: str, what: Callable[[Obj], Any], seconds: float = 20.0, *, missing: bool = False) -> Obj:
        """The pod, once `what` holds of it. With `missing` there may be no such pod for a while."""
        found: Obj = {}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                found = await self.get(name)
            except ApiError as error:
                if error.code != 404 or not missing:
                    raise
                found = {}
            if found and what(found):
                return found
            await asyncio.sleep(0.03)
        return pytest.fail(f"{name} never came to it; last status: {found.get('status')}")

    async def ready(self, name: str, seconds: float = 20.0) -> Obj:
        return await self.until(name, is_ready, seconds)

    async def phase(self, name: str, phase: str, seconds: float = 20.0) -> Obj:
        return await self.until(name, lambda pod: phase_of(pod) == phase, seconds)

    async def gone(self, name: str, seconds: float = 20.0) -> float:
        """Wait until the API has no such pod; how long that took."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            try:
                await self.get(name)
            except ApiError as error:
                if error.code == 404:
                    return time.monotonic() - began
                raise
            await asyncio.sleep(0.03)
        return pytest.fail(f"{name} is still there after {seconds} s")

    async def reasons(self, name: str) -> list[str]:
        """The reasons of all events about a pod."""
        found = await self.client.list(EVENTS, self.namespace, field_selector=f"involvedObject.name={name}")
        return [each["reason"] for each in found["items"]]

    async def event(self, name: str, reason: str, seconds: float = 10.0) -> str:
        """The message of an event, waited for."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = await self.client.list(EVENTS, self.namespace, field_selector=f"involvedObject.name={name}")
            for each in found["items"]:
                if each["reason"] == reason:
                    return str(each["message"])
            await asyncio.sleep(0.05)
        return pytest.fail(f"no event {reason} about {name}, only {await self.reasons(name)}")

    async def log(self, name: str, **query: Any) -> str:
        path = PODS.path(self.namespace, name, "log")
        return (await self.client.request_bytes("GET", path, params=query)).decode()

    async def exec(self, name: str, *command: str, container: str = "", check: bool = True) -> str:
        """Run a command in a container with kubectl; its output."""
        chosen = ["-c", container] if container else []
        done = await asyncio.to_thread(
            self.cluster.kubectl, "exec", "-n", self.namespace, name, *chosen, "--", *command, check=check
        )
        return done.stdout

    async def reachable(self, name: str, seconds: float = 30.0) -> None:
        """Wait until a command can be run in a pod: its kubelet was killed and is on its way back."""
        deadline = time.monotonic() + seconds
        while await self.exec(name, "echo", "here", check=False) != "here\n":
            assert time.monotonic() < deadline, f"no command can be run in {name}"
            await asyncio.sleep(0.1)

    async def logged(self, name: str, text: str, seconds: float = 15.0, **query: Any) -> str:
        """The log, once `text` stands in it."""
        deadline, found = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            try:
                found = await self.log(name, **query)
            except ApiError:
                found = ""
            if text in found:
                return found
            await asyncio.sleep(0.05)
        return pytest.fail(f"{text!r} never stood in the log of {name}: {found!r}")


def state(pod: Obj, name: str = "c") -> Obj:
    """The state of one of its containers."""
    return dict((container_status(pod, name) or {}).get("state") or {})


def waiting(reason: str, name: str = "c") -> Callable[[Obj], bool]:
    """For `until`: the container waits for that reason."""
    return lambda pod: (state(pod, name).get("waiting") or {}).get("reason") == reason


def restarts(pod: Obj, name: str = "c") -> int:
    return int((container_status(pod, name) or {}).get("restartCount") or 0)


@pytest.fixture(scope="session")
def containerd_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerdNode]:
    """A cluster with a worker that lives on containerd."""
    # The path of containerd's socket must be short, and those of pytest's folders are not.
    folder = Path(tempfile.mkdtemp(prefix="kl-cd-"))
    node = ContainerdNode(folder / "cd")
    cluster = ClusterHandle("containerd", folder / "home", folder / "kubeconfig")
    try:
        node.up(cluster, f"--owner={os.getpid()}")
        yield node
    finally:
        cluster.down()
        node.stop(kill=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> str:
    """The runtime below the pods, see :data:`ON_BOTH_RUNTIMES`."""
    return str(getattr(request, "param", "crilite"))


@pytest.fixture
async def pods(request: pytest.FixtureRequest, runtime: str) -> AsyncIterator[Pods]:
    if runtime == "crilite":
        cluster, namespace = request.getfixturevalue("kubeling_cluster"), request.getfixturevalue("kubeling_namespace")
        async with cluster.client() as client:
            yield Pods(cluster, client, namespace)
        return
    node: ContainerdNode = request.getfixturevalue("containerd_node")
    assert node.cluster is not None
    namespace = f"t-{secrets.token_hex(4)}"
    async with node.cluster.client() as client:
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        yield Pods(node.cluster, client, namespace, node)
        await client.delete(NAMESPACES, namespace)
