"""Being root where one is not: a user namespace, so that an ordinary user's cluster runs by the same code as root's.

The supervisor of an ordinary user is executed inside a new user namespace (and in the host's network namespace: it must still open sockets there).
Everything it starts is inside too, and may make network, mount and PID namespaces. User 0 inside is the user outside. Further users exist inside
only where the administrator has given the user a range in /etc/subuid and /etc/subgid, and `newuidmap` and `newgidmap` are there to apply it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from kubeling.cluster.state import ClusterError
from kubeling.linux import syscalls

_NODE = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC

#: sysctl -> the value with which ordinary users may make user namespaces
_SWITCHES = {"kernel.unprivileged_userns_clone": "1", "kernel.apparmor_restrict_unprivileged_userns": "0"}


def needed(network: str) -> bool:
    """Whether a cluster of this sort has to run inside a user namespace."""
    return network == "netns" and os.geteuid() != 0


def check(network: str) -> None:
    """Raise ClusterError with the remedy where the namespaces of a node cannot be made here. Tried in a child, which leaves nothing behind."""
    if network != "netns":
        return
    for tool, package in (("ip", "iproute2"), ("nsenter", "util-linux")):
        if shutil.which(tool) is None:
            raise ClusterError(f"`{tool}` is not installed: apt-get install {package}, or use --network=host")

    def attempt() -> int:
        try:
            if needed(network):
                syscalls.unshare(syscalls.CLONE_NEWUSER)
        except OSError as error:
            return error.errno or 1
        try:
            syscalls.unshare(_NODE)
        except OSError as error:
            return 128 | (error.errno or 1)
        return 0

    status = _in_child(attempt)
    if status:
        raise ClusterError(_remedy(status & 127, user=needed(network) and status < 128))


def _remedy(number: int, *, user: bool) -> str:
    words = os.strerror(number)
    if os.geteuid() == 0:
        return (
            f"no right to make namespaces ({words}): this looks like a container; run it with CAP_SYS_ADMIN and without a seccomp filter "
            "(docker: --privileged), or use --network=host"
        )
    for name, value in _SWITCHES.items():
        with contextlib.suppress(OSError):
            if Path("/proc/sys", name.replace(".", "/")).read_text().strip() != value:
                return f"ordinary users may not make namespaces here: run `sudo sysctl -w {name}={value}`, or be root, or use --network=host"
    if number == errno.ENOSPC:
        return (
            "no more user namespaces: raise the limit with `sudo sysctl -w user.max_user_namespaces=15000`, or use --network=host"
        )
    what = "user namespaces" if user else "namespaces inside a user namespace"
    return f"no right to make {what} ({words}): a container or a security module forbids it; be root outside of it, or use --network=host"


def _in_child(work: Callable[[], int]) -> int:
    """Run `work` in a fork and return the status that it returned."""
    pid = os.fork()
    if pid == 0:
        status = 127
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) & 0xFF


class Entry:
    """Both sides of entering a user namespace: the child calls :meth:`enter`, the parent :meth:`admit`. Made before the fork."""

    def __init__(self) -> None:
        self._asked = os.pipe2(os.O_CLOEXEC)
        self._answered = os.pipe2(os.O_CLOEXEC)
        self._uid, self._gid = os.geteuid(), os.getegid()

    def enter(self) -> None:
        """Leave for a new user namespace and wait until the ranges are mapped; where they are not, map this one user alone."""
        os.close(self._answered[1])
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        os.write(self._asked[1], b"?")
        if os.read(self._answered[0], 1) != b"y":
            Path("/proc/self/setgroups").write_text("deny")
            for file, own in (("uid_map", self._uid), ("gid_map", self._gid)):
                if not Path("/proc/self", file).read_text().strip():
                    Path("/proc/self", file).write_text(f"0 {own} 1")
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)

    def admit(self, pid: int) -> bool:
        """Map the user's ranges into the namespace of `pid`. False where there is only the user itself to map."""
        for fd in (self._asked[1], self._answered[0]):
            os.close(fd)
        try:
            if os.read(self._asked[0], 1) != b"?":
                return False
            mapped = _map_ranges(pid, self._uid, self._gid)
            os.write(self._answered[1], b"y" if mapped else b"n")
            return mapped
        finally:
            os.close(self._asked[0])
            os.close(self._answered[1])


def _map_ranges(pid: int, uid: int, gid: int) -> bool:
    for tool, own, file in (("newuidmap", uid, "/etc/subuid"), ("newgidmap", gid, "/etc/subgid")):
        found = _range(file, uid)
        if found is None or shutil.which(tool) is None:
            return False
        start, count = found
        done = subprocess.run([tool, str(pid), "0", str(own), "1", "1", str(start), str(count)], capture_output=True, check=False)
        if done.returncode != 0:
            return False
    return True


def _range(file: str, uid: int) -> tuple[int, int] | None:
    """The first range that `file` gives to the user."""
    names = {str(uid)}
    with contextlib.suppress(KeyError):
        names.add(pwd.getpwuid(uid).pw_name)
    with contextlib.suppress(OSError):
        for line in Path(file).read_text().splitlines():
            parts = line.strip().split(":")
            if len(parts) == 3 and parts[0] in names:
                return int(parts[1]), int(parts[2])
    return None


def run_inside(work: Callable[[], None]) -> bool:
    """Run `work` in a child inside a new user namespace with the same ranges, for what belongs to users that exist only there."""
    entry = Entry()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            entry.enter()
            work()
            status = 0
        except OSError:
            status = 2
        finally:
            os._exit(status)
    entry.admit(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
