"""Rows of Services and their kin."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubeling.api.labels import format_labels
from kubeling.api.meta import Object, spec_of, status_of
from kubeling.api.printers.columns import (
    AGE,
    NAME,
    NONE,
    SELECTOR,
    UNKNOWN,
    UNSET,
    Cells,
    Column,
    Printer,
    listed,
    name,
    selector_text,
    since,
)


def _balancer(status: dict[str, Any]) -> list[str]:
    found = (status.get("loadBalancer") or {}).get("ingress") or ()
    return sorted({each.get("ip") or each.get("hostname") or "" for each in found} - {""})


def _external(obj: Object) -> str:
    spec = spec_of(obj)
    own = list(spec.get("externalIPs") or ())
    match spec.get("type"):
        case "ClusterIP" | "NodePort":
            return ",".join(own) or NONE
        case "LoadBalancer":
            return ",".join(_balancer(status_of(obj)) + own) or "<pending>"
        case "ExternalName":
            return spec.get("externalName") or ""
    return UNKNOWN


def _port(each: dict[str, Any]) -> str:
    middle = f":{each['nodePort']}" if each.get("nodePort") else ""
    return f"{each.get('port')}{middle}/{each.get('protocol')}"


def _service(obj: Object, now: datetime) -> Cells:
    spec = spec_of(obj)
    addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [
        name(obj),
        spec.get("type") or "",
        addresses[0] if addresses else NONE,
        _external(obj),
        ",".join(_port(each) for each in spec.get("ports") or ()) or NONE,
        since(obj, now),
        format_labels(spec.get("selector")),
    ]


SERVICE = Printer(
    (
        NAME,
        Column("Type", "How the Service is exposed."),
        Column("Cluster-IP", "Its address inside the cluster."),
        Column("External-IP", "Its addresses outside of it."),
        Column("Port(s)", "Its ports, with node ports."),
        AGE,
        SELECTOR,
    ),
    _service,
)


def _host_port(address: str, number: Any) -> str:
    return f"[{address}]:{number}" if ":" in address else f"{address}:{number}"


def _endpoints(obj: Object, now: datetime) -> Cells:
    subsets = obj.get("subsets") or ()
    found: list[str] = []
    for subset in subsets:
        addresses = [each.get("ip") or "" for each in subset.get("addresses") or ()]
        if not subset.get("ports"):
            found += addresses
        for each in subset.get("ports") or ():
            found += [_host_port(address, each.get("port")) for address in addresses]
    return [name(obj), listed(found) if subsets else NONE, since(obj, now)]


ENDPOINTS = Printer((NAME, Column("Endpoints", "Addresses and ports that are ready."), AGE), _endpoints)


def _endpoint_slice(obj: Object, now: datetime) -> Cells:
    ports = ["*" if each.get("port") is None else str(each["port"]) for each in obj.get("ports") or ()]
    addresses = [address for each in obj.get("endpoints") or () for address in each.get("addresses") or ()]
    return [
        name(obj),
        obj.get("addressType") or "",
        listed(ports) if ports else UNSET,
        listed(addresses) if addresses else UNSET,
        since(obj, now),
    ]


ENDPOINT_SLICE = Printer(
    (
        NAME,
        Column("AddressType", "Kind of its addresses."),
        Column("Ports", "Ports of all its endpoints."),
        Column("Endpoints", "Addresses of its endpoints."),
        AGE,
    ),
    _endpoint_slice,
)


def _ingress(obj: Object, now: datetime) -> Cells:
    spec = spec_of(obj)
    hosts = [each["host"] for each in spec.get("rules") or () if each.get("host")]
    return [
        name(obj),
        spec.get("ingressClassName") or NONE,
        listed(hosts) if hosts else "*",
        ",".join(_balancer(status_of(obj))),
        "80, 443" if spec.get("tls") else "80",
        since(obj, now),
    ]


INGRESS = Printer(
    (
        NAME,
        Column("Class", "Which controller it is for."),
        Column("Hosts", "Names of the hosts that its rules are about."),
        Column("Address", "Where its load balancer listens."),
        Column("Ports", "Ports of its load balancer."),
        AGE,
    ),
    _ingress,
)


def _ingress_class(obj: Object, now: datetime) -> Cells:
    spec = spec_of(obj)
    found = spec.get("parameters")
    shown = NONE
    if found:
        group = f".{found['apiGroup']}" if found.get("apiGroup") else ""
        shown = f"{found.get('kind')}{group}/{found.get('name')}"
    return [name(obj), spec.get("controller") or "", shown, since(obj, now)]


INGRESS_CLASS = Printer(
    (NAME, Column("Controller", "Who handles Ingresses of the class."), Column("Parameters", "Its configuration."), AGE),
    _ingress_class,
)


def _policy(obj: Object, now: datetime) -> Cells:
    return [name(obj), selector_text(spec_of(obj).get("podSelector")), since(obj, now)]


NETWORK_POLICY = Printer((NAME, Column("Pod-Selector", "Which pods it is about."), AGE), _policy)


def _ip_address(obj: Object, now: datetime) -> Cells:
    parent = spec_of(obj).get("parentRef") or {}
    parts = [parent.get("resource"), parent.get("group"), parent.get("namespace"), parent.get("name")]
    kind = ".".join(each for each in parts[:2] if each)
    return [name(obj), "/".join(each for each in (kind, *parts[2:]) if each), since(obj, now)]


IP_ADDRESS = Printer((NAME, Column("ParentRef", "Whose address it is."), AGE), _ip_address)


def _service_cidr(obj: Object, now: datetime) -> Cells:
    return [name(obj), ",".join(spec_of(obj).get("cidrs") or ()), since(obj, now)]


SERVICE_CIDR = Printer((NAME, Column("CIDRs", "Address blocks of Services."), AGE), _service_cidr)
