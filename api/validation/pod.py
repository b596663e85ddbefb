"""Pods and pod templates as they may stand; what of a pod may change is in :mod:`kubeling.api.validation.podupdate`."""

from __future__ import annotations

from kubeling.api import names, pods
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value, unsupported_value
from kubeling.api.meta import Object, name_of
from kubeling.api.validation.common import Errors, Map, checked, in_range, label_map, one_of
from kubeling.api.validation.containers import containers, resources
from kubeling.api.validation.objectmeta import annotation_map
from kubeling.api.validation.scheduling import affinity, spread, tolerations
from kubeling.api.validation.volumes import volumes

_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_MAX_SERVERS, _MAX_SEARCHES, _MAX_SEARCH_LENGTH = 3, 32, 2048


def pod(obj: Object) -> Errors:
    """A pod that is created."""
    spec = obj.get("spec") or {}
    yield from whole(obj)
    if spec.get("ephemeralContainers"):
        yield forbidden_value("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("nodeName") and spec.get("schedulingGates"):
        yield forbidden_value("spec.nodeName", "cannot be set until all schedulingGates have been cleared")


def whole(obj: Object) -> Errors:
    """A pod, whether it is new or has changed."""
    spec = obj.get("spec") or {}
    yield from pod_spec("spec", spec, name_of(obj), of_pod=True)
    cost = ((obj.get("metadata") or {}).get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost")
    if cost is not None and not _is_int32(cost):
        path = "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]"
        yield invalid_value(path, cost, "must be a 32bit integer")
    if not spec.get("serviceAccountName"):
        for at, volume in enumerate(spec.get("volumes") or ()):
            for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
                if source.get("serviceAccountToken") is not None:
                    where = f"spec.volumes[{at}].projected.sources[{index}].serviceAccountToken"
                    yield forbidden_value(where, "must not be specified when serviceAccountName is not set")


def _is_int32(text: str) -> bool:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or (len(digits) > 1 and digits[0] == "0") or text == "-0":
        return False
    return len(digits) <= 10 and -(2**31) <= int(text) < 2**31


def template(path: str, found: Map | None) -> Errors:
    """A pod template."""
    metadata = (found or {}).get("metadata") or {}
    yield from label_map(f"{path}.labels", metadata.get("labels"))
    yield from annotation_map(f"{path}.annotations", metadata.get("annotations"))
    spec = (found or {}).get("spec") or {}
    yield from pod_spec(f"{path}.spec", spec)
    if spec.get("ephemeralContainers"):
        yield forbidden_value(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")


def pod_spec(path: str, spec: Map, name: str = "", *, of_pod: bool = False) -> Errors:
    """The spec of a pod, wherever it stands; `name` is the pod's, where it is one's (`of_pod`)."""
    held = spec.get("volumes") or ()
    if held:
        yield from volumes(f"{path}.volumes", held, pod=name, of_pod=of_pod)
    if spec.get("resourceClaims"):
        yield from _claims(f"{path}.resourceClaims", spec["resourceClaims"])
    yield from containers(path, spec, {each.get("name") or "": each for each in held}, of_pod=of_pod)
    if spec.get("resources"):
        yield from _pod_resources(f"{path}.resources", spec)
    yield from one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), _RESTART)
    yield from one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS)
    if spec.get("nodeSelector"):
        yield from label_map(f"{path}.nodeSelector", spec["nodeSelector"])
    if spec.get("securityContext") or any(spec.get(field) is not None for field in _HOST):
        from kubeling.api.validation.security import pod_security

        yield from pod_security(path, spec)
    if spec.get("affinity"):
        yield from affinity(f"{path}.affinity", spec["affinity"])
    if spec.get("dnsConfig") is not None or spec.get("dnsPolicy") == "None":
        yield from _resolver(f"{path}.dnsConfig", spec.get("dnsConfig"), spec.get("dnsPolicy") or "")
    if spec.get("topologySpreadConstraints"):
        yield from spread(f"{path}.topologySpreadConstraints", spec["topologySpreadConstraints"])
    for field, check in _NAMES.items():
        if spec.get(field):
            yield from checked(f"{path}.{field}", spec[field], check)
    yield from in_range(f"{path}.activeDeadlineSeconds", spec.get("activeDeadlineSeconds"), 1, 2**31 - 1)
    if spec.get("tolerations"):
        yield from tolerations(f"{path}.tolerations", spec["tolerations"])
    policy = spec.get("preemptionPolicy")
    if policy is not None:
        yield from one_of(f"{path}.preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))
    if spec.get("overhead"):
        yield from resources(f"{path}.overhead", {"limits": spec["overhead"]}, spec)
    yield from _details(path, spec)


_HOST = ("hostUsers", "os", "shareProcessNamespace", "hostNetwork", "hostIPC")
_NAMES = {
    "serviceAccountName": names.dns1123_subdomain,
    "nodeName": names.dns1123_subdomain,
    "hostname": names.dns1123_label,
    "subdomain": names.dns1123_label,
    "priorityClassName": names.dns1123_subdomain,
    "runtimeClassName": names.dns1123_subdomain,
    "schedulerName": names.dns1123_subdomain,
}


def _claims(path: str, claims: list[Map]) -> Errors:
    seen: set[str] = set()
    for at, each in enumerate(claims):
        where, name = f"{path}[{at}]", each.get("name") or ""
        if not name:
            yield required_value(f"{where}.name")
        elif name in seen:
            yield duplicate_value(f"{where}.name", name)
        else:
            yield from checked(f"{where}.name", name, names.dns1123_label)
        seen.add(name)
        given = [field for field in ("resourceClaimName", "resourceClaimTemplateName") if each.get(field) is not None]
        if len(given) > 1:
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            yield invalid_value(where, each, detail)
        elif not given:
            yield invalid_value(where, each, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
        for field in given:
            yield from checked(f"{where}.{field}", each[field], names.dns1123_subdomain)


def _pod_resources(path: str, spec: Map) -> Errors:
    """Of the pod as a whole (KEP-2837): no less than its containers ask for."""
    found = spec["resources"]
    if found.get("claims"):
        yield forbidden_value(f"{path}.claims", "claims cannot be set for Resources at pod-level")
    yield from resources(path, {key: value for key, value in found.items() if key != "claims"}, spec)
    for field in ("limits", "requests"):
        for name in found.get(field) or ():
            if name not in ("cpu", "memory") and not name.startswith("hugepages-"):
                yield unsupported_value(f"{path}.{field}[{name}]", name, ("cpu", "hugepages-", "memory"))
    asked = pods.requests_of({"spec": {field: spec.get(field) for field in ("containers", "initContainers")}})
    for name, least in asked.items():
        given = (found.get("requests") or {}).get(name)
        if least > (pods.amount_of(name, given) if given is not None else 0):
            shown = f"{least}m" if name == "cpu" and least % 1000 else str(least // 1000 if name == "cpu" else least)
            detail = f"must be greater than or equal to aggregate container requests of {shown}"
            yield invalid_value(f"{path}.requests[{name}]", given or "0", detail)
    for at, each in enumerate(spec.get("containers") or ()):
        for name, value in ((each.get("resources") or {}).get("limits") or {}).items():
            most = (found.get("limits") or {}).get(name)
            if most is not None and pods.amount_of(name, value) > pods.amount_of(name, most):
                detail = f"must be less than or equal to pod limits of {most}"
                yield invalid_value(f"{path}.containers[{at}][{name}].limits", value, detail)


def _resolver(path: str, config: Map | None, policy: str) -> Errors:
    if policy == "None" and config is None:
        yield required_value(path, "must provide `dnsConfig` when `dnsPolicy` is None")
        return
    servers, searches = (config or {}).get("nameservers") or [], (config or {}).get("searches") or []
    if policy == "None" and not servers:
        yield required_value(f"{path}.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None")
        return
    if len(servers) > _MAX_SERVERS:
        yield invalid_value(f"{path}.nameservers", servers, f"must not have more than {_MAX_SERVERS} nameservers")
    for at, each in enumerate(servers):
        yield from checked(f"{path}.nameservers[{at}]", each, names.ip_address)
    if len(searches) > _MAX_SEARCHES:
        yield invalid_value(f"{path}.searches", searches, f"must not have more than {_MAX_SEARCHES} search paths")
    if len(" ".join(searches)) > _MAX_SEARCH_LENGTH:
        detail = f"must not have more than {_MAX_SEARCH_LENGTH} characters (including spaces) in the search list"
        yield invalid_value(f"{path}.searches", searches, detail)
    for at, each in enumerate(searches):
        yield from checked(f"{path}.searches[{at}]", each.removesuffix("."), names.dns1123_subdomain)
    for at, each in enumerate((config or {}).get("options") or ()):
        if not each.get("name"):
            yield required_value(f"{path}.options[{at}]", "must not be empty")


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
