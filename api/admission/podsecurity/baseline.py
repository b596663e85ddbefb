"""The baseline: what gives a pod more than an ordinary process has."""

from __future__ import annotations

from typing import Any

from kubeling.api.admission.podsecurity.check import Check, Pod, Result, counted, names_where, quoted, security_of, setters

_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
#: Since which version which sysctls are harmless.
_SYSCTLS = (
    (
        0,
        (
            "kernel.shm_rmid_forced",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.tcp_syncookies",
            "net.ipv4.ping_group_range",
            "net.ipv4.ip_unprivileged_port_start",
        ),
    ),
    (27, ("net.ipv4.ip_local_reserved_ports",)),
    (
        29,
        (
            "net.ipv4.tcp_keepalive_time",
            "net.ipv4.tcp_fin_timeout",
            "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes",
        ),
    ),
    (32, ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")),
)


def _apparmor(pod: Pod, minor: int) -> Result:
    found = setters(pod, "appArmorProfile", lambda each: each.get("type") == "Unconfined", lambda each: str(each["type"]))
    who = [found.who] if found else []
    values = set(found.values)
    for key, value in sorted(pod.annotations.items()):
        allowed = value in ("", "runtime/default") or value.startswith("localhost/")
        if key.startswith(_APPARMOR) and not allowed:
            who.append(f'annotation "{key}"')
            values.add(value)
    if not who:
        return None
    what = "forbidden AppArmor profile" + ("" if len(values) == 1 else "s")
    return what, f"{' and '.join(who)} must not set AppArmor profile type to {quoted(sorted(values))}"


def _capabilities(pod: Pod, minor: int) -> Result:
    forbidden: set[str] = set()

    def adds(container: Any) -> bool:
        added = set((security_of(container).get("capabilities") or {}).get("add") or ()) - _CAPABILITIES
        forbidden.update(added)
        return bool(added)

    names = names_where(pod, adds)
    if not names:
        return None
    detail = f"{counted('container', names)} must not include {quoted(sorted(forbidden))} in securityContext.capabilities.add"
    return "non-default capabilities", detail


def _host_namespaces(pod: Pod, minor: int) -> Result:
    found = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(field)]
    return ("host namespaces", ", ".join(found)) if found else None


def _host_paths(pod: Pod, minor: int) -> Result:
    names = [str(each.get("name")) for each in pod.volumes if each.get("hostPath") is not None]
    return ("hostPath volumes", counted("volume", names)) if names else None


def _host_ports(pod: Pod, minor: int) -> Result:
    ports: set[int] = set()

    def takes(container: Any) -> bool:
        taken = {each["hostPort"] for each in container.get("ports") or () if each.get("hostPort")}
        ports.update(taken)
        return bool(taken)

    names = names_where(pod, takes)
    if not names:
        return None
    uses, what = ("uses" if len(names) == 1 else "use"), ("hostPort" if len(ports) == 1 else "hostPorts")
    return "hostPort", f"{counted('container', names)} {uses} {what} {', '.join(sorted(map(str, ports)))}"


def _privileged(pod: Pod, minor: int) -> Result:
    names = names_where(pod, lambda each: security_of(each).get("privileged") is True)
    return ("privileged", f"{counted('container', names)} must not set securityContext.privileged=true") if names else None


def _proc_mount(pod: Pod, minor: int) -> Result:
    values: set[str] = set()

    def sets(container: Any) -> bool:
        value = security_of(container).get("procMount")
        if value in (None, "Default"):
            return False
        values.add(str(value))
        return True

    names = names_where(pod, sets)
    if not names:
        return None
    return "procMount", f"{counted('container', names)} must not set securityContext.procMount to {quoted(sorted(values))}"


def _selinux(pod: Pod, minor: int) -> Result:
    allowed = _SELINUX_TYPES | {"container_engine_t"} if minor >= 31 else _SELINUX_TYPES
    types: set[str] = set()
    others: set[str] = set()

    def is_bad(options: Any) -> bool:
        kind = options.get("type") or ""
        if kind not in allowed:
            types.add(kind)
        parts = {field for field in ("user", "role") if options.get(field)}
        others.update(parts)
        return kind not in allowed or bool(parts)

    found = setters(pod, "seLinuxOptions", is_bad)
    if not found:
        return None
    data = [counted("type", sorted(types))] if types else []
    data += [f"{field} may not be set" for field in ("user", "role") if field in others]
    return "seLinuxOptions", f"{found.who} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"


def _seccomp(pod: Pod, minor: int) -> Result:
    found = setters(pod, "seccompProfile", lambda each: each.get("type") == "Unconfined", lambda each: str(each["type"]))
    return ("seccompProfile", f"{found.who} must not set securityContext.seccompProfile.type to {found.what}") if found else None


def _sysctls(pod: Pod, minor: int) -> Result:
    allowed = {name for since, names in _SYSCTLS if minor >= since for name in names}
    found = [str(each.get("name")) for each in pod.security.get("sysctls") or () if each.get("name") not in allowed]
    return ("forbidden sysctls", ", ".join(found)) if found else None


def _windows_host_process(pod: Pod, minor: int) -> Result:
    found = setters(pod, "windowsOptions", lambda each: each.get("hostProcess") is True)
    return ("hostProcess", f"{found.who} must not set securityContext.windowsOptions.hostProcess=true") if found else None


#: In the order of their names, which is that of the message.
CHECKS = (
    Check("appArmorProfile", 0, _apparmor),
    Check("capabilities_baseline", 0, _capabilities),
    Check("hostNamespaces", 0, _host_namespaces),
    Check("hostPathVolumes", 0, _host_paths),
    Check("hostPorts", 0, _host_ports),
    Check("privileged", 0, _privileged),
    Check("procMount", 0, _proc_mount),
    Check("seLinuxOptions", 0, _selinux),
    Check("seccompProfile_baseline", 19, _seccomp),
    Check("sysctls", 0, _sysctls),
    Check("windowsHostProcess", 0, _windows_host_process),
)
