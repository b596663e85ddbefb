"""Children that are born in a cgroup."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeling.crilite import cgroups, keeper
from kubeling.linux.cloning import fork_into

MOUNTS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))


@pytest.fixture
def group() -> Iterator[Path]:
    mount = next((each for each in MOUNTS if (each / "cgroup.controllers").exists()), None)
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("needs root and a cgroup hierarchy of version 2")
    folder = mount / f"kubeling-test-{os.getpid()}"
    folder.mkdir()
    yield folder
    folder.rmdir()


def in_a_single_thread(body: str, *arguments: str) -> str:
    """What a new interpreter prints: the tests' own has threads."""
    done = subprocess.run([sys.executable, "-c", body, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


FORK = """
import os, signal, sys, threading
from kubeling.linux.cloning import fork_into
pid = fork_into(os.open(sys.argv[1], os.O_PATH))
if pid == 0:
    found = []
    thread = threading.Thread(target=lambda: found.append(1))
    thread.start()
    thread.join()
    if found and threading.get_native_id() == os.getpid():
        sys.stdout.write([line for line in open("/proc/self/cgroup") if line.startswith("0::")][0])
        sys.stdout.flush()
        signal.raise_signal(signal.SIGTERM)
    os._exit(1)
assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM
"""


def test_the_child_is_a_whole_process_in_the_cgroup(group: Path) -> None:
    assert in_a_single_thread(FORK, str(group)).strip() == f"0::/{group.name}"


def test_what_is_no_cgroup_is_an_error_and_no_child(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(OSError, match="fork into a cgroup"):
            fork_into(folder)
    finally:
        os.close(folder)


def test_the_keeper_forks_all_the_same_where_it_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").touch()
    joins = [str(tmp_path / "tasks"), str(tmp_path / "cgroup.procs")]
    pid, left = keeper._born_in(joins)
    if pid == 0:
        os._exit(7 if left == joins else 1)
    assert os.waitpid(pid, 0)[1] == 7 << 8


def test_only_what_a_thread_cannot_join_alone_is_joined_as_a_process(tmp_path: Path) -> None:
    backend = cgroups.V1({name: str(tmp_path / name) for name in ("memory", "pids", "cpuset", "unified")})
    for name in ("memory", "pids", "cpuset", "unified"):
        (tmp_path / name / "a").mkdir(parents=True)
    assert sorted(backend.joins("/a")) == [
        *(f"{tmp_path}/{name}/a/tasks" for name in ("cpuset", "memory", "pids")),
        f"{tmp_path}/unified/a/cgroup.procs",
    ]
