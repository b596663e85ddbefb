"""A runtime that is not ours: the cluster uses it, and takes its own pods out of it, and no others."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from kubeling.cluster import cgroups, runtime
from kubeling.cluster.pytest_plugin import ClusterHandle
from kubeling.proto import cri_pb2, cri_pb2_grpc

pytestmark = [pytest.mark.live, pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start another runtime")]


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A runtime that somebody else has started, serving CRI on a socket."""
    with tempfile.TemporaryDirectory(prefix="kl-cri-") as name:
        folder = Path(name)
        where = f"unix://{folder}/cri.sock"
        flags = [f"--root={folder}/root", f"--state={folder}/state", "--handlers=process", "--default-handler=process"]
        # In a PID namespace of its own, so that its keeper ends with it.
        world = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
        command = [
            *world,
            sys.executable,
            "-P",
            "-m",
            "kubeling.crilite",
            f"--listen={where}",
            f"--cgroup-root=/{folder.name}",
            *flags,
        ]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
            deadline = time.monotonic() + 20
            while not _answers(folder / "cri.sock"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield where
            runtime.remove_pods(where, {s.metadata.uid for s in sandboxes(where)})
            daemon.kill()
        cgroups.remove(f"/{folder.name}")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def sandboxes(endpoint: str) -> list[cri_pb2.PodSandbox]:
    with grpc.insecure_channel(endpoint) as channel:
        return list(cri_pb2_grpc.RuntimeServiceStub(channel).ListPodSandbox(cri_pb2.ListPodSandboxRequest()).items)


def test_down_takes_the_clusters_pods_out_of_a_foreign_runtime(own_cluster: ClusterHandle, endpoint: str) -> None:
    with grpc.insecure_channel(endpoint) as channel:
        metadata = cri_pb2.PodSandboxMetadata(name="others", namespace="default", uid="not-ours")
        config = cri_pb2.PodSandboxConfig(metadata=metadata)
        cri_pb2_grpc.RuntimeServiceStub(channel).RunPodSandbox(cri_pb2.RunPodSandboxRequest(config=config))
    own_cluster.cli("up", "--network=host", f"--runtime={endpoint}")
    container = {"name": "c", "image": "kubeling.local/host", "command": ["sleep", "1000"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    own_cluster.kubectl("apply", "-f", "-", input=json.dumps(pod))
    own_cluster.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
    assert {s.metadata.name for s in sandboxes(endpoint)} == {"others", "p"}
    own_cluster.cli("down")
    assert {s.metadata.name for s in sandboxes(endpoint)} == {"others"}
