"""Deaths of the daemon and of the keeper: containers go on, nothing is lost, nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite.conftest import Cri, Node, children, eventually

pytestmark = [pytest.mark.live, pytest.mark.root]

TICKS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"


async def restarted(node: Node, client: Cri) -> None:
    node.start()
    await client.ready()


async def test_containers_outlive_the_daemon(client: Cri, node: Node) -> None:
    sandbox, running = await client.pod("sh", "-c", TICKS)
    _, ending = await client.pod("sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.02; done; exit 5")
    before = await client.status(running)
    pid = children(node.keeper_pid)[0]
    await client.exec(ending, "true")
    await client.exec(ending, "sh", "-c", "(sleep 1; touch /tmp/go) &")
    node.kill_daemon()
    log = Path(before.log_path)
    size = len(log.read_text())
    await eventually(lambda: len(log.read_text()) > size)
    # The second container ends while nobody but the keeper looks.
    exit_file = node.state / "containers" / ending / "exit"
    await eventually(exit_file.exists)
    await restarted(node, client)
    after = await client.status(running)
    assert (after.state, after.started_at) == (cri.CONTAINER_RUNNING, before.started_at)
    assert os.path.exists(f"/proc/{pid}")
    ended = await client.status(ending)
    assert (ended.state, ended.exit_code, ended.reason) == (cri.CONTAINER_EXITED, 5, "Error")
    assert (await client.exec(running, "echo", "here"))[1] == "here\n"
    numbers = [int(line) for line in client.text(str(log)).split()]
    assert numbers == list(range(1, len(numbers) + 1))
    answer = await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox))
    assert answer.status.network.ip


async def test_containers_outlive_the_keeper(client: Cri, node: Node) -> None:
    _, running = await client.pod("sh", "-c", TICKS)
    _, ending = await client.pod("sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.02; done; exit 6")
    log = Path((await client.status(running)).log_path)
    await eventually(lambda: log.exists() and len(log.read_text()) > 100)
    old = node.keeper_pid
    os.kill(old, signal.SIGKILL)
    # Asked while another keeper is on its way: it waits for that one, or says that it failed, but never loses the command's own end.
    codes = []

    async def answered() -> bool:
        with contextlib.suppress(grpc.aio.AioRpcError):
            codes.append((await client.exec(ending, "touch", "/tmp/go"))[0])
        return bool(codes)

    await eventually(answered, 20)
    assert codes == [0]
    assert node.keeper_pid not in (0, old)
    size = len(log.read_text())
    await eventually(lambda: len(log.read_text()) > size)
    status = await client.finished(ending)
    # Kernels before 6.15 do not tell who is not the parent.
    assert status.exit_code in (6, 255)
    await client.runtime.StopContainer(cri.StopContainerRequest(container_id=running, timeout=0))
    assert (await client.status(running)).state == cri.CONTAINER_EXITED
    numbers = [int(line) for line in client.text(str(log)).split()]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_both_die_and_leftovers_go(client: Cri, node: Node) -> None:
    sandbox, container = await client.pod("sleep", "1000")
    keeper = node.keeper_pid
    inner = children(keeper)
    node.kill_daemon()
    os.kill(keeper, signal.SIGKILL)
    for pid in inner:
        os.kill(pid, signal.SIGKILL)
    # What a daemon leaves that dies in the middle of making things.
    half = node.root / "sandboxes" / ("a" * 64)
    half.mkdir()
    (half / "record.json").write_text('{"id": "aaa')
    record = json.loads((node.root / "sandboxes" / sandbox / "record.json").read_text())
    unfinished = node.root / "sandboxes" / ("b" * 64)
    unfinished.mkdir()
    (unfinished / "record.json").write_text(json.dumps({**record, "id": "b" * 64, "phase": "creating", "ip": "10.244.7.99"}))
    stray = node.state / "containers" / ("c" * 64)
    stray.mkdir()
    await restarted(node, client)
    assert not half.exists()
    assert not unfinished.exists()
    assert not stray.exists()
    status = await client.status(container)
    assert (status.state, status.reason) == (cri.CONTAINER_EXITED, "Unknown")


async def test_sigterm_leaves_containers_and_an_idle_keeper_ends(node: Node, client: Cri) -> None:
    _, container = await client.pod("sleep", "1000")
    node.kill_daemon(signal.SIGTERM)
    assert children(node.keeper_pid)
    await restarted(node, client)
    assert (await client.status(container)).state == cri.CONTAINER_RUNNING
    await client.clean()
    node.kill_daemon(signal.SIGTERM)
    await eventually(lambda: not any(b"kubeling" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(node.pid)), 20)
    await restarted(node, client)


async def test_deaths_at_any_moment_leave_nothing(client: Cri, node: Node) -> None:
    """Pods come and go while the daemon, the keeper, both, or a container are killed at moments that a seed chooses."""
    rand = random.Random(20261120)
    mounts, stop = node.run("cat", "/proc/mounts"), asyncio.Event()

    async def come_and_go() -> None:
        while not stop.is_set():
            with contextlib.suppress(grpc.aio.AioRpcError):
                sandbox, container = await client.pod("sh", "-c", rand.choice(["exit 3", "sleep 100"]))
                await client.exec(container, "true")
                await client.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox))
                await client.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
            await asyncio.sleep(0.02)

    workers = [asyncio.create_task(come_and_go()) for _ in range(3)]
    try:
        for _ in range(12):
            await asyncio.sleep(rand.random() * 0.4)
            victim = rand.choice(["daemon", "keeper", "both", "container"])
            keeper = node.keeper_pid
            if victim in ("daemon", "both"):
                node.kill_daemon()
            for pid in (
                [keeper] * bool(keeper) if victim in ("keeper", "both") else children(keeper)[:1] if victim == "container" else []
            ):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if victim in ("daemon", "both"):
                await restarted(node, client)
    finally:
        stop.set()
        await asyncio.gather(*workers)
    for sandbox in (await client.runtime.ListPodSandbox(cri.ListPodSandboxRequest())).items:
        await client.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id))
    client.sandboxes.clear()
    assert node.run("cat", "/proc/mounts") == mounts
    assert "veth" not in node.run("ip", "-br", "link")
    assert "sleep 100\n" not in node.run("ps", "-eo", "args")
    for folder in (node.root, node.state):
        assert not os.listdir(folder / "sandboxes")
        assert not os.listdir(folder / "containers")
    assert not [str(path) for path in Path("/sys/fs/cgroup").glob(f"*{node.cgroup_root}/*/")]
    assert "Traceback" not in (node.folder / "daemon.log").read_text() + (node.state / "keeper.log").read_text()


@pytest.fixture(autouse=True)
async def daemon_is_up(node: Node) -> AsyncIterator[None]:
    yield
    if node.daemon is not None and node.daemon.poll() is not None:
        node.start()
