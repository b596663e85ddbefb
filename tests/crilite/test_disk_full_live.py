"""A runtime whose disk is full to the last byte: what runs goes on, what ends is known, what is to go goes, and no file is torn."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite.conftest import Cri, Node, eventually

pytestmark = [pytest.mark.live, pytest.mark.root]

LINE = "a line that is long enough to be torn in the middle when there is room for a half of it"


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Node]:
    """A node all of whose runtime's files lie on one small disk."""
    if os.geteuid() != 0:
        pytest.skip("namespaces are tried as root")
    made = Node(tmp_path_factory.mktemp("full"), f"full-{worker_id}-{os.getpid()}")
    disk = made.folder / "disk"
    disk.mkdir()
    made.run("mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=4000", "disk", str(disk))
    made.root, made.state, made.logs = disk / "root", disk / "state", disk / "logs"
    made.start()
    try:
        yield made
    finally:
        made.close()


def inside(node: Node, path: str | Path) -> Path:
    """A file of the node's disk, which only its mount namespace has."""
    return Path(f"/proc/{node.pid}/root{path}")


def fill(node: Node) -> None:
    """Until there is no room for a single byte, nor a file."""
    folder = inside(node, node.folder / "disk" / "filler")
    folder.mkdir()
    with open(folder / "bytes", "wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 16, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass
    with contextlib.suppress(OSError):
        for number in range(10000):
            (folder / str(number)).touch()


def make_room(node: Node) -> None:
    folder = inside(node, node.folder / "disk" / "filler")
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()


async def test_a_full_disk_is_lived_through(node: Node, client: Cri) -> None:
    talking, talks = await client.pod("sh", "-c", f"while :; do echo {LINE}; sleep 0.002; done")
    _, ending = await client.pod("sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.02; done; exit 5")
    stopping, stops = await client.pod("sleep", "1000")
    shared, _ = await client.pod("sleep", "1000", pod=client.pod_config(cri.NamespaceOption(pid=cri.POD)))
    log = inside(node, (await client.status(talks)).log_path)
    await eventually(lambda: log.exists() and log.stat().st_size > 1000)

    fill(node)
    # Commands run, and what they bring about is seen.
    assert (await client.exec(ending, "touch", "/tmp/go"))[0] == 0
    ended = await client.finished(ending)
    assert (ended.exit_code, ended.reason) == (5, "Error")
    # Nothing new can be made, and it is said why.
    with pytest.raises(grpc.aio.AioRpcError, match="No space left on device"):
        await client.sandbox()
    # What is to end ends, or nobody could ever make room.
    await client.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=stopping))
    assert (await client.status(stops)).exit_code == 137
    await client.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=shared))
    # Neither daemon nor keeper needs room to come back.
    fill_again = inside(node, node.folder / "disk" / "filler" / "more")
    with contextlib.suppress(OSError):
        fill_again.write_bytes(b"x" * (1 << 20))
    node.kill_daemon()
    node.start()
    await client.ready()
    assert (await client.status(talks)).state == cri.CONTAINER_RUNNING
    ended = await client.status(ending)
    assert (ended.state, ended.exit_code) == (cri.CONTAINER_EXITED, 5)
    states = {each.id: each.state for each in (await client.runtime.ListPodSandbox(cri.ListPodSandboxRequest())).items}
    assert (states[talking], states[stopping], states[shared]) == (
        cri.SANDBOX_READY,
        cri.SANDBOX_NOTREADY,
        cri.SANDBOX_NOTREADY,
    )
    os.kill(node.keeper_pid, signal.SIGKILL)
    await eventually(lambda: node.keeper_pid, 20)
    await client.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=stopping))

    make_room(node)
    _, last = await client.pod("echo", "there is room again")
    path = (await client.finished(last)).log_path
    assert client.text(str(inside(node, path))) == "there is room again\n"
    size = log.stat().st_size
    await eventually(lambda: log.stat().st_size > size)
    for line in log.read_text().splitlines():
        assert line.split(" ", 3)[3] == LINE
    for path in [*inside(node, node.root).rglob("*.json"), *inside(node, node.state).rglob("spec.json")]:
        json.loads(path.read_bytes())
    assert not list(inside(node, node.root).rglob("*.tmp"))
    assert not list(inside(node, node.state).rglob("*.tmp"))
