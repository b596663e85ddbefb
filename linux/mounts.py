"""Mounts by file descriptor: the calls that Linux 5.2 and 5.12 added.

A mount that `open_tree` has cloned hangs nowhere, so it can be given its attributes first and be put in its place later, from inside another
mount namespace and after pivot_root: what it was cloned from need not be visible there. It stays in its source's peer group, which is what
mount propagation between a node and a container rests on. The numbers of these calls are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4

ATTR_RDONLY = 1
ATTR_NOSUID = 2
ATTR_NODEV = 4
ATTR_NOEXEC = 8
_ATTR_IDMAP = 0x00100000

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _call(about: str, number: int, *args: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *args)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{about}: {os.strerror(code)}")
    return result


def clone(path: str, *, recursive: bool = True) -> int:
    """A detached copy of the mount that `path` is in, beginning at `path`, with all that is mounted beneath it unless told otherwise. Returns its
    descriptor."""
    flags = _OPEN_TREE_CLONE | (_AT_RECURSIVE if recursive else 0) | os.O_CLOEXEC
    return _call(f"clone the mount of {path}", _SYS_OPEN_TREE, ctypes.c_int(_AT_FDCWD), path.encode(), ctypes.c_uint(flags))


def attach(fd: int, target: str) -> None:
    """Put the detached mount `fd` at `target`, which must exist and be of the same sort (a directory or not)."""
    _call(
        f"mount on {target}",
        _SYS_MOVE_MOUNT,
        ctypes.c_int(fd),
        b"",
        ctypes.c_int(_AT_FDCWD),
        target.encode(),
        ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
    )


def set_attributes(fd: int, attributes: int = 0, propagation: int = 0, *, recursive: bool = False) -> None:
    """Add ATTR_* `attributes` to the mount `fd` and set its propagation (one of the MS_PRIVATE family, 0 to leave it)."""
    _set(fd, _MountAttr(attributes, 0, propagation, 0), recursive=recursive)


def map_ids(fd: int, user_namespace: int, *, recursive: bool = False) -> None:
    """Show the files of the detached mount `fd` with the owners that the user namespace (a descriptor) makes of them."""
    _set(fd, _MountAttr(_ATTR_IDMAP, 0, 0, user_namespace), recursive=recursive)


def _set(fd: int, attr: _MountAttr, *, recursive: bool) -> None:
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _call(
        "set mount attributes",
        _SYS_MOUNT_SETATTR,
        ctypes.c_int(fd),
        b"",
        ctypes.c_uint(flags),
        ctypes.byref(attr),
        ctypes.c_size_t(ctypes.sizeof(attr)),
    )
