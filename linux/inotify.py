"""Waiting for files to change without looking at them again and again; see inotify(7)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator, Sequence

MODIFY = 0x2
CREATE = 0x100

_CLOEXEC = 0o2000000
_HEAD = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


def watch(paths: Sequence[str], mask: int = MODIFY) -> Iterator[str]:
    """Yield the path, of `paths`, to which something of `mask` has happened, for ever.

    The first item is an empty string, given once the watches are there: what the caller reads after it cannot be missed.
    """
    fd = _libc.inotify_init1(_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        watched = {}
        for path in paths:
            number = _libc.inotify_add_watch(fd, os.fsencode(path), mask)
            if number < 0:
                code = ctypes.get_errno()
                raise OSError(code, f"watch {path}: {os.strerror(code)}")
            watched[number] = path
        yield ""
        while True:
            raw, offset = os.read(fd, 4096), 0
            seen: dict[str, None] = {}
            while offset < len(raw):
                number, _mask, _cookie, size = _HEAD.unpack_from(raw, offset)
                offset += _HEAD.size + size
                if number in watched:
                    seen[watched[number]] = None
            yield from seen
    finally:
        os.close(fd)
