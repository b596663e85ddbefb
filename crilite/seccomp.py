"""The default seccomp profile: which system calls a container may not make, as a program for the kernel's packet filter machine.

What is refused is what the default profiles of other runtimes refuse: calls that reach the whole machine (mounts, modules, clocks, kexec), those
with a history of holes that containers do not need (keyrings, userfaultfd, io_uring), and new namespaces. Some become available with the
capability that governs them. A call that is newer than this table "does not exist" (ENOSYS), so that programs fall back to an older one.

The kernel remembers which calls a filter always allows, so its length costs the allowed ones nothing.
"""

from __future__ import annotations

import functools
import os
import struct
from typing import Any

from kubeling.crilite import seccomp_profile
from kubeling.linux.capabilities import NUMBER
from kubeling.proto import cri_pb2

_LD_ABS, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARG0 = 0, 4, 16
_X32 = 0x40000000
#: The flags of clone that make namespaces (the time namespace has none here).
_NAMESPACES = 0x7E020000
_AF_VSOCK = 40
#: The execution domains that personality may choose: Linux, with 2.6 version numbers, without address randomisation; and "tell me".
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)

#: Machine to (audit architecture, last call of the table, numbers). Calls from 424 on have the same number everywhere.
_COMMON = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "io_uring_setup": 425,
    "io_uring_enter": 426, "io_uring_register": 427, "clone3": 435, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
    "quotactl_fd": 443, "set_mempolicy_home_node": 450,
}  # fmt: skip
_LAST = 462
_TABLES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (0xC000003E, {
        "socket": 41, "clone": 56, "ptrace": 101, "syslog": 103, "uselib": 134, "personality": 135, "ustat": 136, "sysfs": 139,
        "vhangup": 153, "_sysctl": 156, "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167,
        "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "create_module": 174,
        "init_module": 175, "delete_module": 176, "get_kernel_syms": 177, "query_module": 178, "quotactl": 179, "nfsservctl": 180,
        "lookup_dcookie": 212, "clock_settime": 227, "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "kexec_load": 246,
        "add_key": 248, "request_key": 249, "keyctl": 250, "migrate_pages": 256, "unshare": 272, "move_pages": 279,
        "perf_event_open": 298, "fanotify_init": 300, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310,
        "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198, "clone": 220, "ptrace": 117, "syslog": 116, "personality": 92, "vhangup": 58, "chroot": 51, "acct": 89,
        "settimeofday": 170, "mount": 40, "umount2": 39, "swapon": 224, "swapoff": 225, "reboot": 142, "sethostname": 161,
        "setdomainname": 162, "init_module": 105, "delete_module": 106, "quotactl": 60, "nfsservctl": 42, "lookup_dcookie": 18,
        "clock_settime": 112, "mbind": 235, "set_mempolicy": 237, "get_mempolicy": 236, "kexec_load": 104, "add_key": 217,
        "request_key": 218, "keyctl": 219, "migrate_pages": 238, "unshare": 97, "move_pages": 239, "perf_event_open": 241,
        "fanotify_init": 262, "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
        "finit_module": 273, "kexec_file_load": 294, "bpf": 280, "userfaultfd": 282,
    }),
}  # fmt: skip

#: Calls that a capability opens; all other refused ones stay so. Any one of several is enough.
_OPENED_BY = {
    "SYS_ADMIN": (
        "bpf clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount open_tree perf_event_open "
        "quotactl quotactl_fd setdomainname sethostname setns syslog umount2 unshare"
    ),
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module init_module finit_module",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev",
    "SYS_RAWIO": "iopl ioperm",
    "SYS_TIME": "settimeofday clock_settime",
    "SYS_TTY_CONFIG": "vhangup",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node migrate_pages",
    "SYSLOG": "syslog",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
}
#: In the table for their arguments, or because they are harmless since Linux 4.8 (ptrace no longer gets round a filter).
_NOT_REFUSED = frozenset({"socket", "clone", "personality", "ptrace"})


def _instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value & 0xFFFFFFFF)


def _fail(error: int) -> bytes:
    return _instruction(_RET, _ERRNO | error)


