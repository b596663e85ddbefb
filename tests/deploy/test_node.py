"""deploy/node.py as the init that it is: it keeps daemons running, hands signals on, and stops in order. What makes a container a node is tried by try_compose.sh."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubeling.tests.deploy.support import DEPLOY, load

node = load("node")

DAEMON = textwrap.dedent(
    """
    import os, signal, sys, time
    name, log = sys.argv[1:3]
    def note(word):
        with open(log, "a") as file:
            file.write(f"{name} {word} {os.getpid()}\\n")
    def end(*_):
        note("TERM")
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, lambda *_: note("HUP"))
    if name == "deaf":
        signal.signal(signal.SIGTERM, lambda *_: note("TERM"))
    note("start")
    while True:
        signal.pause()
    """
)
INIT = textwrap.dedent(
    """
    import importlib.util, sys
    from kubeling.linux import syscalls
    spec = importlib.util.spec_from_file_location("node", sys.argv[1])
    node = sys.modules["node"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(node)
    node.STOP_SECONDS = 1.0
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    sys.exit(node.Init(node.commands(sys.argv[2:])).run())
    """
)

Lines = Callable[[], list[tuple[str, str, int]]]


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Running:
    """An init with two daemons; `lines` is what these have noted."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        (folder / "fakedaemon.py").write_text(DAEMON)
        self.log = folder / "log"
        self.log.touch()
        words = " -- ".join(f"fakedaemon {name} $LOG" for name in names).split()
        environment = {**os.environ, "PYTHONPATH": str(folder), "LOG": str(self.log)}
        self.process = subprocess.Popen([sys.executable, "-c", INIT, str(DEPLOY / "node.py"), *words], env=environment)

    def lines(self) -> list[tuple[str, str, int]]:
        found = [line.split() for line in self.log.read_text().splitlines()]
        return [(name, word, int(pid)) for name, word, pid in found]

    def count(self, name: str, word: str) -> int:
        return sum(line[:2] == (name, word) for line in self.lines())

    def pid(self, name: str) -> int:
        return [line[2] for line in self.lines() if line[:2] == (name, "start")][-1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def begin(*names: str) -> Running:
        made.append(Running(tmp_path, list(names)))
        wait_for(lambda: all(made[-1].count(name, "start") for name in names))
        return made[-1]

    yield begin
    for each in made:
        if each.process.poll() is None:
            each.process.terminate()
        each.process.wait(20)


def test_a_daemon_that_dies_is_started_again_and_the_other_is_left_alone(start: Callable[..., Running]) -> None:
    running = start("one", "two")
    os.kill(running.pid("one"), signal.SIGKILL)
    wait_for(lambda: running.count("one", "start") == 2)
    assert running.count("two", "start") == 1


def test_the_delay_before_a_restart_grows_and_is_forgotten_after_a_long_life() -> None:
    daemon = node.Daemon(("x",))
    delays = []
    for _ in range(4):
        daemon.since = time.monotonic()
        daemon.ended(1, restart=True)
        delays.append(daemon.due - time.monotonic())
    assert delays[3] > 2 * delays[0]
    daemon.since = time.monotonic() - 60
    daemon.ended(1, restart=True)
    assert daemon.due - time.monotonic() < delays[3]


def test_a_stop_ends_the_daemons_last_first_and_then_the_init(start: Callable[..., Running]) -> None:
    running = start("one", "two")
    running.process.terminate()
    assert running.process.wait(20) == 0
    assert [line[0] for line in running.lines() if line[1] == "TERM"] == ["two", "one"]


def test_a_daemon_that_does_not_end_is_killed(start: Callable[..., Running]) -> None:
    running = start("deaf")
    pid = running.pid("deaf")
    running.process.terminate()
    assert running.process.wait(20) == 0
    assert running.count("deaf", "TERM") == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_other_signals_are_handed_on(start: Callable[..., Running]) -> None:
    running = start("one", "two")
    running.process.send_signal(signal.SIGHUP)
    wait_for(lambda: running.count("one", "HUP") == running.count("two", "HUP") == 1)


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(KeyError, match="NO_SUCH_VARIABLE"):
        node.commands(["kubeling.kubelet", "--node-ip=$NO_SUCH_VARIABLE"])


def test_without_the_rights_of_a_node_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(node, "prepare", refuse)
    assert node.main(["kubeling.kubelet"]) == 1
    assert "privileged: true" in capsys.readouterr().out
