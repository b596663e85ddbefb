"""Containers that eat what everybody shares: each is held to its own, it is said what became of it, and the node and its other pods go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubeling.api.conditions import get_condition
from kubeling.api.pods import container_status, is_ready
from kubeling.api.resources import NODES
from kubeling.bench.node.processes import agents, resident
from tests.kubelet.conftest import FOREVER, IMAGE, Obj, Pods, restarts, shell, state

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.xdist_group("cluster")]

NODE = "worker-2"
MIB = 1 << 20


def python(script: str, **more: object) -> Obj:
    return {"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["python3", "-c", script], **more}


@pytest.fixture
async def bystander(pods: Pods) -> AsyncIterator[Obj]:
    """A pod on the same node that must not notice anything; afterwards the node's daemons are the same, and it is Ready, starts pods and answers."""
    daemons = daemons_of(pods)
    await pods.run("bystander", shell(FOREVER), nodeName=NODE)
    before = await pods.ready("bystander")
    yield before
    after = await pods.ready("bystander")
    assert (container_status(after, "c") or {})["containerID"] == (container_status(before, "c") or {})["containerID"]
    assert await pods.exec("bystander", "echo", "well") == "well\n"
    node = await pods.client.get(NODES, NODE)
    assert (get_condition(node, "Ready") or {})["status"] == "True"
    await pods.run("fresh", shell(FOREVER), nodeName=NODE)
    await pods.ready("fresh", 30)
    assert daemons_of(pods) == daemons, last_words(pods)


def last_words(pods: Pods) -> str:
    """Of the node's daemons, and what their supervisor has seen."""
    logs = pods.cluster.root / "logs"
    tails = ((logs / f"{each}.log").read_text()[-4000:] for each in (f"{NODE}-kubelet", f"{NODE}-crilite", "supervisor"))
    return "a daemon has died: " + "\n---\n".join(tails)


def daemons_of(pods: Pods) -> dict[int, str]:
    return {pid: name for pid, name in agents(pods.cluster, NODE).items() if name in ("kl-kubelet", "kl-crilite")}


async def test_a_fork_bomb_is_held_by_the_limit_of_processes(pods: Pods, bystander: Obj) -> None:
    bomb = """
import os, threading, time
threading.stack_size(65536)
held = 0
try:
    while held < 30000:
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        held += 1
except RuntimeError as error:
    pass
try:
    if os.fork() == 0: os._exit(0)
    print("forked without end", flush=True)
except OSError as error:
    print("stopped at", held, error, flush=True)
time.sleep(1000)
"""
    await pods.run("bomb", python(bomb), nodeName=NODE, terminationGracePeriodSeconds=0)
    said = await pods.logged("bomb", "stopped at", 60)
    assert "Resource temporarily unavailable" in said
    assert await pods.exec("bystander", "sh", "-c", "true & wait; echo forks") == "forks\n"
    await pods.delete("bomb")
    assert await pods.gone("bomb", 60) < 60