@functools.lru_cache(maxsize=64)
def default_program(capabilities: int, machine: str = "") -> bytes:
    """The filter for a container whose bounding set is `capabilities`; empty on a machine whose numbers are not known here."""
    machine = machine or os.uname().machine
    if machine not in _TABLES:
        return b""
    arch, numbers = _TABLES[machine]
    numbers = {**_COMMON, **numbers}
    open_calls = {call for name, calls in _OPENED_BY.items() if capabilities >> NUMBER[name] & 1 for call in calls.split()}
    admin = bool(capabilities >> NUMBER["SYS_ADMIN"] & 1)
    out = [
        _instruction(_LD_ABS, _OFFSET_ARCH),
        _instruction(_JEQ, arch, 1, 0),
        _fail(_ENOSYS),
        _instruction(_LD_ABS, _OFFSET_NUMBER),
        # The numbers of x32 lie above all of these.
        _instruction(_JGE, _LAST + 1, 0, 1),
        _fail(_ENOSYS),
    ]
    for call, number in sorted(numbers.items(), key=lambda item: item[1]):
        if call not in open_calls and call not in _NOT_REFUSED:
            # clone3 hides its flags from filters: without it the C library uses clone, whose flags can be seen.
            out += [_instruction(_JEQ, number, 0, 1), _fail(_ENOSYS if call == "clone3" else _EPERM)]
    if not admin:
        out += [
            _instruction(_JEQ, numbers["clone"], 0, 4),
            _instruction(_LD_ABS, _OFFSET_ARG0),
            _instruction(_JSET, _NAMESPACES, 0, 1),
            _fail(_EPERM),
            _instruction(_RET, _ALLOW),
        ]
    out += [
        _instruction(_JEQ, numbers["socket"], 0, 4),
        _instruction(_LD_ABS, _OFFSET_ARG0),
        _instruction(_JEQ, _AF_VSOCK, 0, 1),
        _fail(_EPERM),
        _instruction(_RET, _ALLOW),
        _instruction(_JEQ, numbers["personality"], 0, 2 + 2 * len(_PERSONALITIES)),
        _instruction(_LD_ABS, _OFFSET_ARG0),
    ]
    for value in _PERSONALITIES:
        out += [_instruction(_JEQ, value, 0, 1), _instruction(_RET, _ALLOW)]
    out += [_fail(_EPERM), _instruction(_RET, _ALLOW)]
    return b"".join(out)


def default_profile(capabilities: int, machine: str = "") -> dict[str, Any] | None:
    """The same in the words of OCI runtimes; None on a machine whose numbers are not known here."""
    machine = machine or os.uname().machine
    if machine not in _TABLES:
        return None
    numbers = {**_COMMON, **_TABLES[machine][1]}
    open_calls = {call for name, calls in _OPENED_BY.items() if capabilities >> NUMBER[name] & 1 for call in calls.split()}
    refused = sorted(call for call in numbers if call not in open_calls and call not in _NOT_REFUSED and call != "clone3")
    rules: list[dict[str, Any]] = [{"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM}]
    if "clone3" not in open_calls:
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
        # One rule for each flag: such conditions know no "any of these bits".
        for bit in (bit for bit in range(32) if _NAMESPACES >> bit & 1):
            flag = {"index": 0, "value": 1 << bit, "valueTwo": 1 << bit, "op": "SCMP_CMP_MASKED_EQ"}
            rules.append({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM, "args": [flag]})
    vsock = {"index": 0, "value": _AF_VSOCK, "op": "SCMP_CMP_EQ"}
    rules.append({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM, "args": [vsock]})
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}


def profile(context: cri_pb2.LinuxContainerSecurityContext, capabilities: int | None) -> dict[str, Any] | None:
    """What the container's security context asks for, in the words of OCI runtimes; None for none."""
    kind, where = _wanted(context)
    if context.privileged or capabilities is None or kind == cri_pb2.SecurityProfile.Unconfined:
        return None
    if kind == cri_pb2.SecurityProfile.Localhost:
        return seccomp_profile.resolve(seccomp_profile.read(where), capabilities, where)
    return default_profile(capabilities)


def program(context: cri_pb2.LinuxContainerSecurityContext, capabilities: int | None) -> bytes:
    """The filter that the container's security context asks for; empty for none."""
    kind, where = _wanted(context)
    if context.privileged or capabilities is None:
        return b""
    if kind == cri_pb2.SecurityProfile.Localhost:
        return seccomp_profile.compile_profile(seccomp_profile.read(where), capabilities, where)
    return default_program(capabilities) if kind == cri_pb2.SecurityProfile.RuntimeDefault else b""


def _wanted(context: cri_pb2.LinuxContainerSecurityContext) -> tuple[int, str]:
    """The kind of profile, and the file of one of the node's own."""
    path = context.seccomp_profile_path
    if context.HasField("seccomp"):
        return context.seccomp.profile_type, context.seccomp.localhost_ref
    if path in ("runtime/default", "docker/default"):
        return cri_pb2.SecurityProfile.RuntimeDefault, ""
    if path.startswith("localhost/"):
        return cri_pb2.SecurityProfile.Localhost, path.removeprefix("localhost/")
    return cri_pb2.SecurityProfile.Unconfined, ""
