"""networking.k8s.io: Ingresses and their classes, NetworkPolicies, addresses and ranges of Services."""

from __future__ import annotations

from ipaddress import ip_network

from kubeling.api import names
from kubeling.api.errors import forbidden_value, invalid_value, required_value, too_long_value, unsupported_value
from kubeling.api.meta import Object, annotations_of, spec_of
from kubeling.api.validation.common import (
    Errors,
    Map,
    checked,
    domain_prefixed_path,
    in_range,
    label_selector,
    one_of,
    port,
    present,
    required_name,
    unchanged,
)

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_PARTS, _BAD_ENDS = ("//", "/./", "/../", "%2f", "%2F"), ("/..", "/.")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_MAX_CONTROLLER = 250
_CLASS = "kubernetes.io/ingress.class"


def ingress(obj: Object) -> Errors:
    """A new Ingress."""
    yield from _ingress(obj)
    annotated, named = annotations_of(obj).get(_CLASS), spec_of(obj).get("ingressClassName")
    if annotated is not None and named is not None and annotated != named:
        yield invalid_value(f"annotations.{_CLASS}", annotated, "must match `ingressClassName` when both are specified")


def ingress_update(new: Object, old: Object) -> Errors:
    """What a new one must be, but for its class."""
    yield from _ingress(new)


def _ingress(obj: Object) -> Errors:
    spec = spec_of(obj)
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        yield invalid_value("spec", spec.get("rules") or [], "either `defaultBackend` or `rules` must be specified")
    if spec.get("defaultBackend") is not None:
        yield from _backend("spec.defaultBackend", spec["defaultBackend"])
    for at, rule in enumerate(spec.get("rules") or ()):
        path, http = f"spec.rules[{at}]", rule.get("http")
        host = rule.get("host") or ""
        if host and not names.ip_address(host):
            yield invalid_value(f"{path}.host", host, "must be a DNS name, not an IP address")
        yield from _host(f"{path}.host", host)
        if http is not None and not http.get("paths"):
            yield required_value(f"{path}.http.paths")
        for index, each in enumerate((http or {}).get("paths") or ()):
            yield from _http_path(f"{path}.http.paths[{index}]", each)
    for at, each in enumerate(spec.get("tls") or ()):
        for index, host in enumerate(each.get("hosts") or ()):
            yield from _host(f"spec.tls[{at}].hosts[{index}]", host)
        if each.get("secretName"):
            yield from checked(f"spec.tls[{at}].secretName", each["secretName"], names.dns1123_subdomain)
    if spec.get("ingressClassName") is not None:
        yield from checked("spec.ingressClassName", spec["ingressClassName"], names.dns1123_subdomain)


def _host(path: str, host: str) -> Errors:
    if host:
        yield from checked(path, host, names.wildcard_subdomain if "*" in host else names.dns1123_subdomain)


def _http_path(path: str, each: Map) -> Errors:
    kind, value = each.get("pathType"), each.get("path") or ""
    if kind is None:
        yield required_value(f"{path}.pathType", "pathType must be specified")
        return
    if kind not in _PATH_TYPES:
        yield unsupported_value(f"{path}.pathType", kind, _PATH_TYPES)
    elif (kind != "ImplementationSpecific" or value) and not value.startswith("/"):
        yield invalid_value(f"{path}.path", value, "must be an absolute path")
    if kind in ("Exact", "Prefix"):
        for bad in _BAD_PARTS:
            if bad in value:
                yield invalid_value(f"{path}.path", value, f"must not contain '{bad}'")
        for bad in _BAD_ENDS:
            if value.endswith(bad):
                yield invalid_value(f"{path}.path", value, f"cannot end with '{bad}'")
    yield from _backend(f"{path}.backend", each.get("backend") or {})


def _backend(path: str, backend: Map) -> Errors:
    given = present(backend, ("service", "resource"))
    if len(given) > 1:
        yield invalid_value(path, "", "cannot set both resource and service backends")
    elif not given:
        yield invalid_value(path, "", "resource or service backend is required")
    elif given == ["resource"]:
        yield from _reference(f"{path}.resource", backend["resource"])
    else:
        yield from required_name(f"{path}.service.name", backend["service"].get("name"), names.dns1035_label)
        target = backend["service"].get("port") or {}
        if target.get("name") and target.get("number"):
            yield invalid_value(path, "", "cannot set both port name & port number")
        elif target.get("name"):
            yield from checked(f"{path}.service.port.name", target["name"], names.port_name)
        elif target.get("number"):
            yield from in_range(f"{path}.service.port.number", target["number"], 1, 65535)
        else:
            yield required_value(path, "port name or number is required")


def _reference(path: str, found: Map) -> Errors:
    if found.get("apiGroup") is not None:
        yield from checked(f"{path}.apiGroup", found["apiGroup"], names.dns1123_subdomain)
    for field in ("kind", "name"):
        if not found.get(field):
            yield required_value(f"{path}.{field}", f"{field} is required")
        else:
            yield from checked(f"{path}.{field}", found[field], names.path_segment)


