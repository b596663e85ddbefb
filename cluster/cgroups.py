"""The cgroup of a cluster, ``/kubeling/<name>-<id>`` with one beneath it for every node: made at `up` where that is allowed, gone at `down`.

Both versions, and the hybrid of both: the same path is made in every hierarchy that is mounted and writable. Where none is (an ordinary user without
delegation) the cluster runs without, and its daemons are told nothing of cgroups.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

_REMOVAL_SECONDS = 5.0
_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")


def hierarchies() -> list[Path]:
    """Where cgroup hierarchies are mounted, of either version."""
    found = []
    with open("/proc/self/mountinfo") as mounts:
        for line in mounts:
            before, _, after = line.partition(" - ")
            if after.split(" ", 1)[0] in ("cgroup", "cgroup2"):
                found.append(Path(before.split(" ")[4].replace("\\040", " ")))
    return list(dict.fromkeys(found))


def create(path: str) -> bool:
    """Make the cgroup `path` (absolute, as seen from a hierarchy's root) wherever we may. False where we may nowhere."""
    made = False
    for hierarchy in hierarchies():
        try:
            _create(hierarchy, path)
            made = True
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
                raise
    return made


def _create(hierarchy: Path, path: str) -> None:
    place = hierarchy
    for part in Path(path.lstrip("/")).parts:
        _delegate(place)
        parent, place = place, place / part
        with contextlib.suppress(FileExistsError):
            place.mkdir()
        # Version 1: nothing can be put into a cpuset that names no CPU and no memory node.
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (place / name).exists() and not (place / "cgroup.controllers").exists():
                (place / name).write_text((parent / name).read_text())


def _delegate(place: Path) -> None:
    """Version 2: let the children of `place` use what it has. A controller that cannot be passed on is done without."""
    try:
        available = (place / "cgroup.controllers").read_text().split()
    except FileNotFoundError:
        return
    for controller in _CONTROLLERS:
        if controller in available:
            with contextlib.suppress(OSError):
                (place / "cgroup.subtree_control").write_text(f"+{controller}")


def remove(path: str) -> list[str]:
    """Remove the cgroup `path` everywhere, from the leaves up, and its parents where they are empty. Returns what could not be removed.

    A process that has just been killed keeps its cgroup busy for a moment, so this tries again for a few seconds.
    """
    deadline = time.monotonic() + _REMOVAL_SECONDS
    relative = path.strip("/")
    if not relative:
        return []
    while True:
        left = [str(h / relative) for h in hierarchies() if not _remove_tree(h / relative)]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    for hierarchy in hierarchies():
        with contextlib.suppress(OSError):
            (hierarchy / relative).parent.rmdir()
    return left


def _remove_tree(place: Path) -> bool:
    if not place.exists():
        return True
    for folder, _, _ in os.walk(place, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return not place.exists()
