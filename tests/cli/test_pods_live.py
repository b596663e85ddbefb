"""`exec`, `logs` and `drain` on pods that run."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.live

Run = Callable[..., subprocess.CompletedProcess[bytes]]
LOOP = "echo first; echo to-stderr >&2; exec sleep 1000"


@pytest.fixture
def kubeling(kubeling_cluster: Any, kubeling_namespace: str) -> Run:
    def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        line = [sys.executable, "-m", "kubeling.cli", words[0], "-n", kubeling_namespace, *words[1:]]
        return subprocess.run(line, input=stdin, capture_output=True, timeout=120, check=False, env=kubeling_cluster.env)

    made = run("run", "sh", "--image=kubeling.local/host", "--command", "--", "sh", "-c", LOOP)
    assert made.returncode == 0, made
    ready = run("wait", "--for=condition=Ready", "pod/sh", "--timeout=60s")
    assert ready.returncode == 0, (ready, run("describe", "pod", "sh").stdout)
    return run


def test_exec_and_logs(kubeling: Run, kubeling_cluster: Any, kubeling_namespace: str) -> None:
    assert kubeling("exec", "sh", "--", "echo", "-n", "hi").stdout == b"hi"
    failed = kubeling("exec", "pod/sh", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (failed.returncode, failed.stdout) == (3, b"out\n")
    assert failed.stderr == b"err\ncommand terminated with exit code 3\n"

    data = os.urandom(3_000_000)
    assert kubeling("exec", "-i", "sh", "--", "cat", stdin=data).stdout == data
    missing = kubeling("exec", "sh", "--", "no-such-command")
    assert missing.returncode == 1
    assert b"no-such-command" in missing.stderr
    assert kubeling("exec", "sh", "-c", "nope", "--", "ls").returncode == 1

    assert sorted(kubeling("logs", "sh").stdout.splitlines()) == [b"first", b"to-stderr"]
    assert kubeling("logs", "sh", "--tail=1", "--prefix").stdout.startswith(b"[pod/sh/sh] ")
    assert kubeling("logs", "-l", "run=sh").stdout.count(b"\n") == 2

    parent, child = pty.openpty()
    line = [
        sys.executable,
        "-m",
        "kubeling.cli",
        "exec",
        "-n",
        kubeling_namespace,
        "-it",
        "sh",
        "--",
        "sh",
        "-c",
        "read x; echo got $x; tty",
    ]
    session = subprocess.Popen(line, stdin=child, stdout=child, stderr=child, env=kubeling_cluster.env, start_new_session=True)
    os.close(child)
    try:
        os.write(parent, b"word\r")
        shown = b""
        while b"/dev/" not in shown:
            assert select.select([parent], [], [], 60)[0], f"nothing more is shown after {shown!r}"
            shown += os.read(parent, 4096)
        assert b"got word" in shown
        assert session.wait(60) == 0
    finally:
        session.kill()
        session.wait()
        os.close(parent)
