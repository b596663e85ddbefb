"""From Services and EndpointSlices to what each service port leads to on one node. Pure: objects in, data out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubeling.api.meta import labels_of, name_of, namespace_of, spec_of

Obj = dict[str, Any]

PROXY_NAME = "service.kubernetes.io/service-proxy-name"
_DEFAULT_AFFINITY_SECONDS = 10800


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where a connection may go."""

    ip: str
    port: int
    #: On this node.
    local: bool = False


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service as this node sees it."""

    namespace: str
    name: str
    port_name: str
    protocol: str
    port: int
    cluster_ips: tuple[str, ...] = ()
    #: Further addresses that lead here: externalIPs and load balancer addresses.
    external_ips: tuple[str, ...] = ()
    node_port: int = 0
    #: For traffic from inside, and for what came in through the node port or an external address.
    internal: tuple[Endpoint, ...] = ()
    external: tuple[Endpoint, ...] = ()
    #: All that could be used if no policy kept traffic on its node.
    everywhere: tuple[Endpoint, ...] = ()
    internal_local: bool = False
    #: External traffic keeps its source address, since it only goes to local endpoints.
    external_local: bool = False
    affinity_seconds: int = 0
    source_ranges: tuple[str, ...] = ()
    #: Where balancers ask whether this node has endpoints; 0: nowhere.
    health_port: int = 0

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}:{self.port_name or self.port}/{self.protocol.lower()}"


def is_proxied(service: Obj) -> bool:
    """Whether the Service has an address for a proxy to serve: not headless, not ExternalName, not left to another proxy."""
    spec = spec_of(service)
    if spec.get("type") == "ExternalName" or PROXY_NAME in labels_of(service):
        return False
    return spec.get("clusterIP") not in (None, "", "None")


@dataclass(frozen=True, slots=True)
class Place:
    """Which node this is, and in which zone; `others`: nodes that have this one's address, which is to say this machine (`--network=host`)."""

    node: str
    zone: str = ""
    others: frozenset[str] = frozenset()

    def has(self, node: str | None) -> bool:
        """Whether what is on that node is here."""
        return node == self.node or node in self.others


def build(services: Iterable[Obj], slices_of: Mapping[tuple[str, str], list[Obj]], place: Place) -> dict[str, ServicePort]:
    """Key → service port, for every proxied Service. `slices_of` holds the EndpointSlices by (namespace, Service name)."""
    ports: dict[str, ServicePort] = {}
    for service in services:
        ports.update(ports_of(service, slices_of.get((namespace_of(service), name_of(service)), []), place))
    return ports


def ports_of(service: Obj, slices: list[Obj], place: Place) -> dict[str, ServicePort]:
    """Key → service port of one Service; none where it is not for a proxy."""
    if not is_proxied(service):
        return {}
    made = [_service_port(service, port, slices, place) for port in spec_of(service).get("ports") or []]
    return {each.key: each for each in made}


def _service_port(service: Obj, port: Obj, slices: list[Obj], place: Place) -> ServicePort:
    spec, status = spec_of(service), service.get("status") or {}
    candidates = _candidates(slices, port, place)
    everywhere = candidates.usable()
    internal_local = spec.get("internalTrafficPolicy") == "Local"
    external_local = spec.get("externalTrafficPolicy") == "Local"
    ingress = [
        each["ip"]
        for each in (status.get("loadBalancer") or {}).get("ingress") or []
        if each.get("ip") and each.get("ipMode") != "Proxy"
    ]
    cluster_ips = spec.get("clusterIPs") or [spec["clusterIP"]]
    affinity = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get(
        "timeoutSeconds"
    ) or _DEFAULT_AFFINITY_SECONDS
    return ServicePort(
        namespace=namespace_of(service),
        name=name_of(service),
        port_name=port.get("name") or "",
        protocol=port.get("protocol") or "TCP",
        port=int(port["port"]),
        cluster_ips=tuple(cluster_ips),
        external_ips=(*(spec.get("externalIPs") or []), *ingress),
        node_port=int(port.get("nodePort") or 0),
        internal=candidates.local() if internal_local else everywhere,
        external=candidates.local() if external_local else everywhere,
        everywhere=everywhere,
        internal_local=internal_local,
        external_local=external_local,
        affinity_seconds=int(affinity) if spec.get("sessionAffinity") == "ClientIP" else 0,
        source_ranges=tuple(spec.get("loadBalancerSourceRanges") or ()) if spec.get("type") == "LoadBalancer" else (),
        health_port=int(spec.get("healthCheckNodePort") or 0) if external_local else 0,
    )


@dataclass(frozen=True, slots=True)
class _Candidate:
    endpoint: Endpoint
    ready: bool
    zones: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Endpoints that are ready, and those that end but still serve, which are used where there is nothing else (KEP-1669)."""

    found: tuple[_Candidate, ...]
    place: Place

    def usable(self) -> tuple[Endpoint, ...]:
        """With policy Cluster: those that the slices' hints mean for this node or zone, where they can be followed (KEP-2433, KEP-3015)."""
        ready = [each for each in self.found if each.ready]
        if not ready:
            return _plain(self.found)
        if self.place.node and all(each.nodes for each in ready):
            near = [each for each in ready if self.place.node in each.nodes]
            if near:
                return _plain(near)
        # One without a hint, or none for this zone: the hints are out of date, and all endpoints serve.
        if self.place.zone and all(each.zones for each in ready):
            near = [each for each in ready if self.place.zone in each.zones]
            if near:
                return _plain(near)
        return _plain(ready)

    def local(self) -> tuple[Endpoint, ...]:
        here = [each for each in self.found if each.endpoint.local]
        return _plain([each for each in here if each.ready] or here)


def _plain(candidates: Iterable[_Candidate]) -> tuple[Endpoint, ...]:
    return tuple(sorted({each.endpoint for each in candidates}))


def _candidates(slices: list[Obj], port: Obj, place: Place) -> _Candidates:
    found: list[_Candidate] = []
    for each in slices:
        number = _target(each, port) if each.get("addressType", "IPv4") != "FQDN" else None
        if number is None:
            continue
        for endpoint in each.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            ready = conditions.get("ready") is not False
            if not ready and not (conditions.get("serving") and conditions.get("terminating")):
                continue
            hints = endpoint.get("hints") or {}
            zones = tuple(hint["name"] for hint in hints.get("forZones") or ())
            nodes = tuple(hint["name"] for hint in hints.get("forNodes") or ())
            for ip in endpoint.get("addresses") or []:
                found.append(_Candidate(Endpoint(ip, number, place.has(endpoint.get("nodeName"))), ready, zones, nodes))
    return _Candidates(tuple(found), place)


def _target(slice_: Obj, port: Obj) -> int | None:
    """The slice's port of the same name and protocol."""
    for each in slice_.get("ports") or []:
        if (each.get("name") or "") == (port.get("name") or "") and (each.get("protocol") or "TCP") == (
            port.get("protocol") or "TCP"
        ):
            return int(each["port"]) if each.get("port") else None
    return None
