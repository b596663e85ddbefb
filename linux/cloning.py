"""A fork whose child is born in a cgroup of version 2 (clone3 with CLONE_INTO_CGROUP, Linux 5.7).

To move a process there later, the kernel waits until every processor has been through the scheduler: 5 ms on an idle machine, 15 on a busy one. A child that is
born there waits for nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

_CLONE3 = 435
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
_CLONE_INTO_CGROUP = 0x200000000
_PR_GET_TID_ADDRESS = 40

# Unlike CDLL this keeps the interpreter's lock over the call, as a fork must.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
for _each in (ctypes.pythonapi.PyOS_BeforeFork, ctypes.pythonapi.PyOS_AfterFork_Parent, ctypes.pythonapi.PyOS_AfterFork_Child):
    _each.argtypes, _each.restype = [], None


class _Arguments(ctypes.Structure):
    """The first version of the kernel's struct clone_args that knows of cgroups."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


def fork_into(cgroup: int) -> int:
    """As os.fork, with the child in the cgroup whose folder's descriptor is given. For processes of one thread.

    OSError where that cannot be: ENOSYS where the kernel has no clone3, or a filter hides it; EBUSY, EACCES, ENODEV, EOPNOTSUPP for the cgroup.
    """
    # Where the C library keeps the thread's own number; the kernel writes the child's there, as it does for the library's fork.
    address = ctypes.c_void_p()
    if _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0 or not address.value:
        raise OSError(errno.ENOSYS, "fork into a cgroup: the kernel does not tell where the thread's number is kept")
    arguments = _Arguments(
        flags=_CLONE_INTO_CGROUP | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID,
        child_tid=address.value,
        exit_signal=signal.SIGCHLD,
        cgroup=cgroup,
    )
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = _libc.syscall(_CLONE3, ctypes.byref(arguments), ctypes.c_size_t(ctypes.sizeof(arguments)))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    number = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, f"fork into a cgroup: {os.strerror(number)}")
    return pid
