"""Security contexts, of pods and of containers: users and groups, seccomp, AppArmor, sysctls, and what goes with which operating system."""

from __future__ import annotations

import re

from kubeling.api import names, pods
from kubeling.api.errors import (
    FieldError,
    duplicate_value,
    forbidden_value,
    invalid_value,
    required_value,
    too_long_value,
    unsupported_value,
)
from kubeling.api.validation.common import Errors, Map, checked, in_range
from kubeling.api.validation.mounts import relative_path

_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_MAX_PROFILE, _MAX_SYSCTL, _MAX_SPEC = 4095, 253, 64 * 1024
_MAX_ID = 2**31 - 1
_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = rf"({_SEGMENT}[\./])*{_SEGMENT}"
_SYSCTL_RE = re.compile(_SYSCTL)
_IPC = ("kernel.shm_rmid_forced", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.sem")
_ENUMS = {
    "fsGroupChangePolicy": ("Always", "OnRootMismatch"),
    "supplementalGroupsPolicy": ("Merge", "Strict"),
    "seLinuxChangePolicy": ("MountOption", "Recursive"),
}
_NOT_WINDOWS = "cannot be set for a windows pod"
_POD_LINUX = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
)
_CONTAINER_LINUX = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def pod_security(path: str, spec: Map) -> Errors:
    """The security context of a pod, and the host's namespaces."""
    where, found = f"{path}.securityContext", spec.get("securityContext") or {}
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        yield from in_range(f"{where}.{field}", found.get(field), 0, _MAX_ID)
    for at, each in enumerate(found.get("supplementalGroups") or ()):
        yield from in_range(f"{where}.supplementalGroups[{at}]", each, 0, _MAX_ID)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield invalid_value(f"{where}.shareProcessNamespace", True, detail)
    if found.get("sysctls"):
        yield from _sysctls(f"{where}.sysctls", found["sysctls"], spec)
    for field, allowed in _ENUMS.items():
        if found.get(field) is not None and found[field] not in allowed:
            yield unsupported_value(f"{where}.{field}", found[field], allowed)
    yield from _profiles(where, found)
    if spec.get("hostUsers") is False:
        for field, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
            if spec.get(field):
                yield forbidden_value(f"{path}.{shown}", "when `pod.Spec.HostUsers` is false")
    if spec.get("os") is not None:
        yield from _system(path, spec)
    yield from _host_process(path, spec)


