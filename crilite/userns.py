"""User namespaces of pods (``hostUsers: false``): root in the pod is nobody on the node.

The pod's network, IPC and UTS namespaces belong to its user namespace, so they have to be made inside it, and a thread of this process cannot go there. A
process that only waits is started for that moment; when its namespaces are pinned it is no longer needed.

Files keep their owners on disk. The layers of the image, the container's writable directory and the volumes that ask for it are mounted with mapped ids,
so that what belongs to 0 on disk belongs to 0 in the pod, which is some high number outside. Where the kernel cannot map the ids of a file system the
image is copied for the container and its files are given away (`chown`).
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Iterable
from typing import Any

from kubeling.crilite.errors import CriError, InvalidArgument
from kubeling.linux import mounts, syscalls
from kubeling.proto import cri_pb2

_FLAGS = {"net": "--net", "ipc": "--ipc", "uts": "--uts"}
_SECONDS = 30
#: Lines that the kernel takes.
_MAX_RANGES = 340


def wanted(options: cri_pb2.NamespaceOption) -> bool:
    """Whether the pod is to have one; an InvalidArgument if it cannot be had as it is asked for."""
    asked = options.userns_options
    if not options.HasField("userns_options") or asked.mode == cri_pb2.NODE:
        return False
    if asked.mode != cri_pb2.POD:
        raise InvalidArgument("a user namespace is the pod's (POD) or the node's (NODE)")
    if cri_pb2.NODE in (options.network, options.ipc, options.pid):
        raise InvalidArgument("a pod with a user namespace of its own cannot share the node's network, IPC or processes")
    for name, ranges in (("uids", asked.uids), ("gids", asked.gids)):
        if not 0 < len(ranges) <= _MAX_RANGES or any(one.length == 0 or one.host_id == 0 for one in ranges):
            raise InvalidArgument(f"user namespace: {name} need ranges that are not empty and do not begin with the node's root")
        if not any(one.container_id == 0 for one in ranges):
            raise InvalidArgument(f"user namespace: {name} do not say who 0 is")
    return True


def same(one: Iterable[cri_pb2.IDMapping], other: Iterable[cri_pb2.IDMapping]) -> bool:
    """Whether two mappings are the same."""
    return sorted(map(_key, one)) == sorted(map(_key, other))


def _key(one: cri_pb2.IDMapping) -> tuple[int, int, int]:
    return one.container_id, one.host_id, one.length


def to_host(number: int, ranges: Iterable[cri_pb2.IDMapping]) -> int:
    """Who `number` of the pod is on the node; -1 for nobody."""
    for one in ranges:
        if one.container_id <= number < one.container_id + one.length:
            return one.host_id + number - one.container_id
    return -1


def owner(options: cri_pb2.NamespaceOption) -> dict[str, Any]:
    """For the launch spec: the ranges, as lists of [in the pod, on the node, length]."""
    asked = options.userns_options
    return {"uids": [list(_key(one)) for one in asked.uids], "gids": [list(_key(one)) for one in asked.gids]}


def pin(folder: str, kinds: list[str], options: cri_pb2.NamespaceOption) -> None:
    """Make a user namespace with the ids of `options` and in it namespaces of `kinds`, and leave each at ``<folder>/<kind>``, the first at ``user``."""
    command = ["unshare", "--user", *(_FLAGS[kind] for kind in kinds), "--", "cat"]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise CriError(f"user namespaces need unshare(1): {error}") from error
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.stdin.write(b"\n")
        process.stdin.flush()
        if process.stdout.read(1) != b"\n":
            raise CriError(f"a user namespace cannot be made: {process.stderr.read().decode(errors='replace').strip()}")
        for name, ranges in (("gid", options.userns_options.gids), ("uid", options.userns_options.uids)):
            lines = "".join(f"{one.container_id} {one.host_id} {one.length}\n" for one in ranges)
            with open(f"/proc/{process.pid}/{name}_map", "w") as table:
                table.write(lines)
        for kind in ("user", *kinds):
            path = os.path.join(folder, kind)
            os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600))
            syscalls.mount(f"/proc/{process.pid}/ns/{kind}", path, "", syscalls.MS_BIND)
    finally:
        process.stdin.close()
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()


@functools.cache
def can_map(folder: str) -> bool:
    """Whether layers of overlayfs in `folder` can be mounted with mapped ids: Linux 5.19 or later, and a file system that has it."""
    release = os.uname().release.split(".")
    if (int(release[0]), int(re.match(r"\d*", release[1])[0] or 0)) < (5, 19):  # type: ignore[index]
        return False
    process = subprocess.Popen(["unshare", "--user", "--", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.read(1)
        for name in ("gid", "uid"):
            with open(f"/proc/{process.pid}/{name}_map", "w") as table:
                table.write("0 100000 65536\n")
        users = os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            tree = mounts.clone(folder, recursive=False)
            try:
                mounts.map_ids(tree, users)
            finally:
                os.close(tree)
        finally:
            os.close(users)
    except OSError:
        return False
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
    return True


def give_away(root: str, options: cri_pb2.NamespaceOption) -> None:
    """Give every file below `root` to who its owner is in the pod: for where ids cannot be mapped."""
    asked = options.userns_options
    for folder, names, files in os.walk(root):
        for path in (
            folder,
            *(
                os.path.join(folder, name)
                for name in [*files, *(one for one in names if os.path.islink(os.path.join(folder, one)))]
            ),
        ):
            info = os.lstat(path)
            os.lchown(path, to_host(info.st_uid, asked.uids), to_host(info.st_gid, asked.gids))
            if not os.path.islink(path):
                os.chmod(path, info.st_mode & 0o7777)  # A change of the owner takes set-user-id away.