async def test_a_memory_bomb_is_killed_and_said_to_be(pods: Pods, bystander: Obj) -> None:
    bomb = "held = []\nwhile True: held.append(bytearray(1 << 20))"
    await pods.run("bomb", python(bomb, resources={"limits": {"memory": "64Mi"}}), nodeName=NODE)
    pod = await pods.until("bomb", lambda pod: restarts(pod) >= 1, 60)
    ended = (container_status(pod, "c") or {})["lastState"].get("terminated") or state(pod)["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


async def test_the_children_of_a_container_share_its_memory_limit(pods: Pods, bystander: Obj) -> None:
    """A shell that survives the death of its child: the container goes on, and has what it was given."""
    script = "python3 -c 'x = bytearray(1 << 30)'; echo ended with $?; " + FOREVER
    await pods.run("bomb", shell(script, resources={"limits": {"memory": "64Mi"}}), nodeName=NODE)
    pod = await pods.until("bomb", lambda pod: restarts(pod) >= 1 or "running" in state(pod), 60)
    if not restarts(pod):
        assert "ended with 137" in await pods.logged("bomb", "ended with", 30)


async def test_the_writable_layer_has_an_end(pods: Pods, bystander: Obj) -> None:
    filler = """
import os, time
written = 0
try:
    with open("/filler", "wb", buffering=0) as file:
        while written < 4 << 30:
            written += file.write(bytes(1 << 20))
except OSError as error:
    print("full after", written >> 20, "MiB:", error, flush=True)
os.unlink("/filler")
time.sleep(1000)
"""
    await pods.run("filler", python(filler), nodeName=NODE, terminationGracePeriodSeconds=0)
    assert "No space left on device" in await pods.logged("filler", "full after", 90)


async def test_inodes_and_descriptors_have_an_end(pods: Pods, bystander: Obj) -> None:
    """Empty files take no space, but memory: they count against the limit of the container that makes them."""
    eater = """
import os, time
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print("descriptors:", len(held), error, flush=True)
for fd in held: os.close(fd)
os.mkdir("/many")
for number in range(3_000_000):
    os.close(os.open(f"/many/{number}", os.O_CREAT))
    if number % 10000 == 0: print("files:", number, flush=True)
print("files without end", flush=True)
"""
    await pods.run("eater", python(eater, resources={"limits": {"memory": "64Mi"}}), nodeName=NODE, restartPolicy="Never")
    assert "Too many open files" in await pods.logged("eater", "descriptors:", 60)
    pod = await pods.until("eater", lambda pod: "terminated" in state(pod), 120)
    assert state(pod)["terminated"]["reason"] in ("OOMKilled", "Error")
    assert "without end" not in await pods.log("eater", tailLines=2)


async def test_a_flood_of_log_lines_is_rotated_away(pods: Pods, bystander: Obj) -> None:
    # More than once: what is written last may be rotated away with what came before it.
    script = "timeout 12 yes a line of a flood that does not end; while echo last; do sleep 1; done"
    await pods.run("flood", shell(script), nodeName=NODE)
    pod = await pods.ready("flood", 60)
    folder = pods.cluster.root / "nodes" / NODE / "kubelet" / "log" / "pods" / f"{pods.namespace}_flood_{pod['metadata']['uid']}"
    deadline = time.monotonic() + 120
    while (await pods.log("flood", tailLines=1)) != "last\n":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.3)
    # Five files of ten MiB. A flood is noticed after ten seconds at the latest, and what came in until then is rotated away by what comes after it.
    while size_of(folder) > 60 * MIB and not list((folder / "c").glob("*.gz")):
        assert time.monotonic() < deadline, size_of(folder)
        await asyncio.sleep(0.3)


def size_of(folder: Path) -> int:
    total = 0
    for inner, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(inner, name)).st_size
    return total


async def test_answers_without_end_do_not_fill_the_kubelet(pods: Pods, bystander: Obj) -> None:
    """An HTTP server that never stops talking, a probe command that never stops writing, last words of 200 MB."""
    endless = """
import socket, threading
server = socket.create_server(("", 8080))
def serve(sock):
    sock.recv(1000)
    try:
        sock.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
        while True: sock.sendall(bytes(1 << 20))
    except OSError: pass
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
    before = memory(pods)
    probe = {"periodSeconds": 1, "timeoutSeconds": 2}
    await pods.run(
        "http",
        python(endless, readinessProbe={"httpGet": {"port": 8080}, **probe}),
        nodeName=NODE,
        terminationGracePeriodSeconds=0,
    )
    command = {"exec": {"command": ["sh", "-c", "yes output without end"]}, **probe}
    await pods.run("exec", shell(FOREVER, readinessProbe=command), nodeName=NODE)
    words = "head -c 200000000 /dev/zero | tr '\\0' x > /dev/termination-log; exit 1"
    await pods.run("words", shell(words), nodeName=NODE, restartPolicy="Never")
    pod = await pods.until("words", lambda pod: "terminated" in state(pod), 60)
    assert len(state(pod)["terminated"]["message"]) == 4096
    await pods.ready("http")
    assert await pods.event("exec", "Unhealthy", 30)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        grown = memory(pods) - before
        assert grown < 60 * MIB, f"the kubelet or the runtime has grown by {grown / MIB:.0f} MiB"
        await asyncio.sleep(0.5)
    assert not is_ready(await pods.get("exec"))


def memory(pods: Pods) -> int:
    """What the node's kubelet and runtime have in memory together."""
    return sum(resident(pods.cluster, NODE).values())
