"""The short form of the suite: one run of each named dimension, against live members. The long form: `make robustness`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .sandbox import PASSED, SKIPPED, VIOLATED

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


# The dimensions in which real etcd had bugs, by name.


def test_crash_of_a_single_member_cluster(tmp_path: Path) -> None:
    assert "kill" in run(tmp_path, "single-member-crash", 1.5)


def test_compaction_while_a_watch_catches_up(tmp_path: Path) -> None:
    assert "Compact" in run(tmp_path, "compaction-while-a-watch-catches-up")


def test_resume_of_a_watch_after_a_partition(tmp_path: Path) -> None:
    assert "isolate" in run(tmp_path, "resume-of-a-watch-after-a-partition", 2)


def test_read_on_a_paused_leader_that_was_deposed(tmp_path: Path) -> None:
    assert "resume" in run(tmp_path, "read-on-a-paused-leader-that-was-deposed")


def test_watch_on_a_future_revision(tmp_path: Path) -> None:
    run(tmp_path, "watch-on-a-future-revision", 2)


# Each kind of fault.


@pytest.mark.parametrize("scenario", ["processes", "partitions", "disks", "clocks", "membership"])
def test_faults(tmp_path: Path, scenario: str) -> None:
    assert "fault" in run(tmp_path, scenario, 3)


def test_power_failures(tmp_path: Path) -> None:
    assert "power failure" in run(tmp_path, "power-failures", 1.5)
    assert "power failure" in run(tmp_path / "one", "power-failures-of-a-single-member", 1)


# And that it can find something.


@pytest.mark.parametrize(
    ("way", "scenario", "found"),
    [
        # It passes as long as members are only killed; the power has to fail.
        ("fsync", "power-failures-of-a-single-member", "VIOLATED"),
        ("reads", "read-on-a-paused-leader-that-was-deposed", "stale linearizable read"),
        ("events", "calm", "watch is not reliable"),
    ],
)
def test_a_store_that_lies_is_found_out(tmp_path: Path, way: str, scenario: str, found: str) -> None:
    assert found in run(tmp_path, scenario, 1.5, "--break", way, expect=VIOLATED)
    assert (tmp_path / "history.jsonl").stat().st_size > 0
