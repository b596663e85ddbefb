"""Clients in pods, with nothing but what a pod is given: the API's address, its authority, and the token of its service account."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from kubeling.tests.e2e.support import Bench
from kubeling.tests.javascript import installed

pytestmark = pytest.mark.live

#: No file of the developer's, whose home the image shows.
_NO_FILE = ("env", "KUBECONFIG=/nonexistent/config", "HOME=/tmp")


@pytest.fixture
def reader(bench: Bench) -> Bench:
    """Whoever runs in the namespace may look at pods there."""
    bench.cli("create", "rolebinding", "reader", "--clusterrole=view", f"--serviceaccount={bench.namespace}:default")
    return bench


def test_kubectl_which_is_the_go_client(reader: Bench) -> None:
    binary = shutil.which("kubectl")
    if binary is None:
        pytest.skip("kubectl is not installed")
    found = json.loads(reader.run_once("go", *_NO_FILE, binary, "get", "pods", "-o", "json"))
    assert [each["metadata"]["name"] for each in found["items"]] == ["go"]
    said = reader.run_once("whoami", *_NO_FILE, binary, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert said.strip() == f"system:serviceaccount:{reader.namespace}:default"
    # What the rights do not cover is refused.
    done = reader.run_once("refused", *_NO_FILE, "sh", "-c", f"{binary} get nodes 2>&1 || true")
    assert "is forbidden" in done


def test_the_python_client(reader: Bench) -> None:
    pytest.importorskip("kubernetes")
    code = (
        "from kubernetes import client, config\n"
        "config.load_incluster_config()\n"
        f"print(*(each.metadata.name for each in client.CoreV1Api().list_namespaced_pod('{reader.namespace}').items))"
    )
    assert reader.run_once("python", *_NO_FILE, sys.executable, "-c", code) == "python\n"


def test_the_javascript_client(reader: Bench, tmp_path: Path) -> None:
    program = installed(Path(__file__).parent / "javascript", "incluster.mjs", tmp_path)
    mount = {str(program.parent): str(program.parent)}
    found = json.loads(reader.run_once("javascript", *_NO_FILE, shutil.which("node") or "node", str(program), mounts=mount))
    assert found == {"namespace": reader.namespace, "pods": ["javascript"]}
