"""A node's hard times, each a minute or more: its disk full, its clock set, the apiserver gone for long. KUBELING_TEST_HARD_TIMES=1 has them tried.

They have a cluster of their own, whose worker's folder is a small disk, and all of whose clocks are ahead of the machine's by what the test says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from kubeling.api.conditions import get_condition
from kubeling.api.pods import container_status, is_ready, phase_of
from kubeling.api.resources import NAMESPACES, NODES, PODS
from kubeling.client.rest import ConnectionFailed
from kubeling.cluster.pytest_plugin import ClusterHandle
from tests.kubelet.conftest import FOREVER, Obj, Pods, restarts, shell, state
from tests.node.leaks import Node
from tests.robustness import clock as clocks

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.slow, pytest.mark.xdist_group("hard-times")]

NODE = "worker-1"
MIB = 1 << 20
HOUR = 3600.0
#: When an hour without apiserver is tried: so many seconds stand for it.
AWAY_SECONDS = float(os.environ.get("KUBELING_AWAY_SECONDS", "90"))


class Hard:
    def __init__(self, cluster: ClusterHandle, disk: Path, clock: clocks.Clock) -> None:
        self.cluster = cluster
        self.disk = disk
        self.clock = clock


@pytest.fixture(scope="module")
def hard() -> Iterator[Hard]:
    if os.environ.get("KUBELING_TEST_HARD_TIMES") != "1":
        pytest.skip("takes minutes: set KUBELING_TEST_HARD_TIMES=1 to try it")
    if os.geteuid() != 0 or shutil.which("cc") is None:
        pytest.skip("needs root, for a disk of the node's own, and a C compiler, for its clock")
    with tempfile.TemporaryDirectory(prefix="kl-hard-") as name:
        folder = Path(name)
        cluster = ClusterHandle("hard", folder / "home", folder / "kubeconfig")
        disk = cluster.root / "nodes" / NODE
        clock = clocks.Clock(folder / "shift", clocks.build(folder))
        try:
            with pytest.MonkeyPatch.context() as patch:
                for key, value in clock.environment.items():
                    patch.setenv(key, value)
                cluster.up("--workers=0", f"--owner={os.getpid()}")
            disk.mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m,nr_inodes=40000", "disk", str(disk)], check=True)
            (disk / "kubelet.conf.d").mkdir()
            settings = {"evictionHard": {"nodefs.available": "30Mi"}, "evictionPressureTransitionPeriod": "5s"}
            head = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
            (disk / "kubelet.conf.d" / "50-test.conf").write_text(json.dumps(head | settings))
            cluster.cli("node", "add", f"--name={cluster.name}")
            yield Hard(cluster, disk, clock)
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=False)
            cluster.down()


@pytest.fixture
async def pods(hard: Hard) -> AsyncIterator[Pods]:
    async with hard.cluster.client() as client:
        namespace = f"n{time.monotonic_ns()}"
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        made = Pods(hard.cluster, client, namespace)
        yield made
        await client.delete_collection(PODS, namespace)


async def condition(pods: Pods, kind: str, wanted: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ConnectionFailed):
            found = get_condition(await pods.client.get(NODES, NODE), kind) or {}
            if found.get("status") == wanted:
                return
        assert time.monotonic() < deadline, f"{kind} is not {wanted}"
        await asyncio.sleep(0.5)


def daemons(hard: Hard) -> dict[str, list[int]]:
    node = Node(hard.cluster, NODE)
    return {name: node.processes(name) for name in ("kl-kubelet", "kl-crilite", "crilite-keeper")}


def identity(pod: Obj) -> tuple[str, int]:
    found = container_status(pod, "c") or {}
    return str(found.get("containerID")), int(found.get("restartCount", -1))


def has_restarted(since: int, pod: Obj) -> bool:
    return restarts(pod) > since


async def test_a_full_disk(hard: Hard, pods: Pods) -> None:
    critical: Obj = {"priorityClassName": "system-node-critical"}
    steady = Pods(hard.cluster, pods.client, "kube-system")
    await steady.run("steady", shell(FOREVER), nodeName=NODE, **critical)
    before = identity(await steady.ready("steady", 60))
    running = daemons(hard)

    # A pod fills the disk: it is evicted, and the node is well again.
    script = "head -c 290000000 /dev/zero > /data/filler; echo $?; " + FOREVER
    mounts = [{"name": "data", "mountPath": "/data"}]
    volumes = [{"name": "data", "emptyDir": {}}]
    await pods.run("filler", shell(script, volumeMounts=mounts), nodeName=NODE, volumes=volumes)
    gone = await pods.until("filler", lambda pod: phase_of(pod) == "Failed", 90)
    assert gone["status"]["reason"] == "Evicted"
    await condition(pods, "DiskPressure", "False", 90)
    assert daemons(hard) == running

    # Somebody else fills it to the last byte, and everything dies and comes back meanwhile.
    await pods.run("late", shell(FOREVER), nodeName=NODE)
    await pods.ready("late", 60)
    with open(hard.disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(MIB)):
            pass
    with open(hard.disk / "filler2", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x"):
            pass
    await condition(pods, "DiskPressure", "True", 60)
    await pods.until("late", lambda pod: phase_of(pod) == "Failed", 90)
    hard.cluster.faults.kill(NODE, "kubelet")
    hard.cluster.faults.kill(NODE, "crilite")
    os.kill(Node(hard.cluster, NODE).processes("crilite-keeper")[0], 9)
    refused = await pods.run("refused", shell(FOREVER), nodeName=NODE)
    await pods.until("refused", lambda pod: phase_of(pod) == "Failed" and pod["status"]["reason"] == "Evicted", 90)
    assert refused["metadata"]["uid"]
    for name in ("filler", "late", "refused"):
        await pods.delete(name, grace=0)
        await pods.gone(name, 60)
    (hard.disk / "filler").unlink()
    (hard.disk / "filler2").unlink()
    await condition(pods, "DiskPressure", "False", 90)
    await pods.run("after", shell(FOREVER), nodeName=NODE)
    await pods.ready("after", 60)
    assert identity(await steady.ready("steady")) == before
    assert await steady.exec("steady", "echo", "well") == "well\n"
    for path in [*hard.disk.rglob("record.json"), *hard.disk.rglob("*_state"), *hard.disk.rglob("*checkpoint")]:
        json.loads(path.read_bytes())
    assert not [path for path in hard.disk.rglob("*.tmp") if path.is_file()]
    await steady.delete("steady", grace=0)


async def test_a_clock_that_is_set(hard: Hard, pods: Pods) -> None:
    probes: Obj = {
        "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 20},
        "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1, "initialDelaySeconds": 2, "timeoutSeconds": 20},
    }
    await pods.run("probed", shell(FOREVER, **probes), nodeName=NODE)
    await pods.run("plain", shell(FOREVER), nodeName=NODE)
    await pods.run("crashes", shell("sleep 1; exit 3"), nodeName=NODE)
    before = {name: identity(await pods.ready(name, 60)) for name in ("probed", "plain")}
    token = await pods.exec("plain", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
    await pods.until("crashes", lambda pod: restarts(pod) >= 2, 60)

    # Never before the cluster's certificates began to be good.
    for jump in (12 * HOUR, -6 * HOUR, -6 * HOUR):
        had = restarts(await pods.get("crashes"))
        hard.clock.jump(wall=jump)
        # Its back-off is a minute and a half at most by now, and no clock makes it longer.
        await pods.until("crashes", partial(has_restarted, had), 200)
        fresh = f"fresh{jump > 0}".lower()
        await pods.run(fresh, shell(FOREVER, **probes), nodeName=NODE, terminationGracePeriodSeconds=1)
        await pods.ready(fresh, 60)
        await pods.delete(fresh)
        await pods.gone(fresh, 30)
        await condition(pods, "Ready", "True", 60)
        for name in ("probed", "plain"):
            pod = await pods.ready(name, 30)
            assert identity(pod) == before[name]
        # Tokens are of the time that it is now.
        deadline = time.monotonic() + 60
        while (found := await pods.exec("plain", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")) == token:
            assert time.monotonic() < deadline, "the token was not replaced"
            await asyncio.sleep(1)
        token = found


async def test_an_apiserver_that_is_away_for_long(hard: Hard, pods: Pods) -> None:
    probe: Obj = {"livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 2, "timeoutSeconds": 20}}
    await pods.run("probed", shell(FOREVER, **probe), nodeName=NODE)
    await pods.run("ends", shell("sleep 20; exit 7"), nodeName=NODE, restartPolicy="Never")
    await pods.run("restarts", shell("sleep 15; exit 1"), nodeName=NODE)
    before = identity(await pods.ready("probed", 60))
    await pods.ready("ends", 60)
    await pods.ready("restarts", 60)
    hard.cluster.faults.stop_node("control-plane-1")
    try:
        await asyncio.sleep(AWAY_SECONDS / 2)
        hard.cluster.faults.kill(NODE, "crilite")
        await asyncio.sleep(AWAY_SECONDS / 2)
    finally:
        hard.cluster.faults.start_node("control-plane-1")
    await condition(pods, "Ready", "True", 120)
    assert identity(await pods.ready("probed", 60)) == before
    ended = await pods.until("ends", lambda pod: phase_of(pod) == "Failed", 60)
    assert state(ended)["terminated"]["exitCode"] == 7
    assert restarts(await pods.until("restarts", lambda pod: restarts(pod) >= 1, 60)) < AWAY_SECONDS / 15 + 2
    assert is_ready(await pods.get("probed"))
