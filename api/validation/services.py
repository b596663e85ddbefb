"""Services: their ports, their addresses, who may reach them; and what stays once it was given out."""

from __future__ import annotations

from typing import Any

from kubeling.api import names
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value, unsupported_value
from kubeling.api.meta import Object, annotations_of, spec_of
from kubeling.api.validation.common import Errors, Map, checked, in_range, label_map, one_of, port
from kubeling.api.validation.endpoints import PROTOCOLS, ordinary_address

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_FAMILIES = ("IPv4", "IPv6")
_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_TRAFFIC = ("Cluster", "Local")
_MAX_TIMEOUT = 86400
_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_BALANCER_ONLY = "may only be used when `type` is 'LoadBalancer'"
_EXTERNAL_ONLY = "may not be set for ExternalName services"


def service(obj: Object) -> Errors:
    """Service."""
    spec = spec_of(obj)
    kind = spec.get("type") or ""
    headless = _is_headless(spec)
    modes = [annotations_of(obj).get(f"service.kubernetes.io/topology-{each}") for each in ("mode", "aware-hints")]
    if None not in modes and modes[0] != modes[1]:
        detail = "must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified"
        yield invalid_value("metadata.annotations[service.kubernetes.io/topology-mode]", modes[0], detail)
    if not spec.get("ports") and not headless and kind != "ExternalName":
        yield required_value("spec.ports")
    if headless and kind in ("LoadBalancer", "NodePort"):
        yield invalid_value("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    if kind == "ExternalName":
        yield from _external_name(spec)
    yield from _ports(spec, kind)
    yield from label_map("spec.selector", spec.get("selector"))
    yield from _affinity(spec)
    if kind != "ExternalName":
        yield from cluster_ips(spec)
    for at, each in enumerate(spec.get("externalIPs") or ()):
        path = f"spec.externalIPs[{at}]"
        faults = list(checked(path, each, names.ip_address))
        yield from faults or ordinary_address(path, each, loopback=False)
    yield from one_of("spec.type", kind, _TYPES)
    yield from _balancer(obj, spec, kind)
    yield from _traffic(spec, kind)


def _is_headless(spec: Map) -> bool:
    return (spec.get("clusterIPs") or [spec.get("clusterIP")]) == ["None"]


def _external_name(spec: Map) -> Errors:
    if spec.get("clusterIPs") or spec.get("clusterIP"):
        yield forbidden_value("spec.clusterIPs", _EXTERNAL_ONLY)
    if spec.get("ipFamilies"):
        yield forbidden_value("spec.ipFamilies", _EXTERNAL_ONLY)
    if spec.get("ipFamilyPolicy") is not None:
        yield forbidden_value("spec.ipFamilyPolicy", _EXTERNAL_ONLY)
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        yield required_value("spec.externalName")
    else:
        yield from checked("spec.externalName", name, names.dns1123_subdomain)


def _ports(spec: Map, kind: str) -> Errors:
    found = spec.get("ports") or ()
    seen_names: set[str] = set()
    seen: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for at, each in enumerate(found):
        path, name = f"spec.ports[{at}]", each.get("name")
        if not name and len(found) > 1:
            yield required_value(f"{path}.name")
        elif name:
            yield from checked(f"{path}.name", name, names.dns1123_label)
            if name in seen_names:
                yield duplicate_value(f"{path}.name", name)
            seen_names.add(name)
        number, protocol = each.get("port") or 0, each.get("protocol") or ""
        yield from in_range(f"{path}.port", number, 1, 65535)
        yield from one_of(f"{path}.protocol", protocol, PROTOCOLS)
        yield from port(f"{path}.targetPort", each.get("targetPort"))
        if each.get("appProtocol") is not None:
            yield from checked(f"{path}.appProtocol", each["appProtocol"], names.qualified_name)
        node_port = each.get("nodePort")
        if node_port and kind == "ClusterIP":
            yield forbidden_value(f"{path}.nodePort", "may not be used when `type` is 'ClusterIP'")
        if node_port and (protocol, node_port) in node_ports:
            yield duplicate_value(f"{path}.nodePort", node_port)
        node_ports.add((protocol, node_port or 0))
        if (protocol, number) in seen:
            yield duplicate_value(path, {"protocol": protocol, "port": number})
        seen.add((protocol, number))


def _affinity(spec: Map) -> Errors:
    kind, path = spec.get("sessionAffinity"), "spec.sessionAffinityConfig"
    config = spec.get("sessionAffinityConfig")
    yield from one_of("spec.sessionAffinity", kind, ("ClientIP", "None"))
    if kind == "None" and config is not None:
        yield forbidden_value(path, "must not be set when session affinity is None")
    elif kind == "ClientIP":
        found: Any = config
        for step in ("clientIP", "timeoutSeconds", ""):
            if found is None:
                yield required_value(path, "when session affinity type is ClientIP")
                return
            if step:
                found, path = found.get(step), f"{path}.{step}"
        if not 0 < found <= _MAX_TIMEOUT:
            yield invalid_value(path, found, f"must be greater than 0 and less than {_MAX_TIMEOUT}")


def cluster_ips(spec: Map) -> Errors:
    """The addresses and families of a Service that is no ExternalName, as far as they can be judged without knowing the cluster."""
    headless = _is_headless(spec)
    one, many, families = spec.get("clusterIP"), spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    path = "spec.clusterIPs"
    if one and not many:
        many = [one]
    elif one and many[0] != one:
        yield invalid_value(path, many, "first value must match `clusterIP`")
    elif not one and many:
        yield invalid_value(path, many, "must be empty when `clusterIP` is not specified")
    for at, each in enumerate(families):
        if each not in _FAMILIES:
            yield unsupported_value(f"spec.ipFamilies[{at}]", each, _FAMILIES)
        if each in families[:at]:
            yield duplicate_value(f"spec.ipFamilies[{at}]", each)
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in _POLICIES:
        yield unsupported_value("spec.ipFamilyPolicy", policy, _POLICIES)
    bad = False
    for at, each in enumerate(many):
        if at == 0 and each == "None":
            if len(many) > 1:
                bad = True
                yield invalid_value(path, many, "'None' must be the first and only value")
            continue
        faults = list(checked(f"{path}[{at}]", each, names.ip_address))
        bad = bad or bool(faults)
        yield from faults
    if len(many) > 2:
        yield invalid_value(path, many, "may only hold up to 2 values")
    if bad:
        return
    if len(many) > 1 and len({":" in each for each in many}) != len(many[:2]):
        yield invalid_value(path, many, "may specify no more than one IP for each IP family")
    for at, (each, family) in enumerate(zip(() if headless else many, families, strict=False)):
        if family in _FAMILIES and (":" in each) != (family == "IPv6"):
            yield invalid_value(f"{path}[{at}]", each, f"expected an {family} value as indicated by `ipFamilies[{at}]`")


def _balancer(obj: Object, spec: Map, kind: str) -> Errors:
    ranges, annotated = spec.get("loadBalancerSourceRanges"), annotations_of(obj).get(_RANGES)
    if ranges:
        path = "spec.LoadBalancerSourceRanges"
        if kind != "LoadBalancer":
            yield forbidden_value(path, _BALANCER_ONLY)
        for at, each in enumerate(ranges):
            yield from checked(f"{path}[{at}]", each.strip(), names.cidr)
    elif annotated is not None:
        path = f"metadata.annotations[{_RANGES}]"
        if kind != "LoadBalancer":
            yield forbidden_value(path, _BALANCER_ONLY)
        for each in annotated.split(",") if annotated.strip() else ():
            yield from checked(path, each.strip(), names.cidr)
    if kind != "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(field) is not None:
                yield forbidden_value(f"spec.{field}", _BALANCER_ONLY)
        return
    if spec.get("allocateLoadBalancerNodePorts") is None:
        yield required_value("allocateLoadBalancerNodePorts")
    if spec.get("loadBalancerClass") is not None:
        yield from checked("spec.loadBalancerClass", spec["loadBalancerClass"], names.qualified_name)


def _traffic(spec: Map, kind: str) -> Errors:
    outside, inside = spec.get("externalTrafficPolicy"), spec.get("internalTrafficPolicy")
    external = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs"))
    if not external:
        if outside:
            detail = "may only be set for externally-accessible services"
            yield invalid_value("spec.externalTrafficPolicy", outside, detail)
    else:
        yield from one_of("spec.externalTrafficPolicy", outside, _TRAFFIC)
    health = spec.get("healthCheckNodePort")
    if health and not _needs_health(spec):
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield invalid_value("spec.healthCheckNodePort", health, detail)
    elif health:
        yield from in_range("spec.healthCheckNodePort", health, 1, 65535)
    yield from one_of("spec.internalTrafficPolicy", inside, _TRAFFIC, required=kind in _TYPES and kind != "ExternalName")
    nearness = spec.get("trafficDistribution")
    if nearness is not None and nearness not in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        yield unsupported_value("spec.trafficDistribution", nearness, ("PreferClose",))


def _needs_health(spec: Map) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def service_update(new: Object, old: Object) -> Errors:
    """Addresses that were given out stay, unless the Service becomes or was an ExternalName; the second of two may come and go."""
    after, before = spec_of(new), spec_of(old)
    yield from cluster_ips_update(after, before)
    balanced = after.get("type") == before.get("type") == "LoadBalancer"
    if balanced and after.get("loadBalancerClass") != before.get("loadBalancerClass"):
        yield invalid_value("spec.loadBalancerClass", after.get("loadBalancerClass"), "may not change once set")
    held = before.get("healthCheckNodePort") if _needs_health(after) and _needs_health(before) else None
    if held and after.get("healthCheckNodePort") != held:
        yield forbidden_value("spec.healthCheckNodePort", "field is immutable")


def cluster_ips_update(after: Map, before: Map) -> Errors:
    """What an update says of addresses and families that were there."""
    if "ExternalName" not in (after.get("type"), before.get("type")) and not (_is_headless(after) and _is_headless(before)):
        yield from _kept("spec.clusterIPs", after, before, "clusterIPs", "clusterIP")
        if not _is_headless(after) and not _is_headless(before):
            yield from _kept("spec.ipFamilies", after, before, "ipFamilies", "ipFamily")


def _kept(path: str, after: Map, before: Map, field: str, what: str) -> Errors:
    new, old = _listed(after, field), _listed(before, field)
    if not old:
        return
    if not new:
        yield invalid_value(f"{path}[0]", new, f"primary {what} can not be unset")
    elif len(new) == len(old):
        for at, (each, former) in enumerate(zip(new, old, strict=True)):
            if each != former:
                yield invalid_value(f"{path}[{at if field == 'clusterIPs' else 0}]", new, "may not change once set")
        return
    elif new[0] != old[0]:
        yield invalid_value(f"{path}[0]", new, "may not change once set")
    if len(new) < len(old) == 2 and len(new) == 1 and after.get("ipFamilyPolicy") != "SingleStack":
        detail = f"must be set to 'SingleStack' when releasing the secondary {what}"
        yield invalid_value("spec.ipFamilyPolicy", after.get("ipFamilyPolicy"), detail)


def _listed(spec: Map, field: str) -> list[str]:
    if field == "clusterIPs" and not spec.get("clusterIPs") and spec.get("clusterIP"):
        return [spec["clusterIP"]]
    return spec.get(field) or []
