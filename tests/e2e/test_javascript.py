"""The official JavaScript client on real pods, where node and npm are installed and npm gets at the package."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from kubeling.tests.e2e.kubectl import IMAGE
from kubeling.tests.e2e.support import Bench

pytestmark = pytest.mark.live
_SOURCE = Path(__file__).parent / "javascript"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program with the client installed beside it."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("javascript")
    for each in ("package.json", "pods.mjs"):
        shutil.copy(_SOURCE / each, folder)
    command = ["npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not get the JavaScript client within two minutes")
    if done.returncode:
        pytest.skip(f"npm does not get the JavaScript client: {done.stderr[-300:]}")
    return folder / "pods.mjs"


def test_the_javascript_client_on_a_real_pod(program: Path, bench: Bench) -> None:
    command = ["node", str(program), str(bench.cluster.kubeconfig), bench.namespace, IMAGE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert seen["phases"] == ["Pending", "Running"]
    assert seen["exec"] == ["Success", "hello\n", "", ""]
    assert seen["failed"] == ["Failure", "out\n", "err\n", "7"]
    assert seen["logs"] == "begin\n"
    assert seen["attached"] == "got a line\n"
    assert seen["forwarded"] == "HTTP/1.0 200 OK"