def container_security(path: str, found: Map, host_users: bool) -> Errors:
    """A container's own."""
    for field in ("runAsUser", "runAsGroup"):
        yield from in_range(f"{path}.{field}", found.get(field), 0, _MAX_ID)
    mount = found.get("procMount")
    if mount is not None:
        if mount not in ("Default", "Unmasked"):
            yield unsupported_value(f"{path}.procMount", mount, ("Default", "Unmasked"))
        if host_users and mount == "Unmasked":
            yield invalid_value(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`")
    if found.get("allowPrivilegeEscalation") is False:
        if found.get("privileged"):
            yield invalid_value(path, found, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
        if "CAP_SYS_ADMIN" in ((found.get("capabilities") or {}).get("add") or ()):
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            yield invalid_value(path, found, detail)
    yield from _profiles(path, found)


def _profiles(path: str, found: Map) -> Errors:
    """What pods' and containers' contexts have in common."""
    if found.get("seccompProfile") is not None:
        yield from _seccomp(f"{path}.seccompProfile", found["seccompProfile"])
    if found.get("windowsOptions") is not None:
        yield from _windows_options(f"{path}.windowsOptions", found["windowsOptions"])
    if found.get("appArmorProfile") is not None:
        yield from _app_armor(f"{path}.appArmorProfile", found["appArmorProfile"])


def _seccomp(path: str, profile: Map) -> Errors:
    kind, local = profile.get("type"), profile.get("localhostProfile")
    if not kind:
        yield required_value(f"{path}.type", "type is required when seccompProfile is set")
    elif kind not in _PROFILES:
        yield unsupported_value(f"{path}.type", kind, _PROFILES)
    if kind == "Localhost":
        if local is None:
            yield required_value(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")
        else:
            yield from relative_path(f"{path}.localhostProfile", local)
    elif local is not None:
        yield invalid_value(f"{path}.localhostProfile", profile, "can only be set when seccomp type is Localhost")


def _app_armor(path: str, profile: Map) -> Errors:
    kind, local = profile.get("type"), profile.get("localhostProfile")
    if not kind:
        yield required_value(f"{path}.type", "type is required when appArmorProfile is set")
    elif kind not in _PROFILES:
        yield unsupported_value(f"{path}.type", kind, _PROFILES)
    elif kind != "Localhost":
        if local is not None:
            yield invalid_value(f"{path}.localhostProfile", local, "can only be set when AppArmor type is Localhost")
    elif not local:
        yield required_value(f"{path}.localhostProfile", "must be set when AppArmor type is Localhost")
    else:
        if local != local.strip():
            yield invalid_value(f"{path}.localhostProfile", local, "must not be padded with whitespace")
        if len(local.encode()) > _MAX_PROFILE:
            yield too_long_value(f"{path}.localhostProfile", _MAX_PROFILE)


def _sysctls(path: str, found: list[Map], spec: Map) -> Errors:
    seen: set[str] = set()
    for at, each in enumerate(found):
        where, name = f"{path}[{at}].name", each.get("name") or ""
        if not name:
            yield required_value(where)
        elif len(name) > _MAX_SYSCTL or not _SYSCTL_RE.fullmatch(name):
            yield invalid_value(where, name, f"must have at most {_MAX_SYSCTL} characters and match regex ^{_SYSCTL}$")
        elif name in seen:
            yield duplicate_value(where, name)
        seen.add(name)
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net."):
            yield invalid_value(where, name, "may not be specified when 'hostNetwork' is true")
        elif spec.get("hostIPC") and (dotted in _IPC or dotted.startswith(("kernel.msg", "fs.mqueue."))):
            yield invalid_value(where, name, "may not be specified when 'hostIPC' is true")


def _system(path: str, spec: Map) -> Errors:
    name = (spec.get("os") or {}).get("name")
    if not name:
        yield required_value(f"{path}.os.name", "cannot be empty")
    elif name not in ("linux", "windows"):
        yield unsupported_value(f"{path}.os", name, ("linux", "windows"))
    elif name == "linux":
        for where, found in _contexts(path, spec):
            if found.get("windowsOptions") is not None:
                yield forbidden_value(f"{where}.windowsOptions", "windows options cannot be set for a linux pod")
    else:
        for field in ("hostUsers", "shareProcessNamespace"):
            if spec.get(field) is not None:
                yield forbidden_value(f"{path}.{field}", _NOT_WINDOWS)
        for field in ("hostPID", "hostIPC"):
            if spec.get(field):
                yield forbidden_value(f"{path}.{field}", _NOT_WINDOWS)
        for at, (where, found) in enumerate(_contexts(path, spec)):
            for field in _CONTAINER_LINUX if at else _POD_LINUX:
                if found.get(field) is not None:
                    yield forbidden_value(f"{where}.{field}", _NOT_WINDOWS)


def _contexts(path: str, spec: Map) -> list[tuple[str, Map]]:
    """The pod's own context first, then the containers'."""
    found = [(f"{path}.securityContext", spec.get("securityContext") or {})]
    for field, at, each in pods.all_containers(spec):
        found.append((f"{path}.{field}[{at}].securityContext", each.get("securityContext") or {}))
    return found


def _host_process(path: str, spec: Map) -> Errors:
    wishes = [(where, (found.get("windowsOptions") or {}).get("hostProcess")) for where, found in _contexts(path, spec)]
    if all(wish is None for _, wish in wishes):
        return
    (_, whole), *each = wishes
    for where, wish in each:
        if whole is not None and wish is not None and wish != whole:
            detail = f"pod hostProcess value must be identical if both are specified, was {'true' if whole else 'false'}"
            yield invalid_value(f"{where}.windowsOptions.hostProcess", wish, detail)
    many = sum(1 for _, wish in each if (whole if wish is None else wish))
    if many:
        if many != len(each):
            yield invalid_value(
                path, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers"
            )
        if not spec.get("hostNetwork"):
            yield invalid_value(
                f"{path}.hostNetwork", False, "hostNetwork must be true if pod contains any hostProcess containers"
            )


_USER_BAD = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_DOMAIN = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*")


def _windows_options(path: str, found: Map) -> Errors:
    name, spec, user = found.get("gmsaCredentialSpecName"), found.get("gmsaCredentialSpec"), found.get("runAsUserName")
    if name is not None:
        yield from checked(f"{path}.gmsaCredentialSpecName", name, names.dns1123_subdomain)
    if spec is not None and not spec:
        yield invalid_value(f"{path}.gmsaCredentialSpec", spec, "gmsaCredentialSpec cannot be an empty string")
    elif spec is not None and len(spec.encode()) > _MAX_SPEC:
        yield invalid_value(f"{path}.gmsaCredentialSpec", spec, "gmsaCredentialSpec size must be under 64 KiB")
    if user is not None:
        yield from _user_name(f"{path}.runAsUserName", user)


def _user_name(path: str, value: str) -> Errors:
    def wrong(detail: str) -> FieldError:
        return invalid_value(path, value, f"runAsUserName{detail}")

    if not value:
        yield wrong(" cannot be an empty string")
    elif any(ord(each) < 32 or ord(each) == 127 for each in value):
        yield wrong(" cannot contain control characters")
    elif value.count("\\") > 1:
        yield wrong(" cannot contain more than one backslash")
    else:
        domain, slash, user = value.rpartition("\\")
        if len(domain) >= 256:
            yield wrong("'s Domain length must be under 256 characters")
        if slash and not _NETBIOS.fullmatch(domain) and not _DOMAIN.fullmatch(domain):
            yield wrong("'s Domain doesn't match the NetBios nor the DNS format")
        if not user:
            yield wrong("'s User cannot be empty")
        elif len(user) > 104:
            yield wrong("'s User length must not be longer than 104 characters")
        if user and not user.strip(". "):
            yield wrong("'s User cannot contain only periods or spaces")
        if _USER_BAD.search(user):
            yield wrong("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
