"""What a container sees of files: built inside its own mount namespace, so that it is gone with the container's last process.

Three steps, all in the forked child of the keeper: :func:`clone_sources` takes descriptors of everything that comes from the node while the
node can still be seen; :func:`enter` makes the root file system and moves into it by pivot_root; :func:`furnish` then mounts by paths inside
the container, so that a symbolic link in an image can never lead out of it.

Devices: the root, /dev and the volumes are mounted `nodev`, and the few devices that a container gets are binds of the node's own nodes. So a
device node that a container makes is of no use to it, with or without a device cgroup, on cgroup v1, v2, and without cgroups.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import Any

from kubeling.crilite import cgroup_views
from kubeling.linux import mounts, syscalls
from kubeling.linux.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_SLAVE

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
#: Not part of what `kubeling.local/host` shows: made anew for each container, or empty.
_NOT_SHOWN = frozenset({"proc", "sys", "dev", "run", "tmp", "root", "home", "lost+found"})
#: Of these a container has empty ones of its own to write to: whose the node is keeps keys and kubeconfigs in the real ones.
_OWN = {"run": "mode=755", "tmp": "mode=1777", "root": "mode=700", "home": "mode=755"}
_PRIVATE = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/ssh")
_SCRATCH = "size=512m,mode=755"
_PROPAGATION = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": 0}

Source = tuple[int, str, bool]


def is_dev(target: str) -> bool:
    """Whether a volume is to be all of /dev."""
    return os.path.normpath(target) == "/dev"


def clone_sources(spec: dict[str, Any], users: int = -1) -> list[Source]:
    """(descriptor, path in the container, is a directory) of each mount in ``spec["mounts"]`` and of the devices, in the order to mount them. `users` is
    the pod's user namespace, -1 if it has none of its own."""
    made: list[Source] = []
    if spec["privileged"]:
        fd = mounts.clone("/dev")
        # What is mounted on it here (a terminal's pts, a termination log) is not to show on the node.
        mounts.set_attributes(fd, propagation=MS_PRIVATE, recursive=True)
        made.append((fd, "/dev", True))
    else:
        for name in _DEVICES:
            made.append((mounts.clone(f"/dev/{name}"), f"/dev/{name}", False))
    for entry in spec["mounts"]:
        source = entry["source"]
        directory = stat.S_ISDIR(os.stat(source).st_mode)
        fd = mounts.clone(source)
        if entry.get("map_ids"):
            # Not what is mounted beneath it: that may be a file system whose ids cannot be mapped, and then shows its owners as nobody.
            mounts.map_ids(fd, users)
        # A hostPath below /dev is no device: what may be used as one is said in `devices`, as with runtimes that have a device cgroup.
        keep_devices = spec["privileged"] or entry.get("device")
        attributes = (mounts.ATTR_RDONLY if entry.get("readonly") else 0) | (0 if keep_devices else mounts.ATTR_NODEV)
        attributes |= mounts.ATTR_NOEXEC if entry.get("noexec") else 0
        recursive = bool(entry.get("recursive_readonly"))
        if attributes:
            mounts.set_attributes(fd, attributes, recursive=recursive)
        # What every container has in /dev is mounted there too, and is not to show on the node.
        propagation = MS_PRIVATE if is_dev(entry["target"]) else _PROPAGATION[entry.get("propagation", "private")]
        if propagation:
            mounts.set_attributes(fd, propagation=propagation, recursive=True)
        made.append((fd, entry["target"], directory))
    return made


def enter(spec: dict[str, Any], scratch: str, users: int = -1) -> None:
    """Leave the node's mount namespace for one with the container's root as its ``/``. `scratch` is an empty directory to mount it on, `users` the pod's
    user namespace or -1."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", MS_REC | MS_PRIVATE)
    top = mount_root(spec["rootfs"], scratch, users)
    os.chdir(top)
    _kernel_views(spec, top)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def mount_root(root: dict[str, Any], scratch: str, users: int = -1) -> str:
    """Mount the container's root file system at or below `scratch`; where it is."""
    if root["kind"] == "host":
        return _host_root(scratch, root["hide"], users, userxattr=root["userxattr"])
    if root["kind"] == "copy":
        syscalls.mount(root["path"], scratch, "", syscalls.MS_BIND)
        syscalls.mount("none", scratch, "", syscalls.MS_BIND | syscalls.MS_REMOUNT | MS_NODEV)
    elif users >= 0:
        return _mapped_overlay(root, scratch, users)
    else:
        _overlay(root["lower"], root["upper"], root["work"], scratch, root["base"], userxattr=root["userxattr"])
    return scratch


