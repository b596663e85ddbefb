"""What the kubelet mounts itself: tmpfs for volumes in memory, and single folders or files of volumes for `subPath`.

A `subPath` is under the control of whoever writes to the volume, so it is resolved by the kernel with openat2(RESOLVE_BENEATH), which follows no
link out of the volume, and what was found is pinned by a bind mount of its descriptor.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
from pathlib import Path

from kubeling.daemon.log import get_logger
from kubeling.linux import syscalls

log = get_logger("kubelet.mounts")

_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(base: Path, path: str) -> int:
    """A descriptor (O_PATH) of `path` inside `base`; OSError with EXDEV where it leads outside."""
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    folder = os.open(base, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        size = ctypes.c_size_t(ctypes.sizeof(how))
        fd: int = _libc.syscall(ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(folder), path.encode(), ctypes.byref(how), size)
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return fd
    finally:
        os.close(folder)


def make_beneath(base: Path, path: str, mode: int = 0o750) -> None:
    """Make the folders of `path` inside `base` as far as they are missing, following no link."""
    at = os.open(base, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        perm = stat.S_IMODE(os.fstat(at).st_mode) or mode
        for part in Path(path).parts:
            try:
                following = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            except FileNotFoundError:
                os.mkdir(part, 0o777, dir_fd=at)
                following = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                os.fchmod(following, perm)
            os.close(at)
            at = following
    finally:
        os.close(at)


def pin(base: Path, path: str, target: Path | None) -> str:
    """Show `path` of the volume at `base` at `target`; returns the path for the runtime. Made anew if it was there.

    Without a `target` nothing is mounted, and the path is where it lies now.
    """
    try:
        fd = open_beneath(base, path)
    except FileNotFoundError:
        make_beneath(base, path)
        fd = open_beneath(base, path)
    try:
        if target is None:
            return os.readlink(f"/proc/self/fd/{fd}")
        if os.path.ismount(target) or str(target) in mounts_under(str(target)):
            syscalls.umount(str(target), syscalls.MNT_DETACH)
        target.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        try:
            syscalls.bind(f"/proc/self/fd/{fd}", str(target))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES):
                raise
            # Without the right to mount, pods are processes of this user: they can reach no more through the link than without it.
            return os.readlink(f"/proc/self/fd/{fd}")
        return str(target)
    finally:
        os.close(fd)


def mount_tmpfs(target: Path, size: int = 0, mode: int = 0o777) -> bool:
    """Mount memory at `target` unless it is there; False where that is not allowed."""
    if os.path.ismount(target):
        return True
    options = f"mode={mode:o}" + (f",size={size}" if size else "")
    try:
        syscalls.mount("tmpfs", str(target), "tmpfs", 0, options)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return False
        raise
    return True


def mounts_under(prefix: str) -> list[str]:
    """Mount points at or below `prefix`, the innermost first."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split(" ", 5)[4])
            if path == prefix or path.startswith(prefix.rstrip("/") + "/"):
                found.append(path)
    return sorted(found, key=len, reverse=True)


def unmount_under(folder: Path) -> None:
    """Unmount all below `folder`, the innermost first."""
    for each in mounts_under(str(folder)):
        syscalls.umount(each, syscalls.MNT_DETACH)


def remove_tree(folder: Path) -> None:
    """Unmount all below `folder` and delete it. What is mounted from elsewhere is never deleted: a mount that stays is an OSError."""
    unmount_under(folder)
    left = mounts_under(str(folder))
    if left:
        raise OSError(errno.EBUSY, f"still mounted: {', '.join(left)}")
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise OSError(errno.ENOTEMPTY, f"cannot delete {folder}")


def chown(path: str | Path, uid: int | None, gid: int | None) -> None:
    """Change the owner as far as we may: an ordinary user's pods are all that user, who can give nothing away and needs not."""
    try:
        os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise
        log.debug("an owner could not be changed", path=str(path), error=str(error))


def give_to_group(root: Path, group: int, *, read_only: bool = False) -> None:
    """The fsGroup's ownership: files readable (and writable) by the group, folders handing the group down."""
    bits = 0o440 if read_only else 0o660
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            if stat.S_ISLNK(info.st_mode):
                chown(path, None, group)
                continue
            chown(path, None, group)
            os.chmod(path, stat.S_IMODE(info.st_mode) | bits)
        for name in folders:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                chown(path, None, group)
        info = os.lstat(folder)
        chown(folder, None, group)
        os.chmod(folder, stat.S_IMODE(info.st_mode) | bits | stat.S_ISGID | 0o110)
