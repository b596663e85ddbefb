"""Networking: Services, Endpoints, EndpointSlices, Ingresses, NetworkPolicies."""

from __future__ import annotations

from ipaddress import ip_network

from kubeling.api import names
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value, too_many_values
from kubeling.api.meta import Object, spec_of
from kubeling.api.validation.common import (
    Errors,
    Map,
    checked,
    in_range,
    label_map,
    label_selector,
    not_negative,
    one_of,
    port,
    present,
    required_name,
    unchanged,
)

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")


def service(obj: Object) -> Errors:
    """Service."""
    spec = spec_of(obj)
    kind = spec.get("type")
    headless = spec.get("clusterIP") == "None"
    if not spec.get("ports") and not headless and kind != "ExternalName":
        yield required_value("spec.ports")
    if kind == "LoadBalancer" and headless:
        detail = "may not be set to 'None' for LoadBalancer services"
        yield invalid_value("spec.clusterIPs[0]", "None", detail)
    if kind == "NodePort" and headless:
        yield invalid_value("spec.clusterIPs[0]", "None", "may not be set to 'None' for NodePort services")
    yield from one_of("spec.type", kind, _TYPES)
    yield from one_of("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    yield from label_map("spec.selector", spec.get("selector"))
    yield from _service_ports(spec, kind or "", headless)
    yield from _addresses(spec, kind or "")
    timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if timeout is not None and not 0 < timeout <= 86400:
        detail = "must be greater than 0 and less than 86400"
        yield invalid_value("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout, detail)
    for field in ("internalTrafficPolicy", "externalTrafficPolicy"):
        yield from one_of(f"spec.{field}", spec.get(field), ("Cluster", "Local"), required=False)
    external = kind in ("NodePort", "LoadBalancer") or spec.get("externalIPs")
    if spec.get("externalTrafficPolicy") and not external:
        detail = "may only be set for externally-accessible services"
        yield invalid_value("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], detail)
    if kind != "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(field) is not None:
                yield forbidden_value(f"spec.{field}", "may only be used when `type` is 'LoadBalancer'")


def _service_ports(spec: Map, kind: str, headless: bool) -> Errors:
    found = spec.get("ports") or ()
    seen_names: set[str] = set()
    seen: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for at, each in enumerate(found):
        path = f"spec.ports[{at}]"
        name = each.get("name")
        if not name and len(found) > 1:
            yield required_value(f"{path}.name")
        elif name:
            yield from checked(f"{path}.name", name, names.dns1123_label)
            if name in seen_names:
                yield duplicate_value(f"{path}.name", name)
            seen_names.add(name)
        number, protocol = each.get("port") or 0, each.get("protocol") or ""
        yield from in_range(f"{path}.port", number, 1, 65535)
        yield from one_of(f"{path}.protocol", protocol, _PROTOCOLS)
        yield from port(f"{path}.targetPort", each.get("targetPort"))
        if headless and isinstance(each.get("targetPort"), int) and each["targetPort"] != number and not spec.get("selector"):
            yield invalid_value(
                f"{path}.targetPort", each["targetPort"], "must be equal to the value of 'port' when clusterIP = None"
            )
        if (protocol, number) in seen:
            yield duplicate_value(path, {"protocol": protocol, "port": number})
        seen.add((protocol, number))
        node_port = each.get("nodePort")
        if node_port and kind in ("ClusterIP", "ExternalName"):
            yield forbidden_value(f"{path}.nodePort", f"may not be used when `type` is '{kind}'")
        elif node_port:
            yield from in_range(f"{path}.nodePort", node_port, 1, 65535)
            if (protocol, node_port) in node_ports:
                yield duplicate_value(f"{path}.nodePort", node_port)
            node_ports.add((protocol, node_port))


def _addresses(spec: Map, kind: str) -> Errors:
    cluster_ip, many = spec.get("clusterIP"), spec.get("clusterIPs") or []
    if kind == "ExternalName":
        if cluster_ip:
            yield forbidden_value("spec.clusterIPs[0]", "may not be set for ExternalName services")
        name = (spec.get("externalName") or "").removesuffix(".")
        if not name:
            yield required_value("spec.externalName")
        else:
            yield from checked("spec.externalName", name, names.dns1123_subdomain)
    else:
        if cluster_ip and many and many[0] != cluster_ip:
            yield invalid_value("spec.clusterIPs", many, "first value must match `clusterIP`")
        for at, each in enumerate(many or ([cluster_ip] if cluster_ip else [])):
            if each != "None":
                yield from checked(f"spec.clusterIPs[{at}]", each, names.ip_address)
    for at, each in enumerate(spec.get("externalIPs") or ()):
        yield from checked(f"spec.externalIPs[{at}]", each, names.ip_address)
    for at, each in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        yield from checked(f"spec.LoadBalancerSourceRanges[{at}]", each, names.cidr)


def service_update(new: Object, old: Object) -> Errors:
    """A cluster address that was given out stays, unless the Service becomes or was an ExternalName."""
    after, before = spec_of(new), spec_of(old)
    if "ExternalName" in (after.get("type"), before.get("type")) or not before.get("clusterIP"):
        return
    if after.get("clusterIP") != before.get("clusterIP"):
        yield invalid_value("spec.clusterIPs[0]", after.get("clusterIPs") or [after.get("clusterIP")], "may not change once set")
    balanced = after.get("type") == before.get("type") == "LoadBalancer"
    if balanced and before.get("loadBalancerClass") and after.get("loadBalancerClass") != before["loadBalancerClass"]:
        yield invalid_value("spec.loadBalancerClass", after.get("loadBalancerClass"), "may not change once set")


def endpoints(obj: Object) -> Errors:
    """Endpoints."""
    for at, subset in enumerate(obj.get("subsets") or ()):
        path = f"subsets[{at}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield required_value(path, "must specify `addresses` or `notReadyAddresses`")
        for field in ("addresses", "notReadyAddresses"):
            for index, each in enumerate(subset.get(field) or ()):
                yield from checked(f"{path}.{field}[{index}].ip", each.get("ip") or "", names.ip_address)
        several = len(subset.get("ports") or ()) > 1
        for index, each in enumerate(subset.get("ports") or ()):
            where = f"{path}.ports[{index}]"
            if several and not each.get("name"):
                yield required_value(f"{where}.name")
            elif each.get("name"):
                yield from checked(f"{where}.name", each["name"], names.dns1123_label)
            yield from in_range(f"{where}.port", each.get("port") or 0, 1, 65535)
            yield from one_of(f"{where}.protocol", each.get("protocol"), _PROTOCOLS)


def endpoint_slice(obj: Object) -> Errors:
    """EndpointSlice."""
    kind = obj.get("addressType")
    yield from one_of("addressType", kind, ("FQDN", "IPv4", "IPv6"))
    found = obj.get("endpoints") or ()
    if len(found) > 1000:
        yield too_many_values("endpoints", len(found), 1000)
        return
    check = names.dns1123_subdomain if kind == "FQDN" else names.ip_address
    for at, each in enumerate(found):
        path = f"endpoints[{at}].addresses"
        addresses = each.get("addresses") or ()
        if not addresses:
            yield required_value(path, "must contain at least 1 address")
        elif len(addresses) > 100:
            yield too_many_values(path, len(addresses), 100)
        for index, address in enumerate(addresses[:100]):
            yield from checked(f"{path}[{index}]", address, check)
    ports = obj.get("ports") or ()
    if len(ports) > 20000:
        yield too_many_values("ports", len(ports), 20000)
        return
    seen: set[str] = set()
    for at, each in enumerate(ports):
        name = each.get("name") or ""
        if name:
            yield from checked(f"ports[{at}].name", name, names.dns1123_label)
        if name in seen:
            yield duplicate_value(f"ports[{at}].name", name)
        seen.add(name)
        yield from one_of(f"ports[{at}].protocol", each.get("protocol"), _PROTOCOLS)


def endpoint_slice_update(new: Object, old: Object) -> Errors:
    """The type of addresses cannot change."""
    yield from unchanged("addressType", new.get("addressType"), old.get("addressType"))


def ingress(obj: Object) -> Errors:
    """Ingress."""
    spec = spec_of(obj)
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        yield invalid_value("spec", spec, "either `defaultBackend` or `rules` must be specified")
    if spec.get("defaultBackend") is not None:
        yield from _backend("spec.defaultBackend", spec["defaultBackend"])
    if spec.get("ingressClassName"):
        yield from checked("spec.ingressClassName", spec["ingressClassName"], names.dns1123_subdomain)
    for at, rule in enumerate(spec.get("rules") or ()):
        path = f"spec.rules[{at}]"
        yield from _host(f"{path}.host", rule.get("host") or "")
        http = rule.get("http")
        if http is not None and not http.get("paths"):
            yield required_value(f"{path}.http.paths")
        for index, each in enumerate((http or {}).get("paths") or ()):
            yield from _http_path(f"{path}.http.paths[{index}]", each)
    for at, each in enumerate(spec.get("tls") or ()):
        for index, host in enumerate(each.get("hosts") or ()):
            yield from _host(f"spec.tls[{at}].hosts[{index}]", host)


def _host(path: str, host: str) -> Errors:
    if not host:
        return
    if names.ip_address(host) == []:
        yield invalid_value(path, host, "must be a DNS name, not an IP address")
    elif "*" in host:
        yield from checked(path, host, names.wildcard_subdomain)
    else:
        yield from checked(path, host, names.dns1123_subdomain)


def _http_path(path: str, each: Map) -> Errors:
    kind, value = each.get("pathType"), each.get("path") or ""
    if not kind:
        yield required_value(f"{path}.pathType", "pathType must be specified")
    elif kind not in ("Exact", "ImplementationSpecific", "Prefix"):
        yield from one_of(f"{path}.pathType", kind, ("Exact", "ImplementationSpecific", "Prefix"))
    elif (kind != "ImplementationSpecific" or value) and not value.startswith("/"):
        yield invalid_value(f"{path}.path", value, "must be an absolute path")
    elif kind in ("Exact", "Prefix"):
        for bad in ("//", "/./", "/../", "%2f", "%2F"):
            if bad in value:
                yield invalid_value(f"{path}.path", value, f"must not contain '{bad}'")
    yield from _backend(f"{path}.backend", each.get("backend") or {})


def _backend(path: str, backend: Map) -> Errors:
    given = present(backend, ("service", "resource"))
    if len(given) > 1:
        yield invalid_value(path, "", "cannot set both resource and service backends")
    elif not given:
        yield required_value(path, "service or resource backend is required")
    elif given == ["service"]:
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
    for at, each in enumerate(kinds):
        yield from one_of(f"spec.policyTypes[{at}]", each, ("Egress", "Ingress"))


def _policy_port(path: str, each: Map) -> Errors:
    yield from one_of(f"{path}.protocol", each.get("protocol"), _PROTOCOLS, required=False)
    if each.get("port") is not None:
        yield from port(f"{path}.port", each["port"])
        end = each.get("endPort")
        if end is not None and isinstance(each["port"], int) and end < each["port"]:
            yield invalid_value(f"{path}.endPort", end, "must be greater than or equal to `port`")
        if end is not None and isinstance(each["port"], str):
            yield invalid_value(f"{path}.endPort", end, "may not be specified when `port` is non-numeric")
    elif each.get("endPort") is not None:
        yield invalid_value(f"{path}.endPort", each["endPort"], "may not be specified when `port` is not specified")


def _peer(path: str, each: Map) -> Errors:
    given = present(each, ("podSelector", "namespaceSelector", "ipBlock"))
    if not given:
        yield required_value(path, "must specify a peer")
    if "ipBlock" in given and len(given) > 1:
        yield forbidden_value(path, "may not specify both ipBlock and another peer")
    for field in ("podSelector", "namespaceSelector"):
        yield from label_selector(f"{path}.{field}", each.get(field))
    if each.get("ipBlock") is not None:
        block = each["ipBlock"]
        yield from required_name(f"{path}.ipBlock.cidr", block.get("cidr"), names.cidr)
        for at, value in enumerate(block.get("except") or ()):
            wrong = list(checked(f"{path}.ipBlock.except[{at}]", value, names.cidr))
            yield from wrong
            if not wrong and not names.cidr(block.get("cidr") or "") and not _within(value, block["cidr"]):
                yield invalid_value(f"{path}.ipBlock.except[{at}]", value, "must be a strict subset of `cidr`")


def _within(inner: str, outer: str) -> bool:
    first, second = ip_network(inner, strict=False), ip_network(outer, strict=False)
    return first.version == second.version and first != second and first.subnet_of(second)  # type: ignore[arg-type]


def lease(obj: Object) -> Errors:
    """Lease."""
    spec = spec_of(obj)
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        yield invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0")
    yield from not_negative("spec.leaseTransitions", spec.get("leaseTransitions"))
