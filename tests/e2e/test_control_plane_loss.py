"""Three control planes: any part may be killed, one after another or all at once, and nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.resources import CONFIG_MAPS, LEASES
from kubeling.client import kubeconfig
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.cluster.pytest_plugin import ClusterHandle

pytestmark = [pytest.mark.live, pytest.mark.slow]

WRITES_RESUME_SECONDS = 5.0
_TEXT: dict[str, Any] = {"capture_output": True, "text": True}


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterHandle]:
    folder = tmp_path_factory.mktemp("trio")
    handle = ClusterHandle(f"trio-{os.getpid()}", folder / "home", folder / "kubeconfig")
    handle.up("--control-planes=3", "--workers=1", f"--owner={os.getpid()}")
    try:
        yield handle
    finally:
        handle.down()


class Writers:
    """Create ConfigMaps in a loop and remember which were acknowledged, and how long none was."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._path, self._prefix = path, prefix
        self.acknowledged: list[str] = []
        self.longest_gap = 0.0
        self._last = time.monotonic()
        self._progress = asyncio.Event()

    async def run(self, workers: int = 4) -> None:
        async with Client(kubeconfig.load(self._path)) as client:
            await asyncio.gather(*(self._write(client, worker) for worker in range(workers)))

    async def _write(self, client: Client, worker: int) -> None:
        number = 0
        while True:
            name = f"{self._prefix}-{worker}-{number}"
            number += 1
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": str(number)}}
            try:
                async with asyncio.timeout(3):
                    await client.create(CONFIG_MAPS, body, "default")
            except (ApiError, ConnectionFailed, TimeoutError):
                await asyncio.sleep(0.02)
                continue
            self.acknowledged.append(name)
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - self._last)
            self._last = now
            self._progress.set()

    async def fresh(self, count: int, seconds: float) -> None:
        """Return when `count` more were acknowledged."""
        target = len(self.acknowledged) + count
        async with asyncio.timeout(seconds):
            while len(self.acknowledged) < target:
                self._progress.clear()
                await self._progress.wait()


def store_leader(handle: ClusterHandle) -> str:
    return next(
        str(entry["node"]) for entry in handle.status()["daemons"] if entry["daemon"] == "etcdlite" and entry.get("leader")
    )


async def leader_of(handle: ClusterHandle, lease: str) -> str:
    """The node on which the holder of a Lease runs."""
    async with handle.client() as client:
        found = await client.get(LEASES, lease, "kube-system")
    return str(found["spec"]["holderIdentity"]).partition("_")[0]


async def check(handle: ClusterHandle, writers: Writers) -> None:
    async with handle.client() as client:
        listed = await client.list(CONFIG_MAPS, "default")
    there = {item["metadata"]["name"] for item in listed["items"]}
    missing = [name for name in writers.acknowledged if name not in there]
    assert not missing, f"{len(missing)} of {len(writers.acknowledged)} acknowledged objects are lost: {missing[:5]}"


@pytest.mark.parametrize("daemon", ["etcdlite", "apiserver", "scheduler", "controllers"])
async def test_one_is_killed(trio: ClusterHandle, daemon: str) -> None:
    leases = {"scheduler": "kube-scheduler", "controllers": "kube-controller-manager"}
    writers = Writers(trio.root / "kubeconfig" / "admin.conf", f"one-{daemon}")
    task = asyncio.ensure_future(writers.run())
    try:
        await writers.fresh(20, 30)
        if daemon == "etcdlite":
            node = await asyncio.to_thread(store_leader, trio)
        elif daemon == "apiserver":
            node = "control-plane-1"
        else:
            node = await leader_of(trio, leases[daemon])
        await asyncio.to_thread(trio.faults.kill, node, daemon)
        await writers.fresh(40, 30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert writers.longest_gap < WRITES_RESUME_SECONDS
    await check(trio, writers)


async def test_all_leaders_are_killed_within_a_second(trio: ClusterHandle) -> None:
    writers = Writers(trio.root / "kubeconfig" / "admin.conf", "all")
    task = asyncio.ensure_future(writers.run())
    try:
        await writers.fresh(20, 30)
        victims = [
            (await asyncio.to_thread(store_leader, trio), "etcdlite"),
            ("control-plane-2", "apiserver"),
            (await leader_of(trio, "kube-scheduler"), "scheduler"),
            (await leader_of(trio, "kube-controller-manager"), "controllers"),
        ]
        await asyncio.gather(*(asyncio.to_thread(trio.faults.kill, node, daemon) for node, daemon in victims))
        await writers.fresh(40, 30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert writers.longest_gap < WRITES_RESUME_SECONDS
    await check(trio, writers)


async def test_afterwards_the_cluster_works_without_a_hand(trio: ClusterHandle) -> None:
    """What was killed is back, somebody leads, and a new pod runs."""
    pod = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"after"},"spec":{"containers":[{"name":"c","image":"kubeling.local/host","command":["sleep","1000"]}]}}'
    await asyncio.to_thread(trio.cli, "apply", "-f", "-", input=pod)
    await asyncio.to_thread(trio.cli, "wait", "--for=condition=Ready", "pod/after", "--timeout=60s")
    states = {(entry["daemon"], entry["node"]): entry["state"] for entry in (await asyncio.to_thread(trio.status))["daemons"]}
    assert set(states.values()) == {"running"}, states


@pytest.mark.root
@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")
@pytest.mark.parametrize("anew", [False, True])
def test_a_proxy_beside_an_apiserver_without_a_store(trio: ClusterHandle, anew: bool) -> None:
    """Its apiserver is cut off from the store, and has an old copy of everything: whether the proxy runs on or starts anew, it goes elsewhere."""
    nodes = {each["name"]: each for each in trio.status()["nodes"]}
    others = ["control-plane-2", "control-plane-3"]
    server = f"https://{nodes[others[0]]['address']}:6443"
    inside = ["nsenter", f"--net=/proc/{nodes['worker-1']['pid']}/ns/net", "--"]
    reach = [f"--server={server}", f"--kubeconfig={trio.root / 'kubeconfig' / 'internal.conf'}"]

    def rules() -> str:
        return subprocess.run([*inside, "nft", "list", "table", "inet", "kubeling-proxy"], **_TEXT, check=True).stdout

    def lead_to(address: str) -> None:
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "moves-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "moves"}},
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        }
        command = [*inside, sys.executable, "-P", "-m", "kubeling.cli", *reach, "apply", "-f", "-"]
        subprocess.run(command, input=json.dumps(body), **_TEXT, check=True, timeout=60)

    def wait(what: str, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not check():
            assert time.monotonic() < deadline, what
            time.sleep(0.1)

    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "moves"}, "spec": {"ports": [{"port": 80}]}}
    trio.cli("create", "-f", "-", input=json.dumps(body))
    lead_to("10.99.0.1")
    wait("the proxy serves it", lambda: "10.99.0.1" in rules())
    try:
        trio.faults.partition(["control-plane-1"], others)
        wait("the others agree on a leader", lambda: store_leader_of(trio, others))
        lead_to("10.99.0.2")
        if anew:
            trio.faults.kill("worker-1", "kubeproxy")
        wait("the proxy serves what is true now", lambda: "10.99.0.2" in rules())
        assert "10.99.0.1" not in rules()
    finally:
        trio.faults.heal()
        trio.cli("delete", "service/moves", "endpointslice/moves-1")


def store_leader_of(handle: ClusterHandle, nodes: list[str]) -> bool:
    """Whether the leader of the store is one of these."""
    return any(
        each.get("leader") for each in handle.status()["daemons"] if each["daemon"] == "etcdlite" and each["node"] in nodes
    )
