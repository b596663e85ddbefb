"""Capabilities: names, and the calls that take them away or grant them to the process that calls."""

from __future__ import annotations

import ctypes
import os

from kubeling.linux import syscalls

NAMES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
NUMBER = {name: index for index, name in enumerate(NAMES)}

_PR_CAPBSET_DROP = 24
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def mask(names: list[str]) -> int:
    """The bit set of `names` (with or without ``CAP_``, any case). An unknown name is a ValueError."""
    bits = 0
    for name in names:
        short = name.upper().removeprefix("CAP_")
        if short not in NUMBER:
            raise ValueError(f"unknown capability {name!r}")
        bits |= 1 << NUMBER[short]
    return bits


def bounding() -> int:
    """The bounding set of this process: no child of it can ever hold more."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("CapBnd:"):
                return int(line.split()[1], 16)
    return 0


def drop_bounding(keep: int, current: int) -> None:
    """Take everything but `keep` out of the bounding set, which is `current` now."""
    for number in range(current.bit_length()):
        if current >> number & 1 and not keep >> number & 1:
            syscalls.prctl(_PR_CAPBSET_DROP, number)


def keep_over_setuid() -> None:
    """Let the permitted set survive the change from root to another user, so that :func:`apply` can choose what stays."""
    syscalls.prctl(_PR_SET_KEEPCAPS, 1)


def apply(permitted: int, inheritable: int, ambient: int) -> None:
    """Set this thread's sets; what is `ambient` stays across an exec as an ordinary user."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    for half in range(2):
        low = 32 * half
        data[3 * half] = permitted >> low & 0xFFFFFFFF
        data[3 * half + 1] = permitted >> low & 0xFFFFFFFF
        data[3 * half + 2] = inheritable >> low & 0xFFFFFFFF
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for number in range(ambient.bit_length()):
        if ambient >> number & 1 and _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"ambient capability {NAMES[number]}: {os.strerror(code)}")
