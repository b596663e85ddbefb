"""Pods and pod templates, and what of a pod may change."""

from __future__ import annotations

from kubeling.api import names
from kubeling.api.defaults.pod import pod as fill_in
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value
from kubeling.api.meta import Object, copy_json, spec_of
from kubeling.api.validation.common import Errors, Map, amount, checked, in_range, label_map, one_of
from kubeling.api.validation.containers import containers, resources
from kubeling.api.validation.objectmeta import annotation_map
from kubeling.api.validation.resize import resize
from kubeling.api.validation.scheduling import affinity, spread, tolerations
from kubeling.api.validation.volumes import volumes

_RESTART = ("Always", "Never", "OnFailure")
_DNS = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")


def pod(obj: Object) -> Errors:
    """A pod that is created."""
    spec = obj.get("spec") or {}
    yield from pod_spec("spec", spec)
    if spec.get("ephemeralContainers"):
        yield forbidden_value("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("nodeName") and spec.get("schedulingGates"):
        yield forbidden_value("spec.nodeName", "cannot be set until all schedulingGates have been cleared")


def template(path: str, found: Map | None) -> Errors:
    """A pod template."""
    metadata = (found or {}).get("metadata") or {}
    yield from label_map(f"{path}.labels", metadata.get("labels"))
    yield from annotation_map(f"{path}.annotations", metadata.get("annotations"))
    spec = (found or {}).get("spec") or {}
    yield from pod_spec(f"{path}.spec", spec)
    if spec.get("ephemeralContainers"):
        yield forbidden_value(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")


def pod_spec(path: str, spec: Map) -> Errors:
    """The spec of a pod, wherever it stands."""
    if spec.get("volumes"):
        yield from volumes(f"{path}.volumes", spec["volumes"])
    yield from containers(path, spec, frozenset(each.get("name") or "" for each in spec.get("volumes") or ()))
    yield from one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), _RESTART)
    yield from one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS)
    if spec.get("dnsPolicy") == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        yield required_value(f"{path}.dnsConfig.nameservers", detail)
    for at, each in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or ()):
        yield from checked(f"{path}.dnsConfig.nameservers[{at}]", each, names.ip_address)
    yield from label_map(f"{path}.nodeSelector", spec.get("nodeSelector"))
    yield from in_range(f"{path}.activeDeadlineSeconds", spec.get("activeDeadlineSeconds"), 1, 2**31 - 1)
    for field, check in _NAMES.items():
        if spec.get(field):
            yield from checked(f"{path}.{field}", spec[field], check)
    if spec.get("tolerations"):
        yield from tolerations(f"{path}.tolerations", spec["tolerations"])
    if spec.get("affinity"):
        yield from affinity(f"{path}.affinity", spec["affinity"])
    if spec.get("topologySpreadConstraints"):
        yield from spread(f"{path}.topologySpreadConstraints", spec["topologySpreadConstraints"])
    if spec.get("resources"):
        yield from resources(f"{path}.resources", spec["resources"])
    for name, value in (spec.get("overhead") or {}).items():
        yield from amount(f"{path}.overhead[{name}]", value)
    yield from _details(path, spec)


_NAMES = {
    "serviceAccountName": names.dns1123_subdomain,
    "nodeName": names.dns1123_subdomain,
    "hostname": names.dns1123_label,
    "subdomain": names.dns1123_label,
    "priorityClassName": names.dns1123_subdomain,
    "runtimeClassName": names.dns1123_subdomain,
    "schedulerName": names.dns1123_subdomain,
}


def _details(path: str, spec: Map) -> Errors:
    for at, alias in enumerate(spec.get("hostAliases") or ()):
        yield from checked(f"{path}.hostAliases[{at}].ip", alias.get("ip") or "", names.ip_address)
        for index, name in enumerate(alias.get("hostnames") or ()):
            yield from checked(f"{path}.hostAliases[{at}].hostnames[{index}]", name, names.dns1123_subdomain)
    for at, each in enumerate(spec.get("readinessGates") or ()):
        yield from checked(f"{path}.readinessGates[{at}].conditionType", each.get("conditionType") or "", names.qualified_name)
    seen: set[str] = set()
    for at, each in enumerate(spec.get("schedulingGates") or ()):
        name = each.get("name") or ""
        yield from checked(f"{path}.schedulingGates[{at}]", name, names.qualified_name)
        if name in seen:
            yield duplicate_value(f"{path}.schedulingGates[{at}]", name)
        seen.add(name)
    security = spec.get("securityContext") or {}
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        yield from in_range(f"{path}.securityContext.{field}", security.get(field), 0, 2**31 - 1)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield invalid_value(f"{path}.securityContext.shareProcessNamespace", True, detail)
    os_name = (spec.get("os") or {}).get("name")
    if spec.get("os") is not None:
        yield from one_of(f"{path}.os.name", os_name, ("linux", "windows"))


