"""Seccomp profiles of the node's own (Localhost): the JSON that docker, containerd and CRI-O read, compiled by libseccomp.

The names of system calls and their numbers on each architecture are libseccomp's knowledge, and so is the program; every distribution has that library
where there is a container tool or systemd. It is loaded when the first such profile is wanted.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
from collections.abc import Mapping
from typing import Any

from kubeling.crilite.errors import CriError, InvalidArgument, NotFound
from kubeling.linux.capabilities import NUMBER

_MAX_SIZE = 1 << 20
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_NUMBER = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_COMPARISONS = {
    "SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5, "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7,
}  # fmt: skip
_EPERM = 1
#: Ours, in the words of the profiles' conditions.
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
#: libseccomp says so of what is there already, and of what has no meaning on an architecture.
_HARMLESS = (-17, -33)


class _Comparison(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def read(path: str) -> dict[str, Any]:
    """The profile in the file at `path`, which must be absolute."""
    if not os.path.isabs(path):
        raise InvalidArgument(f"seccomp profile {path!r}: its path must be absolute")
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_SIZE + 1)
        if len(data) > _MAX_SIZE:
            raise InvalidArgument(f"seccomp profile {path} is too large")
        body = json.loads(data)
    except FileNotFoundError:
        raise NotFound(f"seccomp profile {path} is not on this node") from None
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"seccomp profile {path} cannot be read: {error}") from error
    if not isinstance(body, dict):
        raise InvalidArgument(f"seccomp profile {path} is not an object")
    return body


def compile_profile(profile: Mapping[str, Any], capabilities: int, what: str) -> bytes:
    """The program for a container whose bounding set is `capabilities`. What cannot be understood is an InvalidArgument that names `what`."""
    library = _library()
    try:
        default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
        context = library.seccomp_init(ctypes.c_uint32(default))
        if not context:
            raise InvalidArgument(f"seccomp profile {what}: defaultAction {profile['defaultAction']!r} cannot be a default here")
        try:
            for name in _architectures(profile):
                token = library.seccomp_arch_resolve_name(name.encode())
                if token:
                    _check(library.seccomp_arch_add(ctypes.c_void_p(context), ctypes.c_uint32(token)), f"architecture {name}")
            for rule in profile.get("syscalls") or ():
                if _applies(rule, capabilities):
                    _add(library, context, rule, default)
            return _export(library, context)
        finally:
            library.seccomp_release(ctypes.c_void_p(context))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"seccomp profile {what} is broken: {error!r}") from error


def resolve(profile: Mapping[str, Any], capabilities: int, what: str) -> dict[str, Any]:
    """The profile as OCI runtimes take it: without conditions, which are decided here."""
    try:
        rules = []
        for rule in profile.get("syscalls") or ():
            if _applies(rule, capabilities):
                kept = {key: value for key, value in rule.items() if key in ("action", "errnoRet", "args")}
                rules.append({**kept, "names": list(rule.get("names") or [rule["name"]])})
        _action(profile["defaultAction"], None)
        made: dict[str, Any] = {"defaultAction": profile["defaultAction"], "syscalls": rules}
        if profile.get("defaultErrnoRet") is not None:
            made["defaultErrnoRet"] = profile["defaultErrnoRet"]
        names = _architectures(profile)
        if names:
            made["architectures"] = [f"SCMP_ARCH_{name.upper()}" for name in names]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"seccomp profile {what} is broken: {error!r}") from error
    return made


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        raise CriError("seccomp profiles of the node (Localhost) need libseccomp: install libseccomp2") from None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    return library


def _action(name: str, number: Any) -> int:
    if name not in _ACTIONS:
        raise ValueError(f"unknown action {name!r}")
    data = _EPERM if number is None else int(number)
    return _ACTIONS[name] | (data & 0xFFFF if name in _WITH_NUMBER else 0)


def _architectures(profile: Mapping[str, Any]) -> list[str]:
    """libseccomp's names of those that the profile speaks of beside the machine's own."""
    machine = _MACHINES.get(os.uname().machine, "")
    named = list(profile.get("architectures") or ())
    for entry in profile.get("archMap") or ():
        if _arch_name(entry["architecture"]) in {"amd64": ("x86_64",), "arm64": ("aarch64",)}.get(machine, ()):
            named += entry.get("subArchitectures") or ()
    return [_arch_name(name) for name in named]


def _arch_name(name: str) -> str:
    return str(name).removeprefix("SCMP_ARCH_").lower()


def _applies(rule: Mapping[str, Any], capabilities: int) -> bool:
    machine = _MACHINES.get(os.uname().machine, os.uname().machine)

    def has(names: Any) -> list[bool]:
        return [bool(capabilities >> NUMBER.get(str(name).removeprefix("CAP_"), 63) & 1) for name in names or ()]

    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("arches") and machine not in includes["arches"]:
        return False
    if machine in (excludes.get("arches") or ()):
        return False
    if not all(has(includes.get("caps"))) or any(has(excludes.get("caps"))):
        return False
    return not includes.get("minKernel") or _kernel(includes["minKernel"]) <= _kernel(os.uname().release)


def _kernel(text: str) -> tuple[int, ...]:
    major, _, rest = str(text).partition(".")
    digits = "".join(one if one.isdigit() else " " for one in rest).split()
    return int(major), int(digits[0]) if digits else 0


def _add(library: ctypes.CDLL, context: int, rule: Mapping[str, Any], default: int) -> None:
    action = _action(rule["action"], rule.get("errnoRet"))
    if action == default:
        return
    comparisons = [
        _Comparison(int(one["index"]), _COMPARISONS[one["op"]], int(one["value"]), int(one.get("valueTwo") or 0))
        for one in rule.get("args") or ()
    ]
    indexes = [one.arg for one in comparisons]
    # Several conditions on one argument mean "any of them"; libseccomp would want all.
    groups = [[one] for one in comparisons] if len(set(indexes)) < len(indexes) else [comparisons]
    for name in rule.get("names") or [rule["name"]]:
        number = library.seccomp_syscall_resolve_name(str(name).encode())
        if number == -1:
            continue  # Newer than the library, or of another architecture.
        for group in groups:
            array = (_Comparison * len(group))(*group)
            result = library.seccomp_rule_add_array(
                ctypes.c_void_p(context), ctypes.c_uint32(action), ctypes.c_int(number), ctypes.c_uint(len(group)), array
            )
            _check(result, f"the rule for {name}")


def _check(result: int, about: str) -> None:
    if result < 0 and result not in _HARMLESS:
        raise ValueError(f"{about}: {os.strerror(-result)}")


def _export(library: ctypes.CDLL, context: int) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _check(library.seccomp_export_bpf(ctypes.c_void_p(context), ctypes.c_int(fd)), "the program")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
