"""``python -m tests.robustness.try_disk``: mount a lossy disk in namespaces of its own, use it as a program does, and look what a power failure leaves."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import tempfile
from pathlib import Path

from . import sandbox
from .storage import Storage


def write(path: Path, data: bytes, *, sync: bool) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fails(number: int, path: Path, *, sync: bool) -> bool:
    try:
        write(path, b"more" * 10_000, sync=sync)
    except OSError as error:
        return error.errno == number
    return False


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        disk = await Storage.mount(path)
        try:
            await asyncio.to_thread(use, path)
            await disk.power_failure()
            await asyncio.to_thread(left, path)
            await disk.set(fsync_error=errno.EIO)
            assert await asyncio.to_thread(fails, errno.EIO, path / "kept", sync=True)
            used = (await disk.set(fsync_error=0))["used"]
            await disk.set(capacity=used + 1000)
            assert await asyncio.to_thread(fails, errno.ENOSPC, path / "kept", sync=False)
            await disk.power_failure("a seed")
            assert (await asyncio.to_thread((path / "kept").read_bytes)).startswith(b"hello")
        finally:
            await disk.close()


def use(path: Path) -> None:
    (path / "d").mkdir()
    write(path / "kept", b"hello", sync=True)
    write(path / "d" / "inner", b"x" * 200_000, sync=True)
    sync_directory(path / "d")
    sync_directory(path)
    write(path / "kept", b" and more", sync=False)
    write(path / "nameless", b"synced", sync=True)
    os.rename(path / "d" / "inner", path / "d" / "renamed")
    assert sorted(os.listdir(path)) == ["d", "kept", "nameless"]
    assert (path / "kept").read_bytes() == b"hello and more"
    with (path / "d" / "renamed").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == b"x" * 200_000
        os.ftruncate(os.open(path / "d" / "renamed", os.O_RDWR), 300_000)
    assert (path / "d" / "renamed").stat().st_size == 300_000


def left(path: Path) -> None:
    assert sorted(os.listdir(path)) == ["d", "kept"]
    assert (path / "kept").read_bytes() == b"hello"
    assert (path / "d" / "inner").read_bytes() == b"x" * 200_000
    assert os.listdir(path / "d") == ["inner"]


if __name__ == "__main__":
    sandbox.enter()
    asyncio.run(main())
