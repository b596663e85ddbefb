"""What is on disk, and how a process is told from another of the same number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubeling.cluster import removal, state
from kubeling.cluster.state import ClusterError, Process, State
from kubeling.cluster.topology import ClusterSpec, nodes_for


def test_a_state_is_read_back(tmp_path: Path) -> None:
    spec = ClusterSpec("t", 3, 2, api_port=7)
    wrote = State(
        spec,
        "running",
        nodes_for(spec),
        ["worker-2"],
        {"worker-1/kubelet": 9},
        "/kubeling/t-1",
        "/run/x",
        True,
        Process(1, 2, "supervisor"),
        [Process(3, 4, "worker-1/kubelet")],
    )
    state.save(tmp_path, wrote)
    assert state.load(tmp_path) == wrote
    assert [path.name for path in tmp_path.iterdir()] == [state.FILE]


def test_a_damaged_state_names_the_remedy(tmp_path: Path) -> None:
    assert state.load(tmp_path) is None
    (tmp_path / state.FILE).write_bytes(b"\xff{")
    with pytest.raises(ClusterError, match="kubeling down"):
        state.load(tmp_path)


@pytest.mark.parametrize("name", ["a", "a-b-1", "9", "x" * 40])
def test_names_that_can_be_used(name: str) -> None:
    state.check_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a/b", "..", "é", "x" * 41])
def test_names_that_cannot(name: str) -> None:
    with pytest.raises(ClusterError, match="cannot be used"):
        state.check_name(name)


def test_a_number_alone_is_no_process() -> None:
    assert state.identify(os.getpid()).alive()
    assert not Process(os.getpid(), state.process_start(os.getpid()) - 1).alive()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = state.identify(child.pid)
        pidfd = os.pidfd_open(child.pid)
        assert found.alive()
        assert state.host_pid(pidfd) == child.pid
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        # Not fetched yet: a zombie holds its number, but it is no more.
        assert not found.alive()
        child.wait()
        assert state.host_pid(pidfd) == 0
        os.close(pidfd)


def test_killing_spares_whoever_has_the_number_now(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        ours = state.identify(stranger.pid)
        removal.kill_all(State(ClusterSpec("t"), processes=[Process(ours.pid, ours.start - 100)]))
        assert stranger.poll() is None
        removal.kill_all(State(ClusterSpec("t"), supervisor=ours))
        assert stranger.wait() == -9


def test_one_up_or_down_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBELING_HOME", str(tmp_path / "home"))
    root = state.root_of("t")
    with state.locked(root), pytest.raises(ClusterError, match="at this moment"), state.locked(root):
        pass
    with pytest.raises(ClusterError, match="made for nothing"), state.locked(root):
        raise ClusterError("made for nothing")
    assert not (tmp_path / "home").exists()


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KUBELING_HOME", str(tmp_path / "file"))
    with pytest.raises(ClusterError, match="KUBELING_HOME"), state.locked(state.root_of("t")):
        pass
