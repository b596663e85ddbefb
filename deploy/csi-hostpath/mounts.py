"""What the Node service does to the node's file system: bind mounts, and loop devices for block volumes."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from kubeling.linux import syscalls

_LOOP_SET_FD = 0x4C00
_LOOP_CLR_FD = 0x4C01
_LOOP_SET_CAPACITY = 0x4C07
_LOOP_CTL_GET_FREE = 0x4C82
#: Devices that were free when we asked may be taken when we open them.
_TRIES = 32


def show(source: Path, target: Path, *, read_only: bool = False) -> None:
    """Bind `source` (a directory or a device) to `target`, unless that is done."""
    if stat.S_ISDIR(source.stat().st_mode):
        target.mkdir(exist_ok=True, mode=0o750)
        if os.path.ismount(target):
            return
    else:
        target.touch()
        if stat.S_ISBLK(target.stat().st_mode):
            return
    syscalls.bind(str(source), str(target), read_only=read_only)


def hide(target: Path) -> None:
    """Undo :func:`show`, and remove the mount point."""
    while str(target) in mount_points():
        syscalls.umount(str(target))
    if target.is_dir():
        target.rmdir()
    else:
        target.unlink(missing_ok=True)


def mount_points() -> set[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return {line.split(" ", 5)[4].encode().decode("unicode_escape") for line in lines}


def loop_of(path: Path) -> Path | None:
    """The loop device that has `path` as its file."""
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if entry.read_text().strip() == str(path):
                return Path("/dev") / entry.parts[3]
        except OSError:
            continue  # It was let go of while we looked.
    return None


def loop_for(path: Path) -> Path:
    """The loop device of a file, made if there is none. OSError where the node has no loop devices."""
    found = loop_of(path)
    if found is not None:
        return found
    with open(path, "r+b") as backing:
        for _ in range(_TRIES):
            with open("/dev/loop-control", "rb") as control:
                number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = Path(f"/dev/loop{number}")
            with open(device, "r+b") as loop:
                try:
                    fcntl.ioctl(loop, _LOOP_SET_FD, backing.fileno())
                except OSError as error:
                    if error.errno == 16:
                        continue
                    raise
            return device
    raise OSError(16, "no loop device could be had")


def free_loop(path: Path) -> None:
    device = loop_of(path)
    if device is not None:
        with open(device, "r+b") as loop:
            fcntl.ioctl(loop, _LOOP_CLR_FD)


def refresh_loop(path: Path) -> None:
    """Tell the device that its file has grown."""
    device = loop_of(path)
    if device is not None:
        with open(device, "r+b") as loop:
            fcntl.ioctl(loop, _LOOP_SET_CAPACITY)
