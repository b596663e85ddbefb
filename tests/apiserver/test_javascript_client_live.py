"""The JavaScript client, where node and npm are installed and npm gets at the package."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import World
from tests.apiserver.test_python_client_live import placed
from tests.javascript import installed

pytestmark = pytest.mark.live
__all__ = ["placed"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(Path(__file__).parent / "javascript", "client.mjs", tmp_path_factory.mktemp("javascript"))


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
