"""The handler `process`: pods without namespaces, for hosts that allow none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite.conftest import Cri, eventually

pytestmark = [pytest.mark.live]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Cri]:
    command = [
        sys.executable, "-m", "kubeling.crilite", f"--listen=unix://{tmp_path}/cri.sock", f"--root={tmp_path}/root", f"--state={tmp_path}/state",
        "--default-handler=process", "--handlers=process", "--pod-address-range=127.99.0.0/24", f"--cgroup-root=/crilite-none-{os.getpid()}",
    ]  # fmt: skip
    with open(tmp_path / "log", "wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    made = Cri(f"unix://{tmp_path}/cri.sock", tmp_path / "logs")
    try:
        await made.ready()
        yield made
        await made.clean()
    finally:
        await made.channel.close()
        daemon.terminate()
        daemon.wait(20)
        for top in Path("/sys/fs/cgroup").glob(f"*/crilite-none-{os.getpid()}"):
            top.rmdir()


async def test_a_process_is_a_pod(client: Cri, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "key").write_text("value\n")
    mounts = [cri.Mount(container_path="/etc/config", host_path=str(tmp_path / "volume"))]
    envs = [cri.KeyValue(key="CONFIG", value=b"/etc/config/key"), cri.KeyValue(key="A", value=b"b")]
    script = "echo $A $POD_IP; cat $CONFIG $KUBELING_ROOT/etc/config/key; setsid sleep 1234 & sleep 5678"
    sandbox, container = await client.pod("sh", "-c", script, mounts=mounts, envs=envs)
    status = (await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox))).status
    assert status.network.ip.startswith("127.99.0.")
    path = (await client.status(container)).log_path
    await eventually(lambda: client.text(path).count("\n") == 3)
    assert client.text(path) == f"b {status.network.ip}\nvalue\nvalue\n"
    assert (await client.exec(container, "sh", "-c", "echo in; exit 2"))[:2] == (2, "in\n")

    def left() -> list[str]:
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        return [line for line in listing.splitlines() if line in ("sleep 1234", "sleep 5678")]

    assert len(left()) == 2
    stats = (await client.runtime.ContainerStats(cri.ContainerStatsRequest(container_id=container))).stats
    assert stats.memory.working_set_bytes.value > 0
    await client.runtime.StopContainer(cri.StopContainerRequest(container_id=container, timeout=2))
    assert (await client.status(container)).exit_code == 143
    assert not left()
    with pytest.raises(grpc.aio.AioRpcError, match="not found"):
        await client.images.PullImage(cri.PullImageRequest(image=cri.ImageSpec(image="kubeling.local/other:1")))


async def test_nothing_of_cluster_is_needed(client: Cri) -> None:
    answer = await client.runtime.Status(cri.StatusRequest(verbose=True))
    assert all(condition.status for condition in answer.status.conditions)
    one, _ = await client.pod("sleep", "1000")
    two, _ = await client.pod("sleep", "1000")
    addresses = set()
    for sandbox in (one, two):
        status = (await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox))).status
        addresses.add(status.network.ip)
    assert len(addresses) == 2
