"""Endpoints and EndpointSlices: addresses that a Service's traffic goes to, and Leases, which are written as often.

Upstream refuses loopback addresses here. They are let in: on the host network the pods of a cluster are processes with addresses of 127.0.0.0/8.
"""

from __future__ import annotations

import ipaddress

from kubeling.api import names
from kubeling.api.errors import duplicate_value, invalid_value, required_value, too_many_values, unsupported_value
from kubeling.api.meta import Object, spec_of
from kubeling.api.validation.common import Errors, Map, checked, in_range, label_map, not_negative, one_of, unchanged

PROTOCOLS = ("SCTP", "TCP", "UDP")
_KINDS = ("FQDN", "IPv4", "IPv6")
_MAX_ENDPOINTS, _MAX_ADDRESSES, _MAX_PORTS, _MAX_TOPOLOGY, _MAX_HINTS = 1000, 100, 20000, 16, 8


def ordinary_address(path: str, value: str, *, loopback: bool = True) -> Errors:
    """An address that means the same everywhere."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        yield invalid_value(path, value, "must be a valid IP address")
        return
    if address.is_unspecified:
        yield invalid_value(path, value, f"may not be unspecified ({value})")
    if address.is_loopback and not loopback:
        yield invalid_value(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if address.is_link_local:
        yield invalid_value(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if address.is_multicast and value.startswith(("224.0.0.", "ff02:", "FF02:")):
        yield invalid_value(path, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")


def endpoints(obj: Object) -> Errors:
    """Endpoints."""
    for at, subset in enumerate(obj.get("subsets") or ()):
        path = f"subsets[{at}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield required_value(path, "must specify `addresses` or `notReadyAddresses`")
        for field in ("addresses", "notReadyAddresses"):
            for index, each in enumerate(subset.get(field) or ()):
                yield from _address(f"{path}.{field}[{index}]", each)
        several = len(subset.get("ports") or ()) > 1
        for index, each in enumerate(subset.get("ports") or ()):
            where = f"{path}.ports[{index}]"
            if several and not each.get("name"):
                yield required_value(f"{where}.name")
            elif each.get("name"):
                yield from checked(f"{where}.name", each["name"], names.dns1123_label)
            yield from in_range(f"{where}.port", each.get("port") or 0, 1, 65535)
            yield from one_of(f"{where}.protocol", each.get("protocol"), PROTOCOLS)
            if each.get("appProtocol") is not None:
                yield from checked(f"{where}.appProtocol", each["appProtocol"], names.qualified_name)


def _address(path: str, each: Map) -> Errors:
    address = each.get("ip") or ""
    faults = list(checked(f"{path}.ip", address, names.ip_address))
    yield from faults
    if each.get("hostname"):
        yield from checked(f"{path}.hostname", each["hostname"], names.dns1123_label)
    if each.get("nodeName") is not None:
        yield from checked(f"{path}.nodeName", each["nodeName"], names.dns1123_subdomain)
    if not faults:
        yield from ordinary_address(f"{path}.ip", address)


def endpoint_slice(obj: Object) -> Errors:
    """A new EndpointSlice."""
    yield from _slice_ports(obj)
    yield from _slice_endpoints(obj)


def endpoint_slice_update(new: Object, old: Object) -> Errors:
    """The type of addresses cannot change; endpoints that have not changed are not looked at again."""
    yield from _slice_ports(new)
    if new.get("endpoints") != old.get("endpoints"):
        yield from _slice_endpoints(new)
    yield from unchanged("addressType", new.get("addressType"), old.get("addressType"))


def _slice_ports(obj: Object) -> Errors:
    yield from one_of("addressType", obj.get("addressType"), _KINDS)
    ports = obj.get("ports") or ()
    if len(ports) > _MAX_PORTS:
        yield too_many_values("ports", len(ports), _MAX_PORTS)
        return
    seen: set[str] = set()
    for at, each in enumerate(ports):
        name = each.get("name") or ""
        if name:
            yield from checked(f"ports[{at}].name", name, names.dns1123_label)
        if name in seen:
            yield duplicate_value(f"ports[{at}].name", name)
        seen.add(name)
        yield from one_of(f"ports[{at}].protocol", each.get("protocol"), PROTOCOLS)
        if each.get("appProtocol") is not None:
            yield from checked(f"ports[{at}].appProtocol", each["appProtocol"], names.qualified_name)


def _slice_endpoints(obj: Object) -> Errors:
    kind, found = obj.get("addressType"), obj.get("endpoints") or ()
    if len(found) > _MAX_ENDPOINTS:
        yield too_many_values("endpoints", len(found), _MAX_ENDPOINTS)
        return
    for at, each in enumerate(found):
        path, addresses = f"endpoints[{at}]", each.get("addresses") or ()
        if not addresses:
            yield required_value(f"{path}.addresses", "must contain at least 1 address")
        elif len(addresses) > _MAX_ADDRESSES:
            yield too_many_values(f"{path}.addresses", len(addresses), _MAX_ADDRESSES)
        for index, address in enumerate(addresses[:_MAX_ADDRESSES]):
            yield from _slice_address(f"{path}.addresses[{index}]", address, kind or "")
        if each.get("nodeName") is not None:
            yield from checked(f"{path}.nodeName", each["nodeName"], names.dns1123_subdomain)
        topology = each.get("deprecatedTopology")
        if topology:
            if len(topology) > _MAX_TOPOLOGY:
                yield too_many_values(f"{path}.deprecatedTopology", len(topology), _MAX_TOPOLOGY)
            yield from label_map(f"{path}.deprecatedTopology", topology)
        if each.get("hostname") is not None:
            yield from checked(f"{path}.hostname", each["hostname"], names.dns1123_label)
        if each.get("hints"):
            yield from _hints(f"{path}.hints", each["hints"])


def _slice_address(path: str, address: str, kind: str) -> Errors:
    if kind == "FQDN":
        bare = address.removesuffix(".")
        if not bare:
            yield required_value(path)
            return
        yield from checked(path, address, names.dns1123_subdomain)
        if "." not in bare:
            yield invalid_value(path, address, "should be a domain with at least two segments separated by dots")
        return
    if kind not in _KINDS:
        return
    try:
        found = f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        found = ""
    if found != kind:
        yield invalid_value(path, address, f"must be a valid {kind} address")
    if found:
        yield from ordinary_address(path, address)


def _hints(path: str, found: Map) -> Errors:
    for field, check in (("forZones", names.label_value), ("forNodes", names.dns1123_subdomain)):
        given = found.get(field) or []
        if len(given) > _MAX_HINTS:
            yield too_many_values(f"{path}.{field}", len(given), _MAX_HINTS)
            continue
        seen: set[str] = set()
        for at, each in enumerate(given):
            name = each.get("name") or ""
            if name in seen:
                yield duplicate_value(f"{path}.{field}[{at}].name", name)
            seen.add(name)
            yield from checked(f"{path}.{field}[{at}].name", name, check)


def lease(obj: Object) -> Errors:
    """Lease."""
    spec = spec_of(obj)
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        yield invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0")
    yield from not_negative("spec.leaseTransitions", spec.get("leaseTransitions"))
    strategy, wanted = spec.get("strategy"), spec.get("preferredHolder")
    if strategy:
        if not all(strategy.partition("/")) and strategy != "OldestEmulationVersion":
            yield unsupported_value("spec.strategy", strategy, ("OldestEmulationVersion",))
    elif wanted:
        yield invalid_value("spec.preferredHolder", wanted, "may only be specified if `strategy` is defined")
