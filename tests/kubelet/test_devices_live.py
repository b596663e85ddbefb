"""Devices of a plugin, and cpus of one's own, on a real node."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kubeling.api.pods import is_ready
from kubeling.api.resources import NODES
from kubeling.kubelet.cpus import format_cpus

from .conftest import FOREVER, Pods, restarts, shell
from .test_eviction_live import OwnNode, own_node

__all__ = ["own_node"]

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.xdist_group("cluster")]

NODE = "worker-1"


class Plugin:
    """The example plugin, beside a node's kubelet."""

    def __init__(self, root: Path, resource: str, *ids: str) -> None:
        self.resource = resource
        self.folder = root / "kubelet" / "device-plugins"
        name = resource.replace("/", "_")
        self.sick = self.folder.parent / f"{name}.sick"
        self.started = self.folder.parent / f"{name}.started"
        script = Path(__file__).with_name("example_device_plugin.py")
        self.process = subprocess.Popen([sys.executable, str(script), str(self.folder), resource, ",".join(ids)])

    def make_sick(self, *ids: str) -> None:
        self.sick.write_text(" ".join(ids))
        self.process.send_signal(signal.SIGHUP)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
async def plugin(pods: Pods) -> AsyncIterator[Plugin]:
    made = Plugin(pods.cluster.root / "nodes" / NODE, f"example.test/gpu-{os.urandom(3).hex()}", "gpu0", "gpu1", "gpu2")
    yield made
    made.end()


async def offered(pods: Pods, resource: str, capacity: str, allocatable: str, seconds: float = 40.0) -> None:
    deadline, shown = time.monotonic() + seconds, {}
    while time.monotonic() < deadline:
        status = (await pods.client.get(NODES, NODE))["status"]
        shown = {key: status[key].get(resource) for key in ("capacity", "allocatable")}
        if shown == {"capacity": capacity, "allocatable": allocatable}:
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"{resource} is shown as {shown}")


def with_devices(resource: str, count: int) -> dict[str, Any]:
    return {"resources": {"limits": {resource: str(count)}}}


async def test_devices_of_a_plugin(pods: Pods, plugin: Plugin) -> None:
    gpu = plugin.resource
    await offered(pods, gpu, "3", "3")
    script = (
        "echo $EXAMPLE_DEVICES; ls /dev | grep gpu; head -c 4 /dev/gpu2 | od -An -tx1; test -e /example/passwd && echo mounted; "
    )
    script += "trap 'exit 0' TERM; while [ ! -e /tmp/die ]; do sleep 0.05; done; exit 1"
    more: dict[str, Any] = with_devices(gpu, 2)
    await pods.run("two", shell(script, **more))
    await pods.ready("two")
    log = (await pods.logged("two", "mounted")).split()
    # What the plugin prefers, and nothing that belongs to others.
    assert log == ["gpu2,gpu1", "gpu1", "gpu2", "00", "00", "00", "00", "mounted"]
    more = with_devices(gpu, 1)
    await pods.run("one", shell("echo $EXAMPLE_DEVICES; " + FOREVER, **more))
    assert (await pods.logged("one", "gpu")).split() == ["gpu0"]
    # Nobody has any left: the scheduler knows, and the kubelet too, if it is passed over.
    await pods.run("none", shell(FOREVER, **more), nodeName=NODE)
    refused = await pods.phase("none", "Failed")
    assert refused["status"]["reason"].startswith("OutOf")
    # A container that is started again has the same devices, with a new kubelet too and while the plugin is away.
    assert plugin.started.read_text().split() == ["gpu2,gpu1", "gpu0"]
    pods.cluster.faults.kill(NODE, "kubelet")
    await offered(pods, gpu, "3", "3")
    await pods.reachable("two")
    await pods.exec("two", "touch", "/tmp/die")
    await pods.until("two", lambda pod: restarts(pod) == 1 and is_ready(pod), 40)
    assert (await pods.logged("two", "mounted")).split()[0] == "gpu2,gpu1"
    plugin.make_sick("gpu1")
    await offered(pods, gpu, "3", "2")
    plugin.make_sick()
    await offered(pods, gpu, "3", "3")
    await pods.delete("one")
    await pods.gone("one")
    await pods.run("next", shell("echo $EXAMPLE_DEVICES; " + FOREVER, **more))
    assert (await pods.logged("next", "gpu")).split() == ["gpu0"]
    plugin.end()
    await offered(pods, gpu, "3", "0")
    assert is_ready(await pods.get("two"))


def allowed(own: OwnNode, uid: str, seconds: float = 20.0) -> Callable[[str], None]:
    """Waits until the kernel lets the pod's processes run on exactly these cpus."""

    def look() -> set[str]:
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    if f"pod{uid}" in (entry / "cgroup").read_text():
                        status = (entry / "status").read_text()
                        found.add(next(line.split()[1] for line in status.splitlines() if line.startswith("Cpus_allowed_list")))
                except OSError:
                    continue
        return found

    def until(cpus: str) -> None:
        deadline = time.monotonic() + seconds
        while look() != {cpus}:
            assert time.monotonic() < deadline, f"it may use {look()} and not {cpus}"
            time.sleep(0.1)

    return until


async def test_cpus_of_ones_own(pods: Pods, own_node: OwnNode) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("there is only one cpu")
    own_node.configure(cpuManagerPolicy="static", reservedSystemCPUs=str(cpus[0]))
    whole: dict[str, Any] = {"resources": {"limits": {"cpu": "1", "memory": "32Mi"}}}
    await pods.run("shares", shell(FOREVER), nodeName=own_node.name)
    shares = await pods.ready("shares", 40)
    await pods.run("alone", shell(FOREVER, **whole), nodeName=own_node.name)
    alone = await pods.ready("alone", 40)
    state = (own_node.folder / "kubelet" / "cpu_manager_state").read_text()
    given = str(cpus[1])
    assert f'"c": "{given}"' in state
    allowed(own_node, alone["metadata"]["uid"])(given)
    rest = [each for each in cpus if str(each) != given]
    allowed(own_node, shares["metadata"]["uid"])(format_cpus(rest))
    if len(cpus) == 2:
        await pods.run("late", shell(FOREVER, **whole), nodeName=own_node.name)
        late = await pods.phase("late", "Failed", 30)
        assert late["status"]["reason"] in ("UnexpectedAdmissionError", "OutOfcpu")
    pods.cluster.faults.kill(own_node.name, "kubelet")
    await pods.delete("alone")
    await pods.gone("alone", 40)
    allowed(own_node, shares["metadata"]["uid"])(format_cpus(cpus))
