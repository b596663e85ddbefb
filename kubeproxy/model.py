"""From Services and EndpointSlices to what each service port leads to on one node. Pure: objects in, data out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubeling.api.meta import labels_of, name_of, namespace_of, spec_of

Obj = dict[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"
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
    #: External traffic keeps its source address, since it only goes to local endpoints.
    external_local: bool = False
    affinity_seconds: int = 0
    source_ranges: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}:{self.port_name or self.port}/{self.protocol.lower()}"


def is_proxied(service: Obj) -> bool:
    """Whether the Service has an address for a proxy to serve: not headless, not ExternalName, not left to another proxy."""
    spec = spec_of(service)
    if spec.get("type") == "ExternalName" or PROXY_NAME in labels_of(service):
        return False
    return spec.get("clusterIP") not in (None, "", "None")


def build(services: Iterable[Obj], slices_of: Mapping[tuple[str, str], list[Obj]], node: str) -> dict[str, ServicePort]:
    """Key → service port, for every proxied Service. `slices_of` holds the EndpointSlices by (namespace, Service name)."""
    ports: dict[str, ServicePort] = {}
    for service in services:
        if not is_proxied(service):
            continue
        slices = slices_of.get((namespace_of(service), name_of(service)), [])
        for port in spec_of(service).get("ports") or []:
            made = _service_port(service, port, slices, node)
            ports[made.key] = made
    return ports


def _service_port(service: Obj, port: Obj, slices: list[Obj], node: str) -> ServicePort:
    spec, status = spec_of(service), service.get("status") or {}
    everywhere = _endpoints(slices, port, node)
    local_only = spec.get("externalTrafficPolicy") == "Local"
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
        cluster_ips=tuple(ip for ip in cluster_ips if _is_v4(ip)),
        external_ips=tuple(ip for ip in [*(spec.get("externalIPs") or []), *ingress] if _is_v4(ip)),
        node_port=int(port.get("nodePort") or 0),
        internal=everywhere.local_usable() if spec.get("internalTrafficPolicy") == "Local" else everywhere.usable(),
        external=everywhere.local_usable() if local_only else everywhere.usable(),
        external_local=local_only,
        affinity_seconds=int(affinity) if spec.get("sessionAffinity") == "ClientIP" else 0,
        source_ranges=tuple(spec.get("loadBalancerSourceRanges") or ()) if spec.get("type") == "LoadBalancer" else (),
    )


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Endpoints by what may be done with them. Those that end but still serve are used where there is nothing else (KEP-1669)."""

    ready: tuple[Endpoint, ...]
    serving_terminating: tuple[Endpoint, ...]

    def usable(self) -> tuple[Endpoint, ...]:
        return self.ready or self.serving_terminating

    def local_usable(self) -> tuple[Endpoint, ...]:
        return tuple(each for each in self.ready if each.local) or tuple(each for each in self.serving_terminating if each.local)


def _endpoints(slices: list[Obj], port: Obj, node: str) -> _Candidates:
    ready: set[Endpoint] = set()
    ending: set[Endpoint] = set()
    for each in slices:
        if each.get("addressType", "IPv4") != "IPv4":
            continue
        number = _target(each, port)
        if number is None:
            continue
        for endpoint in each.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            is_ready = conditions.get("ready") is not False
            serving = conditions.get("serving", is_ready) is not False
            made = [Endpoint(ip, number, endpoint.get("nodeName") == node) for ip in endpoint.get("addresses") or []]
            if is_ready:
                ready.update(made)
            elif serving and conditions.get("terminating"):
                ending.update(made)
    return _Candidates(tuple(sorted(ready)), tuple(sorted(ending)))


def _target(slice_: Obj, port: Obj) -> int | None:
    """The slice's port of the same name and protocol."""
    for each in slice_.get("ports") or []:
        if (each.get("name") or "") == (port.get("name") or "") and (each.get("protocol") or "TCP") == (
            port.get("protocol") or "TCP"
        ):
            return int(each["port"]) if each.get("port") else None
    return None


def _is_v4(ip: str) -> bool:
    return ":" not in ip
