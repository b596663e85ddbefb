"""The short form of the suite: one run of each named dimension, against live members. The long form: `make robustness`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .sandbox import PASSED, SKIPPED

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("robustness")]
ROOT = Path(__file__).parents[2]
#: A run of a few seconds on a machine that is busy with other tests.
LIMIT_SECONDS = 120


def run(directory: Path, scenario: str, seconds: float = 3.0, *flags: str, expect: int = PASSED) -> str:
    """Run a scenario in a process of its own; returns what it says. Fails where it ends otherwise than expected, skips where it cannot be done here."""
    seed = os.environ.get("ROBUSTNESS_SEED", "short")
    command = [sys.executable, "-m", "tests.robustness", "run", scenario, "--seed", seed, "--seconds", str(seconds), *flags]
    done = subprocess.run(
        [*command, "--directory", str(directory)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS
    )
    said = done.stdout + done.stderr
    if done.returncode == SKIPPED:
        pytest.skip(said.strip())
    assert done.returncode == expect, said
    return said


def test_crash_of_a_single_member_cluster(tmp_path: Path) -> None:
    assert "kill" in run(tmp_path, "single-member-crash")
