"""Restricted: a pod has to say itself that it does without what it does not need."""

from __future__ import annotations

from typing import Any

from kubeling.api.admission.podsecurity.check import Check, Pod, Result, counted, names_where, quoted, security_of, setters

_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_SECCOMP = ("RuntimeDefault", "Localhost")
#: Since this version a pod for Windows need not say what only Linux has.
_WINDOWS = 25


def _excused(pod: Pod, minor: int) -> bool:
    return pod.is_windows and minor >= _WINDOWS


def _escalation(pod: Pod, minor: int) -> Result:
    if _excused(pod, minor):
        return None
    names = names_where(pod, lambda each: security_of(each).get("allowPrivilegeEscalation") is not False)
    if not names:
        return None
    detail = f"{counted('container', names)} must set securityContext.allowPrivilegeEscalation=false"
    return "allowPrivilegeEscalation != false", detail


def _capabilities(pod: Pod, minor: int) -> Result:
    if _excused(pod, minor):
        return None
    forbidden: set[str] = set()

    def adds(container: Any) -> bool:
        added = set((security_of(container).get("capabilities") or {}).get("add") or ()) - {"NET_BIND_SERVICE"}
        forbidden.update(added)
        return bool(added)

    keeping = names_where(pod, lambda each: "ALL" not in ((security_of(each).get("capabilities") or {}).get("drop") or ()))
    adding = names_where(pod, adds)
    details = []
    if keeping:
        details.append(f'{counted("container", keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        words = quoted(sorted(forbidden))
        details.append(f"{counted('container', adding)} must not include {words} in securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(details)) if details else None


def _volumes(pod: Pod, minor: int) -> Result:
    names: list[str] = []
    kinds: set[str] = set()
    for each in pod.volumes:
        kind = next((key for key, value in each.items() if key != "name" and value is not None), "emptyDir")
        if kind not in _VOLUMES:
            names.append(str(each.get("name")))
            kinds.add(kind)
    if not names:
        return None
    uses, what = ("uses" if len(names) == 1 else "use"), ("type" if len(kinds) == 1 else "types")
    return "restricted volume types", f"{counted('volume', names)} {uses} restricted volume {what} {quoted(sorted(kinds))}"


def _non_root(pod: Pod, minor: int) -> Result:
    reason = "runAsNonRoot != true"
    found = setters(pod, "runAsNonRoot", lambda value: value is False)
    if found:
        return reason, f"{found.who} must not set securityContext.runAsNonRoot=false"
    if pod.security.get("runAsNonRoot") is True:
        return None
    silent = names_where(pod, lambda each: security_of(each).get("runAsNonRoot") is None)
    return (reason, f"pod or {counted('container', silent)} must set securityContext.runAsNonRoot=true") if silent else None


def _user(pod: Pod, minor: int) -> Result:
    found = setters(pod, "runAsUser", lambda value: value == 0)
    return ("runAsUser=0", f"{found.who} must not set runAsUser=0") if found else None


def _seccomp(pod: Pod, minor: int) -> Result:
    if _excused(pod, minor):
        return None
    found = setters(
        pod, "seccompProfile", lambda each: each.get("type") not in _SECCOMP, lambda each: str(each.get("type") or "")
    )
    if found:
        return "seccompProfile", f"{found.who} must not set securityContext.seccompProfile.type to {found.what}"
    if pod.security.get("seccompProfile") is not None:
        return None
    silent = names_where(pod, lambda each: security_of(each).get("seccompProfile") is None)
    if not silent:
        return None
    must = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return "seccompProfile", f"pod or {counted('container', silent)} {must}"


CHECKS = (
    Check("allowPrivilegeEscalation", 8, _escalation),
    Check("capabilities_restricted", 22, _capabilities, "capabilities_baseline"),
    Check("restrictedVolumes", 0, _volumes, "hostPathVolumes"),
    Check("runAsNonRoot", 0, _non_root),
    Check("runAsUser", 23, _user),
    Check("seccompProfile_restricted", 19, _seccomp, "seccompProfile_baseline"),
)
