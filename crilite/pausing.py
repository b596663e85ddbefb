"""The init of a pid namespace that containers share: it reaps, and ends when told to.

Executed as a program, with the standard library only, and not a mere fork of the keeper: containers of the pod see this process, and one with
CAP_SYS_PTRACE could read the keeper's memory in a fork, or reach the node's files by its root and the node's network by its namespaces. So nothing of the
keeper is left in it, its root is an empty directory, its namespaces are empty, and it is nobody without capabilities.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

#: Mounts, cgroup, UTS, IPC and network.
_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x40000000
_MS_REC, _MS_PRIVATE, _MS_RDONLY, _MNT_DETACH = 0x4000, 0x40000, 1, 2
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _CAPABILITY_VERSION = 4, 38, 0x20080522
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_NOBODY = 65534


def _leave() -> None:
    """Into an empty root of our own, then be nobody. What the kernel does not allow is left out: then there was less to give up."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NAMESPACES) == 0:
        libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
        if libc.mount(b"tmpfs", b"/proc", b"tmpfs", _MS_RDONLY, b"size=4k,mode=555") == 0:
            os.chdir("/proc")
            libc.syscall(_PIVOT_ROOT.get(os.uname().machine, -1), b".", b".")
            libc.umount2(b".", _MNT_DETACH)
            os.chdir("/")
    with contextlib.suppress(OSError):
        os.setgroups([])
    with contextlib.suppress(OSError):
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def main() -> None:
    """Wait for children, and for the word to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    _leave()
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if signal.sigwait({signal.SIGCHLD, signal.SIGTERM}) == signal.SIGTERM:
            os._exit(0)


if __name__ == "__main__":
    main()