def try_overlay(folder: str, *, userxattr: bool) -> None:
    """Mount an overlay whose files lie in the empty directory `folder`, in a mount namespace that ends with the caller. An OSError says no."""
    for name in ("lower", "upper", "work", "mount"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", MS_REC | MS_PRIVATE)
    _overlay(["lower"], "upper", "work", os.path.join(folder, "mount"), folder, userxattr=userxattr)


def _overlay(lower: list[str], upper: str, work: str, target: str, base: str, *, userxattr: bool = False) -> None:
    # The options must fit in a page: the layers are named relative to `base`.
    os.chdir(base)
    options = f"lowerdir={':'.join(lower)},upperdir={upper},workdir={work}" + (",userxattr" if userxattr else "")
    syscalls.mount("overlay", target, "overlay", MS_NODEV, options)


def _mapped_overlay(root: dict[str, Any], scratch: str, users: int) -> str:
    """An overlay whose layers are seen with the owners that the user namespace makes of them; where it is mounted."""
    own = os.path.dirname(root["upper"])
    sources = [(root["base"], "layers"), (own, "own")]
    clones = [(mounts.clone(path, recursive=False), name) for path, name in sources]
    syscalls.mount("tmpfs", scratch, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64k")
    for fd, name in clones:
        mounts.map_ids(fd, users)
        os.mkdir(os.path.join(scratch, name))
        mounts.attach(fd, os.path.join(scratch, name))
        os.close(fd)
    top = os.path.join(scratch, "root")
    os.mkdir(top)
    upper, work = (os.path.join(scratch, "own", os.path.basename(root[name])) for name in ("upper", "work"))
    _overlay(root["lower"], upper, work, top, os.path.join(scratch, "layers"))
    return top


def _host_root(scratch: str, hide: list[str], users: int, *, userxattr: bool) -> str:
    """The node's own root, with what the container writes kept in memory. An upper directory on disk would lie inside its own lower one, which
    overlayfs refuses."""
    interpreter = [(path, mounts.clone(path)) for path in _interpreter()]
    outside = {entry: os.stat(entry) for entry in (*hide, *_PRIVATE) if os.path.exists(entry)}
    syscalls.mount("tmpfs", scratch, "tmpfs", MS_NOSUID | MS_NODEV, _SCRATCH)
    upper, work, root = (os.path.join(scratch, name) for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        os.mkdir(path)
    lower = "/"
    if users >= 0:
        lower = os.path.join(scratch, "lower")
        os.mkdir(lower)
        fd = mounts.clone("/", recursive=False)
        mounts.map_ids(fd, users)
        mounts.attach(fd, lower)
        os.close(fd)
    try:
        _overlay([lower], upper, work, root, "/", userxattr=userxattr)
    except OSError:
        if users >= 0:
            raise
        # In a user namespace a mount with locked mounts beneath it cannot be a layer: one overlay for each directory of the root instead.
        syscalls.mount(root, root, "", syscalls.MS_BIND)
        for name in os.listdir("/"):
            _host_entry(scratch, root, name, userxattr=userxattr)
    else:
        _other_filesystems(root)
    for name in _NOT_SHOWN - {"lost+found"}:
        path = os.path.join(root, name)
        os.makedirs(path, exist_ok=True)
        if name in _OWN:
            syscalls.mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, _OWN[name])
    for path, fd in interpreter:
        os.makedirs(root + path, exist_ok=True)
        mounts.set_attributes(fd, mounts.ATTR_RDONLY | mounts.ATTR_NODEV, recursive=True)
        mounts.attach(fd, root + path)
        os.close(fd)
    for path, info in outside.items():
        _hide(root + os.path.realpath(path), directory=stat.S_ISDIR(info.st_mode))
    return root


def _interpreter() -> list[str]:
    """Where this Python lies, as far as containers would not see it: it is their `python3`."""
    found = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix)}
    return sorted(path for path in found if path.split("/")[1] in _OWN)


def _host_entry(scratch: str, root: str, name: str, *, userxattr: bool) -> None:
    source, target = os.path.join("/", name), os.path.join(root, name)
    if name in _NOT_SHOWN or os.path.abspath(source) == scratch:
        return
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    elif os.path.isdir(source):
        os.mkdir(target)
        upper, work = os.path.join(scratch, "each", name, "upper"), os.path.join(scratch, "each", name, "work")
        os.makedirs(upper)
        os.makedirs(work)
        try:
            _overlay([source], upper, work, target, "/", userxattr=userxattr)
        except OSError:
            _bind_readonly(source, target)


def _other_filesystems(root: str) -> None:
    """An overlay of ``/`` shows only that file system. Others (a separate /usr or /home) are put on top, read-only."""
    with open("/proc/self/mountinfo") as table:
        points = sorted({line.split()[4].encode().decode("unicode_escape") for line in table})
    shown: list[str] = []
    for point in points:
        first = point.split("/")[1]
        if not first or first in _NOT_SHOWN or (root + "/").startswith(point + "/"):
            continue
        if any(point.startswith(done + "/") for done in shown):
            continue
        target = root + point
        if os.path.isdir(point) and os.path.isdir(target):
            _bind_readonly(point, target)
            shown.append(point)