def ingress_class(obj: Object) -> Errors:
    """IngressClass."""
    spec = spec_of(obj)
    controller = spec.get("controller") or ""
    if len(controller) > _MAX_CONTROLLER:
        yield too_long_value("spec.controller", _MAX_CONTROLLER)
    yield from domain_prefixed_path("spec.controller", controller)
    found = spec.get("parameters")
    if found is None:
        return
    path = "spec.parameters"
    yield from _reference(path, found)
    scope, own = found.get("scope"), found.get("namespace")
    if scope is None:
        yield required_value(f"{path}.scope")
    elif scope not in ("Cluster", "Namespace"):
        yield unsupported_value(f"{path}.scope", scope, ("Cluster", "Namespace"))
    elif scope == "Namespace":
        if own is None:
            yield required_value(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")
        else:
            yield from checked(f"{path}.namespace", own, names.dns1123_label)
    elif own is not None:
        yield forbidden_value(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'")


def ingress_class_update(new: Object, old: Object) -> Errors:
    """Its controller stays."""
    yield from unchanged("spec.controller", spec_of(new).get("controller"), spec_of(old).get("controller"))


def network_policy(obj: Object) -> Errors:
    """NetworkPolicy."""
    spec = spec_of(obj)
    yield from label_selector("spec.podSelector", spec.get("podSelector"))
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for at, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{at}]"
            for index, each in enumerate(rule.get("ports") or ()):
                yield from _policy_port(f"{path}.ports[{index}]", each)
            for index, each in enumerate(rule.get(peers) or ()):
                yield from _peer(f"{path}.{peers}[{index}]", each)
    kinds = spec.get("policyTypes") or ()
    if len(kinds) > 2:
        yield invalid_value("spec.policyTypes", list(kinds), "may not specify more than two policyTypes")
        return
    for at, each in enumerate(kinds):
        if each not in ("Ingress", "Egress"):
            yield unsupported_value(f"spec.policyTypes[{at}]", each, ("Ingress", "Egress"))


def _policy_port(path: str, each: Map) -> Errors:
    yield from one_of(f"{path}.protocol", each.get("protocol"), _PROTOCOLS, required=False)
    number, end = each.get("port"), each.get("endPort")
    if number is None:
        if end is not None:
            yield invalid_value(f"{path}.endPort", end, "may not be specified when `port` is not specified")
        return
    if end is not None and isinstance(number, str):
        yield invalid_value(f"{path}.endPort", end, "may not be specified when `port` is non-numeric")
    yield from port(f"{path}.port", number)
    if end is not None and isinstance(number, int):
        if end < number:
            yield invalid_value(f"{path}.endPort", number, "must be greater than or equal to `port`")
        yield from in_range(f"{path}.endPort", end, 1, 65535)


def _peer(path: str, each: Map) -> Errors:
    given = present(each, ("podSelector", "namespaceSelector", "ipBlock"))
    for field in ("podSelector", "namespaceSelector"):
        yield from label_selector(f"{path}.{field}", each.get(field))
    if each.get("ipBlock") is not None:
        yield from _block(f"{path}.ipBlock", each["ipBlock"])
    if not given:
        yield required_value(path, "must specify a peer")
    elif "ipBlock" in given and len(given) > 1:
        yield forbidden_value(path, "may not specify both ipBlock and another peer")


def _block(path: str, block: Map) -> Errors:
    whole = block.get("cidr")
    if not whole:
        yield required_value(f"{path}.cidr")
        return
    faults = list(checked(f"{path}.cidr", whole, names.cidr))
    yield from faults
    if faults:
        return
    for at, value in enumerate(block.get("except") or ()):
        wrong = list(checked(f"{path}.except[{at}]", value, names.cidr))
        yield from wrong
        if not wrong and not _within(value, whole):
            yield invalid_value(f"{path}.except[{at}]", value, "must be a strict subset of `cidr`")


def _within(inner: str, outer: str) -> bool:
    first, second = ip_network(inner, strict=False), ip_network(outer, strict=False)
    return first.version == second.version and first != second and first.subnet_of(second)  # type: ignore[arg-type]


def service_cidr(obj: Object) -> Errors:
    """ServiceCIDR: one range, or one of each family."""
    found = spec_of(obj).get("cidrs") or []
    if not found:
        yield required_value("spec.cidrs", "at least one CIDR required")
    elif len(found) > 2:
        yield invalid_value("spec.cidrs", spec_of(obj), "may only hold up to 2 values")
    else:
        for at, each in enumerate(found):
            yield from checked(f"spec.cidrs[{at}]", each, names.cidr)
        if len(found) == 2 and (":" in found[0]) == (":" in found[1]):
            detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
            yield invalid_value("spec.cidrs", found, detail)


def service_cidr_update(new: Object, old: Object) -> Errors:
    """What addresses have been given out of stays; a range of the other family may join it."""
    after, before = spec_of(new).get("cidrs") or [], spec_of(old).get("cidrs") or []
    if after[: len(before)] != before:
        yield from unchanged("spec.cidrs", after, before)


def ip_address(obj: Object) -> Errors:
    """IPAddress: an address is somebody's."""
    parent, path = spec_of(obj).get("parentRef"), "spec.parentRef"
    if parent is None:
        yield required_value(path)
        return
    if parent.get("group"):
        yield from checked(f"{path}.group", parent["group"], names.dns1123_subdomain)
    for field in ("resource", "name"):
        yield from required_name(f"{path}.{field}", parent.get(field), names.path_segment)
    if parent.get("namespace"):
        yield from checked(f"{path}.namespace", parent["namespace"], names.path_segment)


def ip_address_update(new: Object, old: Object) -> Errors:
    """Whose it is stays."""
    yield from unchanged("spec.parentRef", spec_of(new).get("parentRef"), spec_of(old).get("parentRef"))
