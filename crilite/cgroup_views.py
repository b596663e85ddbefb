"""Two things that cgroups have beside limits and accounting: how a container sees its own, and huge pages.

A container has a cgroup namespace and finds in ``/sys/fs/cgroup``, read-only, the hierarchies that it is in, each from its own cgroup downwards.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from kubeling.linux import mounts, syscalls
from kubeling.linux.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID

if TYPE_CHECKING:
    from kubeling.proto import cri_pb2

_QUIET = MS_NOSUID | MS_NODEV | MS_NOEXEC
_TOP = "/sys/fs/cgroup"


def describe(controllers: dict[str, str]) -> list[dict[str, str]]:
    """What to mount for the v1 hierarchies in `controllers` (controller to mount point): ``type``, ``name`` and ``options`` of each."""
    together: dict[str, list[str]] = {}
    for name, point in controllers.items():
        if _is_controller(name):
            together.setdefault(point, []).append(name)
    return [
        {"type": "cgroup", "name": ",".join(names).removeprefix("name="), "options": ",".join(names)}
        for names in together.values()
    ]


UNIFIED: list[dict[str, str]] = [{"type": "cgroup2", "name": "", "options": ""}]


def _is_controller(name: str) -> bool:
    known = {
        "cpuset",
        "cpu",
        "cpuacct",
        "blkio",
        "memory",
        "devices",
        "freezer",
        "net_cls",
        "net_prio",
        "perf_event",
        "hugetlb",
        "pids",
        "rdma",
        "misc",
    }
    return name in known or name.startswith("name=")


def show(views: list[dict[str, str]], *, writable: bool) -> None:
    """Mount `views` in the calling container, whose cgroup namespace is new. Where the kernel does not allow it there is nothing to be seen."""
    if not os.path.isdir(_TOP) or not views:
        return
    with contextlib.suppress(OSError):
        if views[0]["type"] == "cgroup2":
            syscalls.mount("cgroup", _TOP, "cgroup2", _QUIET)
        else:
            syscalls.mount("tmpfs", _TOP, "tmpfs", _QUIET, "mode=755,size=4k")
            for one in views:
                _show_one(one)
    if not writable:
        fd = os.open(_TOP, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounts.set_attributes(fd, mounts.ATTR_RDONLY, recursive=True)
        finally:
            os.close(fd)


def _show_one(one: dict[str, str]) -> None:
    path = os.path.join(_TOP, one["name"])
    os.mkdir(path, 0o755)
    try:
        syscalls.mount("cgroup", path, "cgroup", _QUIET, one["options"])
    except OSError:
        os.rmdir(path)
        return
    for name in one["name"].split(","):
        if name != one["name"]:
            os.symlink(one["name"], os.path.join(_TOP, name))


def limit_huge_pages(folder: str, resources: cri_pb2.LinuxContainerResources) -> None:
    """Set the limits of `resources` in the cgroup `folder`, of either version, if it has that controller."""
    for one in resources.hugepage_limits:
        size = one.page_size.replace("B", "") + "B"
        if "/" in size:
            continue
        # What is reserved counts as what is used: otherwise a reservation that succeeds can end in a SIGBUS.
        for name in (
            f"hugetlb.{size}.max",
            f"hugetlb.{size}.rsvd.max",
            f"hugetlb.{size}.limit_in_bytes",
            f"hugetlb.{size}.rsvd.limit_in_bytes",
        ):
            path = os.path.join(folder, name)
            if os.path.exists(path):
                with open(path, "w") as file:
                    file.write(str(one.limit))


def enable(mount: str, path: str, controller: str) -> None:
    """Make ``mount + path`` (version 2), with `controller` in it if that may be."""
    folder = mount
    for part in path.strip("/").split("/"):
        with contextlib.suppress(OSError), open(f"{folder}/cgroup.subtree_control", "w") as file:
            file.write(f"+{controller}")
        folder = f"{folder}/{part}"
        os.makedirs(folder, exist_ok=True)


def has_controller(mount: str, controller: str) -> bool:
    """Whether the unified hierarchy at `mount` has it."""
    try:
        with open(f"{mount}/cgroup.controllers") as file:
            return controller in file.read().split()
    except OSError:
        return False