def _bind_readonly(source: str, target: str) -> None:
    fd = mounts.clone(source)
    mounts.set_attributes(fd, mounts.ATTR_RDONLY | mounts.ATTR_NODEV, recursive=True)
    mounts.attach(fd, target)
    os.close(fd)


def _hide(path: str, *, directory: bool) -> None:
    if not os.path.lexists(path):
        return
    if directory:
        syscalls.mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,mode=555")
    else:
        syscalls.bind("/dev/null", path)


def _kernel_views(spec: dict[str, Any], top: str) -> None:
    """/proc and /sys of the container's own namespaces. In a user namespace the kernel allows new ones only while whole old ones can be seen,
    so this comes before the node is left behind; where it does not allow them the node's own are shown, which tell more than they should but
    let nothing be done."""
    quiet = MS_NOSUID | MS_NOEXEC | MS_NODEV
    proc, sysfs = os.path.join(top, "proc"), os.path.join(top, "sys")
    for path in (proc, sysfs):
        if os.path.islink(path):
            os.unlink(path)
        _directory(path)
    if spec["namespaces"]["pid"] == "node":
        _show("/proc", proc)
    else:
        syscalls.mount("proc", proc, "proc", quiet)
    try:
        syscalls.mount("sysfs", sysfs, "sysfs", quiet | (0 if spec["privileged"] else MS_RDONLY))
    except OSError:
        _show("/sys", sysfs, readonly=not spec["privileged"])


def _show(source: str, target: str, *, readonly: bool = False) -> None:
    fd = mounts.clone(source)
    if readonly:
        mounts.set_attributes(fd, mounts.ATTR_RDONLY, recursive=True)
    mounts.attach(fd, target)
    os.close(fd)


def furnish(spec: dict[str, Any], sources: list[Source]) -> None:
    """Mount what every container has and what this one asks for, then close what must not be written or seen."""
    privileged = spec["privileged"]
    cgroup_views.show(spec.get("cgroup_views") or [], writable=privileged)
    _directory("/dev")
    devices_end = 1 if privileged else len(_DEVICES)
    devices, volumes = sources[:devices_end], sources[devices_end:]
    # A volume may be all of /dev. It lies below what every container has there: the devices that work, and terminals of its own.
    whole = [source for source in volumes if is_dev(source[1])]
    if privileged:
        devices = [*devices, *whole]
    elif whole:
        devices = [*whole, *devices]
    else:
        syscalls.mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=65536k")
    for source in devices:
        _place(source)
    _dev_extras(nodes=privileged or bool(whole))
    for source in volumes:
        if source not in whole:
            _place(source)
    for path in spec["masked_paths"]:
        if os.path.lexists(path):
            _hide(path, directory=os.path.isdir(path))
    for path in spec["readonly_paths"]:
        if os.path.exists(path):
            _make_readonly(path)
    if spec["readonly_rootfs"]:
        syscalls.mount("none", "/", "", syscalls.MS_REMOUNT | syscalls.MS_BIND | MS_RDONLY | MS_NODEV)


def _make_readonly(path: str) -> None:
    fd = mounts.clone(path)
    mounts.set_attributes(fd, mounts.ATTR_RDONLY, recursive=True)
    mounts.attach(fd, path)
    os.close(fd)


def _dev_extras(*, nodes: bool) -> None:
    """`nodes`: /dev shows that of the node, links and all."""
    if not nodes:
        for name, goal in _LINKS.items():
            os.symlink(goal, f"/dev/{name}")
    _directory("/dev/pts")
    options = "newinstance,ptmxmode=0666,mode=0620"
    try:
        syscalls.mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options + ",gid=5")
    except OSError:
        syscalls.mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options)
    if nodes:
        syscalls.bind("/dev/pts/ptmx", "/dev/ptmx")
    for name in ("mqueue", "shm"):
        _directory(f"/dev/{name}")
    with contextlib.suppress(OSError):
        # Without it only POSIX message queues are missing, and some kernels are built without them.
        syscalls.mount("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV)


def _directory(path: str) -> None:
    if not os.path.isdir(path):
        if os.path.islink(path):
            os.unlink(path)
        os.makedirs(path, mode=0o755, exist_ok=True)


def _place(source: Source) -> None:
    fd, target, directory = source
    if directory:
        _directory(target)
    elif not os.path.exists(target):
        _directory(os.path.dirname(target))
        if os.path.islink(target):
            os.unlink(target)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    mounts.attach(fd, target)
    os.close(fd)
