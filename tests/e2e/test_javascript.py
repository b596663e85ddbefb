"""The official JavaScript client on real pods, where node and npm are installed and npm gets at the package."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from kubeling.tests.e2e.kubectl import IMAGE
from kubeling.tests.e2e.support import Bench
from kubeling.tests.javascript import installed

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(Path(__file__).parent / "javascript", "pods.mjs", tmp_path_factory.mktemp("javascript"))


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
