"""Programs on the PATH that are verbs, beside kubectl's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kubeling.cli import plugins

_LINES = [
    "plugin list",
    "plugin list --name-only",
    "foo bar -n x --as=y",
    "a-b c d -n x",
    "a-b c-d -n x",
    "create thing -n x",
]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Two folders of plugins, one of them twice, and one that is missing."""
    first, second = tmp_path / "one", tmp_path / "two"
    for folder, names in (
        (first, ("foo", "version", "create-thing", "create-deployment", "a_b-c", "a_b-c_d", "rollout-foo", "config-view-x")),
        (second, ("foo",)),
    ):
        folder.mkdir()
        for name in names:
            file = folder / f"kubectl-{name}"
            file.write_text(f'#!/bin/sh\necho {name} "$@"\nexit 3\n')
            file.chmod(0o644 if folder is second else 0o755)
    (first / "other").write_text("")
    return f"{first}:{second}:{first}:{tmp_path}/missing:/usr/bin:/bin"


@pytest.mark.parametrize("line", _LINES)
def test_plugins_are_found_and_listed_as_kubectl_does_it(line: str, path: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: nothing to compare with")
    found = []
    for program in ([kubectl], [sys.executable, "-m", "kubeling.cli"]):
        done = subprocess.run(
            [*program, *line.split()], capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False
        )
        # The system's own folders may hold plugins of theirs.
        shown = [each for each in done.stdout.splitlines() if "/bin/" not in each]
        found.append((done.returncode, shown, done.stderr.replace('"kubectl ', '"kubeling ')))
    assert found[1] == found[0]
    assert found[0][0] == (1 if line.startswith("plugin") else 3)


def test_our_own_prefix_comes_first_and_the_longest_name_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("kubectl-foo", "kubeling-foo", "kubectl-foo-bar"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    assert plugins.find(["foo", "x", "-f", "y"]) == (f"{tmp_path}/kubeling-foo", ["x", "-f", "y"])
    assert plugins.find(["foo", "bar", "x"]) == (f"{tmp_path}/kubectl-foo-bar", ["x"])
    assert plugins.find(["foo", "-x", "bar"]) == (f"{tmp_path}/kubeling-foo", ["-x", "bar"])
    assert plugins.find(["other"]) is None
    assert plugins.find(["--foo"]) is None
