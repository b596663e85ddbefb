"""gRPC probes, attach and cp, with kubectl, against real containers."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from kubeling.api.pods import is_ready

from .conftest import FOREVER, IMAGE, Pods, restarts, shell

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.xdist_group("cluster")]

#: The health service of gRPC: serving while there is no file /tmp/sick; only the service "db" is unknown.
SERVER = """
import os, grpc
from concurrent.futures import ThreadPoolExecutor

def check(request, context):
    if request[2:] == b'db':
        context.abort(grpc.StatusCode.NOT_FOUND, 'unknown service')
    return b'\\x08\\x02' if os.path.exists('/tmp/sick') else b'\\x08\\x01'

handler = grpc.method_handlers_generic_handler('grpc.health.v1.Health', {'Check': grpc.unary_unary_rpc_method_handler(check)})
server = grpc.server(ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((handler,))
server.add_insecure_port('0.0.0.0:5000')
server.start()
server.wait_for_termination()
"""


async def test_grpc_probes(pods: Pods) -> None:
    """A server that says that it serves is ready, one that does not is started again, and an unknown service never is ready."""
    command = [sys.executable, "-P", "-c", SERVER]
    probe = {"grpc": {"port": 5000}, "periodSeconds": 1, "failureThreshold": 2}
    served = {"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": command}
    await pods.run(
        "serves", {**served, "startupProbe": {**probe, "failureThreshold": 60}, "livenessProbe": probe, "readinessProbe": probe}
    )
    await pods.ready("serves", 60)
    await pods.exec("serves", "touch", "/tmp/sick")
    await pods.until("serves", lambda pod: restarts(pod) >= 1 and is_ready(pod), 60)
    words = await pods.event("serves", "Unhealthy")
    assert "NOT_SERVING" in words or "connection refused" in words.lower() or "Unavailable" in words
    await pods.run("unknown", {**served, "readinessProbe": {"grpc": {"port": 5000, "service": "db"}, "periodSeconds": 1}})
    await pods.event("unknown", "Unhealthy", 30)
    assert not is_ready(await pods.get("unknown"))


async def test_attach_to_what_runs(pods: Pods) -> None:
    """What is typed arrives at the program, what it says comes back, and with `stdinOnce` the end of one is that of the other."""
    echo = "while read line; do echo got $line; done; echo closed"
    await pods.run("talks", shell(echo, stdin=True, stdinOnce=True), restartPolicy="Never")
    await pods.ready("talks")
    done = await asyncio.to_thread(pods.cluster.kubectl, "attach", "-i", "-n", pods.namespace, "talks", input="hello\nworld\n")
    assert "got hello\ngot world\nclosed" in done.stdout
    await pods.phase("talks", "Succeeded")


async def test_files_are_copied_in_and_out(pods: Pods, tmp_path: Path) -> None:
    await pods.run("files", shell(FOREVER))
    await pods.ready("files")
    source = tmp_path / "tree"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "big").write_bytes(bytes(range(256)) * 20_000)
    (source / "small").write_text("words\n")
    pods.cluster.kubectl("cp", "-n", pods.namespace, str(source), "files:/tmp/tree")
    assert (await pods.exec("files", "cat", "/tmp/tree/small")) == "words\n"
    back = tmp_path / "back"
    pods.cluster.kubectl("cp", "-n", pods.namespace, "files:/tmp/tree", str(back))
    assert (back / "inner" / "big").read_bytes() == (source / "inner" / "big").read_bytes()
