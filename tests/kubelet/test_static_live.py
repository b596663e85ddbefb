"""Static pods on a real node: made from files, seen through mirrors, led by nobody but their files."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kubeling.api.meta import annotations_of
from kubeling.api.pods import container_status, is_ready

from .conftest import IMAGE, Pods, restarts

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.xdist_group("cluster")]

NODE, CONTROL = "worker-1", "control-plane-1"


class Manifest:
    """A file in the folder of a node."""

    def __init__(self, pods: Pods) -> None:
        self.name = f"static-{secrets.token_hex(3)}"
        self.mirror = f"{self.name}-{NODE}"
        self.shared = pods.cluster.root / "nodes" / NODE / self.name
        self.path: Path = pods.cluster.root / "nodes" / NODE / "manifests" / f"{self.name}.json"
        self._namespace = pods.namespace

    def write(self, label: str) -> None:
        script = "echo run >> /w/runs; trap 'exit 0' TERM; while [ ! -e /w/die ]; do sleep 0.05; done; rm /w/die; exit 1"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self._namespace, "labels": {"version": label}},
            "spec": {
                "terminationGracePeriodSeconds": 5,
                "containers": [
                    {
                        "name": "c",
                        "image": IMAGE,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-c", script],
                        "volumeMounts": [{"name": "w", "mountPath": "/w"}],
                    }
                ],
                "volumes": [{"name": "w", "hostPath": {"path": str(self.shared), "type": "DirectoryOrCreate"}}],
            },
        }
        self.path.write_text(json.dumps(pod))

    def runs(self) -> int:
        found = self.shared / "runs"
        return found.read_text().count("run") if found.exists() else 0


@pytest.fixture
async def manifest(pods: Pods) -> AsyncIterator[Manifest]:
    made = Manifest(pods)
    yield made
    made.path.unlink(missing_ok=True)
    await pods.gone(made.mirror, 40)


async def until(what: Callable[[], Any], words: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, words
        await asyncio.sleep(0.05)


async def test_a_static_pod_follows_its_file_and_nothing_else(pods: Pods, manifest: Manifest) -> None:
    manifest.write("one")
    mirror = await pods.until(manifest.mirror, is_ready, missing=True)
    notes = annotations_of(mirror)
    assert notes["kubernetes.io/config.source"] == "file"
    assert notes["kubernetes.io/config.mirror"] == notes["kubernetes.io/config.hash"] != mirror["metadata"]["uid"]
    assert mirror["metadata"]["ownerReferences"][0]["kind"] == "Node"
    first = (container_status(mirror, "c") or {})["containerID"]
    # A mirror that is deleted comes back, and the pod has not noticed.
    await pods.delete(manifest.mirror)
    again = await pods.until(
        manifest.mirror, lambda pod: pod["metadata"]["uid"] != mirror["metadata"]["uid"] and is_ready(pod), 40, missing=True
    )
    assert (container_status(again, "c") or {})["containerID"] == first
    # Another file is another pod.
    manifest.write("two")
    changed = await pods.until(
        manifest.mirror,
        lambda pod: pod["metadata"]["labels"]["version"] == "two" and is_ready(pod),
        40,
        missing=True,
    )
    assert (container_status(changed, "c") or {})["containerID"] != first
    assert annotations_of(changed)["kubernetes.io/config.hash"] != notes["kubernetes.io/config.hash"]
    manifest.path.write_text("{ half of a fi")
    assert manifest.runs() == 2
    assert "run" not in await pods.log(manifest.mirror)
    manifest.path.unlink()
    await pods.gone(manifest.mirror, 40)


async def test_static_pods_need_no_apiserver(pods: Pods, manifest: Manifest) -> None:
    """Begun, restarted and found again by a new kubelet, all without one; then seen."""
    faults = pods.cluster.faults
    faults.pause(CONTROL, "apiserver")
    try:
        manifest.write("alone")
        await until(lambda: manifest.runs() == 1, "it did not start without an apiserver")
        faults.kill(NODE, "kubelet")
        (manifest.shared / "die").touch()
        await until(lambda: manifest.runs() == 2, "it was not restarted without an apiserver", 60)
    finally:
        faults.resume(CONTROL, "apiserver")
    mirror = await pods.until(manifest.mirror, lambda pod: restarts(pod) == 1 and is_ready(pod), 60, missing=True)
    assert mirror["status"]["phase"] == "Running"


async def test_a_file_that_went_while_the_kubelet_was_away(pods: Pods, manifest: Manifest) -> None:
    manifest.write("one")
    before = await pods.until(manifest.mirror, is_ready, missing=True)
    pods.cluster.faults.pause(NODE, "kubelet")
    manifest.write("two")
    pods.cluster.faults.kill(NODE, "kubelet")
    await pods.until(
        manifest.mirror, lambda pod: pod["metadata"]["labels"]["version"] == "two" and is_ready(pod), 60, missing=True
    )
    assert manifest.runs() == 2
    pods.cluster.faults.pause(NODE, "kubelet")
    manifest.path.unlink()
    pods.cluster.faults.kill(NODE, "kubelet")
    await pods.gone(manifest.mirror, 60)
    pod_dir = pods.cluster.root / "nodes" / NODE / "kubelet" / "pods" / annotations_of(before)["kubernetes.io/config.hash"]
    await until(lambda: not pod_dir.exists(), "something is left of it")
