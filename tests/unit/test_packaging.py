"""The wheel: every room is in it, and it works outside of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SHIPPED = {"bench", "tests", "examples", "docs", "build"}


def rooms() -> set[str]:
    """The packages that the checkout has."""
    found = {"kubeling"}
    for init in ROOT.rglob("__init__.py"):
        parts = init.parent.relative_to(ROOT).parts
        if parts and parts[0] not in NOT_SHIPPED and not any(part.startswith(".") for part in parts):
            found.add(".".join(("kubeling", *parts)))
    return found


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(listed) == rooms()
    assert len(listed) == len(set(listed))


@pytest.mark.slow
def test_the_wheel_works_outside_of_the_checkout(tmp_path: Path) -> None:
    copied = tmp_path / "source"
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True).stdout.split(b"\0")
    for name in [os.fsdecode(each) for each in tracked if each]:
        source, target = ROOT / name, copied / name
        if source.is_file() and not source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(copied),
    ]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("kubeling-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = archive.namelist()
    assert not [name for name in names if name.startswith(("kubeling/tests/", "kubeling/bench/"))]
    assert "kubeling/py.typed" in names
    # The dependencies are this environment's, the package is the wheel's.
    program = "import kubeling, runpy, sys; assert kubeling.__file__.startswith(sys.argv[1]), kubeling.__file__; sys.argv = ['kubeling', '--help']; runpy.run_module('kubeling.cli', run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    shown = subprocess.run(
        [sys.executable, "-c", program, str(site)], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert "apply" in shown.stdout
