"""A run is a process in namespaces of its own: network (the switch that joins the members), mounts (their disks), processes.

When it ends, however it ends, the kernel takes everything away that it made: the members (it is their pid 1), links, rules, mounts. Without root the same is
tried in a user namespace.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

from kubeling.linux import syscalls

#: Exit codes of a run.
PASSED, VIOLATED, BROKEN, SKIPPED = 0, 1, 2, 77


def unavailable(store: str = "etcdlite", *, disk: bool = False, clock: bool = False) -> str:
    """Why such a run is not possible here; empty: it is."""
    for tool in ["ip", "nft", "nsenter", "unshare"] + ([store] if store == "etcd" else []):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if disk and not (os.path.exists("/dev/fuse") and os.access("/dev/fuse", os.R_OK | os.W_OK)):
        return "/dev/fuse is missing or not ours to open"
    if clock and store == "etcd":
        return "a Go program's clock cannot be shifted from outside"
    if clock and shutil.which("cc") is None:
        return "no C compiler for the clock's shim"
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    tried = subprocess.run(
        ["unshare", *own, "--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", "ip link add hub0 type bridge"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


def enter() -> None:
    """Go on in a new process inside the namespaces; the caller's process waits for it and ends with its exit code.

    To be called before there are threads.
    """
    flags = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        flags |= syscalls.CLONE_NEWUSER
    syscalls.unshare(flags)
    if uid != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    parent = os.getpid()
    child = os.fork()
    if child:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os.kill(child, signal.SIGKILL))
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else BROKEN)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (0, parent):
        os._exit(BROKEN)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
