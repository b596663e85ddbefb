"""Programs for the official JavaScript client, where node and npm are installed and npm gets at the package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def installed(source: Path, program: str, folder: Path) -> Path:
    """`program` out of `source`, copied to `folder` with what its package.json asks for beside it; skips the test where that cannot be had."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    for each in ("package.json", program):
        shutil.copy(source / each, folder)
    command = ["npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not get the JavaScript client within two minutes")
    if done.returncode:
        pytest.skip(f"npm does not get the JavaScript client: {done.stderr[-300:]}")
    return folder / program
