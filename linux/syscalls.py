"""The few system calls that Python 3.11 does not offer. Every failure is an :class:`OSError` with the errno of the call and what it was about."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.sethostname.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


def _check(result: int, about: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{about}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces in `flags` for new ones; see unshare(2). With CLONE_NEWPID it is the next child that is inside."""
    _check(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(fd: int, kind: int = 0) -> None:
    """Join the namespace behind `fd` (of the CLONE_NEW* `kind`, 0 for any). Only the calling thread moves; see setns(2)."""
    _check(_libc.setns(fd, kind), f"setns(fd {fd}, {kind:#x})")


def setns_path(path: str, kind: int = 0) -> None:
    """Join the namespace that the file at `path` stands for."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, kind)
    finally:
        os.close(fd)


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """See mount(2)."""
    result = _libc.mount(source.encode(), target.encode(), fstype.encode() or None, flags, data.encode() or None)
    _check(result, f"mount {source} on {target} ({fstype or 'flags'} {flags:#x} {data})".rstrip())


def bind(source: str, target: str, *, read_only: bool = False, recursive: bool = True) -> None:
    """Show `source` at `target` as well; a read-only bind needs a second call, since the kernel ignores the flag on the first."""
    mount(source, target, "", MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        # Inside a user namespace the flags that the source's mount has locked must be repeated, or the remount is refused.
        locked = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount("none", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY | locked)


def umount(target: str, flags: int = 0) -> None:
    """See umount2(2)."""
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """See pivot_root(2)."""
    number = {"x86_64": 155, "aarch64": 41}.get(os.uname().machine)
    if number is None:
        raise OSError(38, f"pivot_root: the system call's number on {os.uname().machine} is not known here")
    _check(_libc.syscall(number, new_root.encode(), put_old.encode()), f"pivot_root {new_root}")


def sethostname(name: str) -> None:
    """Name this UTS namespace."""
    raw = name.encode()
    _check(_libc.sethostname(raw, len(raw)), f"sethostname {name}")


def prctl(option: int, arg: int = 0) -> None:
    """See prctl(2)."""
    _check(_libc.prctl(option, arg, 0, 0, 0), f"prctl({option}, {arg})")


def new_session_keyring() -> None:
    """Leave the session keyring for an empty, anonymous one. Nothing happens where the kernel has no keyrings or does not allow it."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if number is not None and _libc.syscall(number, 1, None) < 0 and ctypes.get_errno() not in (1, 38):  # EPERM, ENOSYS
        _check(-1, "a new session keyring")


def own_files_as(uid: int, gid: int) -> None:
    """Let what this thread creates belong to others. It gives up its capabilities over files with that, see capabilities(7)."""
    _libc.setfsgid(ctypes.c_uint(gid))
    _libc.setfsuid(ctypes.c_uint(uid))


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def seccomp_filter(program: bytes) -> None:
    """Put this thread and what it will execute under `program` (struct sock_filter, one after another). Takes CAP_SYS_ADMIN or no_new_privs."""
    buffer = ctypes.create_string_buffer(program, len(program))
    described = _FilterProgram(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    _check(_libc.prctl(PR_SET_SECCOMP, 2, ctypes.addressof(described), 0, 0), "seccomp filter")


def default_signal(number: int) -> None:
    """Give a signal its default action, also one of the two (32, 33) that the C library keeps for itself and `sigaction` refuses.

    A process that was started by posix_spawn, as make does it, inherits those ignored.
    """
    call = {"x86_64": 13, "aarch64": 134}.get(os.uname().machine)
    if call is not None:
        # struct kernel_sigaction: no handler (SIG_DFL is 0), no flags, no restorer, an empty mask.
        _check(_libc.syscall(call, number, bytes(32), None, 8), f"rt_sigaction({number})")
