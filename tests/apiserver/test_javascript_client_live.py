"""The JavaScript client, where node and npm are installed and npm gets at the package."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import World
from tests.apiserver.test_python_client_live import placed

pytestmark = pytest.mark.live
__all__ = ["placed"]
_SOURCE = Path(__file__).parent / "javascript"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program with the client installed beside it."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("javascript")
    for each in ("package.json", "client.mjs"):
        shutil.copy(_SOURCE / each, folder)
    command = ["npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not get the JavaScript client within two minutes")
    if done.returncode:
        pytest.skip(f"npm does not get the JavaScript client: {done.stderr[-300:]}")
    return folder / "client.mjs"


def test_the_javascript_client(program: Path, placed: Namespace, world: World, tmp_path: Path):
    config = world.servers[-1].kubeconfig(tmp_path / "config")
    command = ["node", str(program), str(config), placed.name, "p"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["created"] == {"a": "1"}
    assert seen["replaced"] == {"a": "2"}
    assert seen["conflict"] == 409
    assert seen["patched"] == {"a": "2", "b": "3"}
    assert seen["applied"] == [2, [["js", "Apply"]]]
    assert seen["scale"] == 2
    assert seen["listed"] == 1
    assert seen["watched"] == [["ADDED", "js"]]
    assert seen["informed"] == [["add", "js"], ["update", "js"], ["update", "js"], ["delete", "js"]]
    assert seen["missing"] == [404, "NotFound"]
    assert seen["exec"] == ["Success", "HELLO\nEXIT\n"]
