"""Waiting for files to change, on the event loop: inotify(7) without a thread."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from pathlib import Path
from types import TracebackType
from typing import Self

MODIFY = 0x2
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


class _Watch:
    """`changed` is set whenever the kernel tells of anything that is watched. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.changed = asyncio.Event()
        self._path = path
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = _libc.inotify_init1(_FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        try:
            self._begin()
            asyncio.get_running_loop().add_reader(self._fd, self._drain)
        except OSError:
            os.close(self._fd)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _begin(self) -> None:
        """Add what is to be watched."""

    def _add(self, path: Path, mask: int) -> None:
        if _libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(mask)) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"watch {path}: {os.strerror(number)}")

    def _drain(self) -> None:
        try:
            while os.read(self._fd, 4096):
                pass
        except BlockingIOError:
            pass
        self.changed.set()


class FileWatch(_Watch):
    """`changed` is set whenever something happens to the file, or appears in its folder."""

    def _begin(self) -> None:
        self.again()
        self._add(self._path.parent, CREATE | MOVED_TO)

    def again(self) -> None:
        """Watch the file that has its name now."""
        # Where there is none just now, its appearance in the folder tells.
        with contextlib.suppress(FileNotFoundError):
            self._add(self._path, MODIFY)


class FolderWatch(_Watch):
    """`changed` is set when a file of the folder has been written, or came or went, and when the folder itself goes."""

    def _begin(self) -> None:
        self._add(self._path, CLOSE_WRITE | CREATE | DELETE | MOVED_FROM | MOVED_TO | DELETE_SELF | MOVE_SELF)
