"""From a Service and its pods to endpoints: which pods count, on which ports, in which state. Shared by Endpoints and EndpointSlices."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubeling.api import pods
from kubeling.api.meta import is_deleting, name_of, namespace_of, spec_of, status_of, uid_of
from kubeling.controllers.context import Obj

#: A resolved port: name, protocol, number, application protocol.
Port = tuple[str, str, int | None, str | None]

HEADLESS_LABEL = "service.kubernetes.io/headless"
ZONE_LABEL = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod's address of one family with what is true of it."""

    pod: Obj
    address: str
    ports: tuple[Port, ...]
    ready: bool
    serving: bool
    terminating: bool


def is_headless(service: Obj) -> bool:
    return spec_of(service).get("clusterIP") == "None"


def selects(service: Obj) -> Mapping[str, str] | None:
    """The selector, None where endpoints are somebody else's business."""
    spec = spec_of(service)
    return None if spec.get("type") == "ExternalName" else spec.get("selector") or None


def publishes_not_ready(service: Obj) -> bool:
    return bool(spec_of(service).get("publishNotReadyAddresses"))


def families_of(service: Obj, pod_addresses: Iterable[str] = ()) -> list[str]:
    """The address types to publish: the Service's families; where it has none yet, what its address or its pods' show."""
    found = [each for each in spec_of(service).get("ipFamilies") or () if each in ("IPv4", "IPv6")]
    if found:
        return found
    cluster_ip = spec_of(service).get("clusterIP") or ""
    if cluster_ip and cluster_ip != "None":
        return [family_of(cluster_ip)]
    return sorted({family_of(each) for each in pod_addresses}) or ["IPv4"]


def family_of(address: str) -> str:
    return "IPv6" if ipaddress.ip_address(address).version == 6 else "IPv4"


def addresses_of(pod: Obj) -> list[str]:
    """All addresses of a pod, the primary one first."""
    status = status_of(pod)
    several = [each["ip"] for each in status.get("podIPs") or () if each.get("ip")]
    return several or ([status["podIP"]] if status.get("podIP") else [])


def resolve_ports(service: Obj, pod: Obj) -> tuple[Port, ...]:
    """The Service's ports as numbers on this pod; a named port that the pod does not have is left out, and a headless Service may have none at all."""
    found: list[Port] = []
    for port in spec_of(service).get("ports") or ():
        number = target_port(port, pod)
        if number is not None:
            found.append((port.get("name") or "", port.get("protocol") or "TCP", number, port.get("appProtocol")))
    return tuple(sorted(found, key=repr))


def target_port(port: Mapping[str, Any], pod: Obj) -> int | None:
    """`targetPort` as a number: itself, the port itself where absent, or the pod's container port of that name and protocol."""
    target = port.get("targetPort")
    if target is None or target in {0, ""}:
        return int(port["port"])
    if isinstance(target, int):
        return target
    holders = [*pods.containers_of(pod), *(each for each in pods.init_containers_of(pod) if pods.is_sidecar(each))]
    for each in holders:
        for offered in each.get("ports") or ():
            if offered.get("name") == target and (offered.get("protocol") or "TCP") == (port.get("protocol") or "TCP"):
                return int(offered["containerPort"])
    return None


def hostname_of(pod: Obj, service: Obj) -> str | None:
    """The name under which DNS shows this pod below the Service's."""
    spec = spec_of(pod)
    if spec.get("hostname") and spec.get("subdomain") == name_of(service) and namespace_of(pod) == namespace_of(service):
        return str(spec["hostname"])
    return None


def candidates(service: Obj, selected: Iterable[Obj], family: str) -> list[Candidate]:
    """The pods that may be endpoints: with an address of the family, not over. Terminating ones are kept, and marked."""
    found: list[Candidate] = []
    tolerant = publishes_not_ready(service)
    for pod in selected:
        if pods.is_terminal(pod):
            continue
        address = next((each for each in addresses_of(pod) if family_of(each) == family), None)
        if address is None:
            continue
        ready, terminating = pods.is_ready(pod), is_deleting(pod)
        found.append(
            Candidate(
                pod=pod,
                address=address,
                ports=resolve_ports(service, pod),
                ready=tolerant or (ready and not terminating),
                serving=ready,
                terminating=terminating,
            )
        )
    return found


def target_ref(pod: Obj) -> Obj:
    return {"kind": "Pod", "namespace": namespace_of(pod), "name": name_of(pod), "uid": uid_of(pod)}
