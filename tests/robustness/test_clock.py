"""The clock's shim shifts what a process believes, while it runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from . import sandbox
from .clock import Clock, build


def test_a_process_believes_the_shifted_clocks(tmp_path: Path) -> None:
    if reason := sandbox.unavailable(clock=True):
        pytest.skip(reason)
    clock = Clock(tmp_path / "clock", build(tmp_path))
    script = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", script], env=clock.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ahead() -> tuple[float, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("?\n")
            wall, monotonic = map(float, process.stdout.readline().split())
            return wall - time.time(), monotonic - time.monotonic()

        assert ahead() == pytest.approx((0, 0), abs=5)
        clock.jump(wall=-86400, monotonic=3600)
        assert ahead() == pytest.approx((-86400, 3600), abs=5)
        clock.jump(wall=2 * 86400)
        assert ahead() == pytest.approx((86400, 3600), abs=5)
        process.stdin.write("\n")