_MUTABLE = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)


def pod_update(new: Object, old: Object) -> Errors:
    """A pod's update: images, a shorter deadline, more tolerations, fewer gates."""
    after, before = spec_of(new), spec_of(old)
    if after == before:
        return
    before = _defaulted(before)
    for field in ("containers", "initContainers"):
        if len(after.get(field) or ()) != len(before.get(field) or ()):
            yield forbidden_value(f"spec.{field}", "pod updates may not add or remove containers")
            return
        for at, each in enumerate(after.get(field) or ()):
            if not each.get("image"):
                yield required_value(f"spec.{field}[{at}].image")
    yield from _deadline(after.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    yield from _added_tolerations(after, before)
    yield from _gates(after, before)
    same = _with_mutable_of(after, before)
    if same != before:
        changed = ", ".join(sorted(f"spec.{key}" for key in {*same, *before} if same.get(key) != before.get(key)))
        detail = f"pod updates may not change fields other than {','.join(_MUTABLE)}\nchanged: {changed}"
        yield forbidden_value("spec", detail)


def _defaulted(spec: Map) -> Map:
    """The old spec as if it came in now, so that what an older server did not fill in is no change."""
    filled: Map = {"spec": copy_json(spec)}
    fill_in(filled)
    return filled["spec"]  # type: ignore[no-any-return]


def _with_mutable_of(after: Map, before: Map) -> Map:
    """The new spec with everything that may change put back."""
    same: Map = copy_json(after)
    gated = bool(before.get("schedulingGates"))
    for field in ("activeDeadlineSeconds", "tolerations", "schedulingGates", *(("nodeSelector",) if gated else ())):
        _put_back(same, before, field)
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and same.get("terminationGracePeriodSeconds") == 1:
        _put_back(same, before, "terminationGracePeriodSeconds")
    for field in ("containers", "initContainers"):
        for mine, theirs in zip(same.get(field) or (), before.get(field) or (), strict=True):
            _put_back(mine, theirs, "image")
    return same


def _put_back(target: Map, source: Map, field: str) -> None:
    if field in source:
        target[field] = source[field]
    else:
        target.pop(field, None)


def _deadline(after: int | None, before: int | None) -> Errors:
    path = "spec.activeDeadlineSeconds"
    if after is not None:
        yield from in_range(path, after, 1, 2**31 - 1)
        if before is not None and after > before:
            yield invalid_value(path, after, "must be less than or equal to previous value")
    elif before is not None:
        yield invalid_value(path, None, "must not update from a positive integer to nil value")


def _added_tolerations(after: Map, before: Map) -> Errors:
    held = [_timeless(each) for each in after.get("tolerations") or ()]
    for each in before.get("tolerations") or ():
        if _timeless(each) not in held:
            detail = "existing toleration can not be modified except its tolerationSeconds"
            yield forbidden_value("spec.tolerations", detail)
            return
    if after.get("tolerations"):
        yield from tolerations("spec.tolerations", after["tolerations"])


def pod_door_update(new: Object, old: Object) -> Errors:
    """What came through ephemeralcontainers or resize: the spec holds, and ephemeral containers are only ever added."""
    after, before = spec_of(new), spec_of(old)
    if after == before:
        return
    yield from pod_spec("spec", after)
    yield from resize(new, old)
    held = {each.get("name"): each for each in after.get("ephemeralContainers") or ()}
    for each in before.get("ephemeralContainers") or ():
        name = each.get("name")
        if name not in held:
            yield forbidden_value("spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be removed\n')
        elif held[name] != each:
            yield forbidden_value("spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be changed\n')


def _timeless(toleration: Map) -> Map:
    return {key: value for key, value in toleration.items() if value and key != "tolerationSeconds"}


def _gates(after: Map, before: Map) -> Errors:
    held = {each.get("name") for each in before.get("schedulingGates") or ()}
    added = sorted({each.get("name") or "" for each in after.get("schedulingGates") or ()} - held)
    if added:
        detail = f"only deletion is allowed, but found new scheduling gates '{','.join(added)}'"
        yield forbidden_value("spec.schedulingGates", detail)
