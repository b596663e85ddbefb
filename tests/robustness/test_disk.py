"""The lossy disk loses what it should, and nothing else; first as a data structure, then as a file system of the kernel's."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from . import sandbox
from .disk_image import ROOT, Directory, Disk, DiskError, File

ROOT_OF_TESTS = Path(__file__).parents[2]


def make(disk: Disk, name: str, data: bytes = b"", parent: int = ROOT) -> File:
    file = disk.create(parent, name, 0o600)
    assert isinstance(file, File)
    if data:
        disk.write(file.number, 0, data)
    return file


def contents(disk: Disk, name: str) -> bytes:
    file = disk.lookup(ROOT, name)
    assert isinstance(file, File)
    return file.read(0, 1 << 20)


def test_a_synced_file_under_a_synced_name_stays() -> None:
    disk = Disk()
    disk.sync(make(disk, "a", b"hello").number)
    disk.sync(ROOT)
    disk.power_failure()
    assert contents(disk, "a") == b"hello"


def test_what_was_written_after_the_fsync_is_lost() -> None:
    disk = Disk()
    file = make(disk, "a", b"hello")
    disk.sync(file.number)
    disk.sync(ROOT)
    disk.write(file.number, 2, b"XXXX")
    disk.resize(file.number, 3)
    assert contents(disk, "a") == b"heX"
    disk.power_failure()
    assert contents(disk, "a") == b"hello"


def test_a_synced_file_is_lost_with_its_name() -> None:
    disk = Disk()
    disk.sync(make(disk, "a", b"hello").number)
    disk.power_failure()
    with pytest.raises(DiskError) as missing:
        disk.lookup(ROOT, "a")
    assert missing.value.errno == errno.ENOENT


def test_unless_the_file_system_keeps_the_name_of_a_synced_file() -> None:
    disk = Disk(names_follow_files=True)
    disk.sync(make(disk, "a", b"hello").number)
    disk.power_failure()
    assert contents(disk, "a") == b"hello"


def test_a_name_without_synced_data_is_an_empty_file() -> None:
    disk = Disk()
    make(disk, "a", b"hello")
    disk.sync(ROOT)
    disk.power_failure()
    assert contents(disk, "a") == b""


@pytest.mark.parametrize("synced", [True, False])
def test_a_rename_is_whole_and_lasts_once_its_directory_is_synced(synced: bool) -> None:
    disk = Disk()
    for name, data in (("a", b"old"), ("b", b"new")):
        disk.sync(make(disk, name, data).number)
    disk.sync(ROOT)
    disk.rename(ROOT, "b", ROOT, "a")
    if synced:
        disk.sync(ROOT)
    disk.power_failure()
    assert contents(disk, "a") == (b"new" if synced else b"old")
    assert ("b" in disk.directory(ROOT).names) != synced


def test_a_removal_that_was_not_synced_is_undone() -> None:
    disk = Disk()
    disk.sync(make(disk, "a", b"hello").number)
    disk.sync(ROOT)
    disk.remove(ROOT, "a")
    disk.power_failure()
    assert contents(disk, "a") == b"hello"


def test_a_failed_fsync_loses_for_good_what_it_was_called_for() -> None:
    disk = Disk()
    file = make(disk, "a", b"one")
    disk.sync(file.number)
    disk.sync(ROOT)
    disk.write(file.number, 0, b"two")
    disk.fsync_error = errno.EIO
    with pytest.raises(DiskError):
        disk.sync(file.number)
    disk.fsync_error = 0
    # The second one has nothing left to write, and says that all is well.
    disk.sync(file.number)
    assert contents(disk, "a") == b"two"
    disk.power_failure()
    assert contents(disk, "a") == b"one"


def test_a_torn_write_leaves_whole_sectors() -> None:
    found = set()
    for seed in range(30):
        disk = Disk()
        file = make(disk, "a", bytes(2048))
        disk.sync(file.number)
        disk.sync(ROOT)
        disk.write(file.number, 100, b"x" * 1500)
        disk.power_failure(random.Random(seed))
        data = contents(disk, "a")
        assert len(data) == 2048
        sectors = (data[100:512], data[512:1024], data[1024:1536])
        assert all(set(sector) in ({0}, {ord("x")}) for sector in sectors)
        found.add(tuple(sector[0] for sector in sectors))
    assert len(found) > 4


def test_a_full_disk_says_so() -> None:
    disk = Disk(capacity=10)
    file = make(disk, "a", b"12345678")
    with pytest.raises(DiskError) as full:
        disk.write(file.number, 8, b"901")
    assert full.value.errno == errno.ENOSPC
    disk.write(file.number, 0, b"abc")


def test_files_that_are_gone_are_let_go_of() -> None:
    disk = Disk()
    for number in range(50):
        disk.sync(make(disk, f"f{number}", b"x").number)
        disk.sync(ROOT)
        disk.remove(ROOT, f"f{number}")
        disk.sync(ROOT)
    assert [type(node) for node in disk.nodes.values()] == [Directory]


def test_the_kernel_and_a_program_see_it_as_a_disk() -> None:
    if reason := sandbox.unavailable(disk=True):
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-m", "tests.robustness.try_disk"],
        cwd=ROOT_OF_TESTS,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert os.path.exists("/dev/fuse")
