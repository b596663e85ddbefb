"""What a NetworkPolicy says, as values. Pure: objects in, data out (networking.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from kubeling.api import labels
from kubeling.api.labels import Selector
from kubeling.api.meta import labels_of, name_of, namespace_of, spec_of
from kubeling.api.pods import is_terminal

Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """Pods that a selector picks. `namespaces` None means those of the one namespace `namespace`."""

    namespace: str
    namespaces: Selector | None
    pods: Selector


@dataclass(frozen=True, slots=True)
class Block:
    """A range of addresses without some ranges inside it."""

    cidr: str
    excepts: tuple[str, ...] = ()

    @property
    def family(self) -> int:
        return 6 if ":" in self.cidr else 4


@dataclass(frozen=True, slots=True)
class Port:
    """`first` None: every port of the protocol; `name`: the number that each pod gives this name."""

    protocol: str
    first: int | None = None
    last: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """Traffic of one of `peers` to one of `ports` is allowed; None means all of them."""

    peers: tuple[Scope | Block, ...] | None
    ports: tuple[Port, ...] | None


@dataclass(frozen=True, slots=True)
class Policy:
    """A direction that is None is not isolated by this policy; an empty one allows nothing."""

    namespace: str
    name: str
    subject: Scope
    ingress: tuple[Rule, ...] | None
    egress: tuple[Rule, ...] | None


@dataclass(frozen=True, slots=True)
class Pod:
    """What of a pod matters to policies. `ports` holds its named ports: (name, protocol) → number."""

    namespace: str
    labels: Mapping[str, str]
    ips: tuple[str, ...]
    node: str
    ports: Mapping[tuple[str, str], int]


def pod_of(obj: Obj) -> Pod | None:
    """None for a pod to which no policy applies: it shares its node's network, or is over and its address may be another's."""
    spec = spec_of(obj)
    if spec.get("hostNetwork") or is_terminal(obj):
        return None
    status = obj.get("status") or {}
    ips = tuple(each["ip"] for each in status.get("podIPs") or () if each.get("ip"))
    if not ips and status.get("podIP"):
        ips = (status["podIP"],)
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    ports = {
        (port["name"], port.get("protocol") or "TCP"): int(port["containerPort"])
        for container in [*sidecars, *(spec.get("containers") or ())]
        for port in container.get("ports") or ()
        if port.get("name")
    }
    return Pod(namespace_of(obj), labels_of(obj), ips, spec.get("nodeName") or "", ports)


def slim(obj: Obj) -> Obj:
    """For an informer's memory: a pod with nothing but what :func:`pod_of` reads."""
    spec, status = spec_of(obj), obj.get("status") or {}

    def container(each: Obj) -> Obj:
        return {key: each[key] for key in ("ports", "restartPolicy") if key in each}

    kept_spec: Obj = {key: spec[key] for key in ("hostNetwork", "nodeName") if key in spec}
    for field in ("containers", "initContainers"):
        kept_spec[field] = [container(each) for each in spec.get(field) or () if each.get("ports")]
    metadata = {
        key: obj["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion", "labels") if key in obj["metadata"]
    }
    return {
        "metadata": metadata,
        "spec": kept_spec,
        "status": {key: status[key] for key in ("phase", "podIP", "podIPs") if key in status},
    }


def policy_of(obj: Obj) -> Policy:
    """Raises ValueError, KeyError or TypeError for what validation would not have let through."""
    spec = spec_of(obj)
    namespace = namespace_of(obj)
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return Policy(
        namespace,
        name_of(obj),
        Scope(namespace, None, labels.from_selector(spec.get("podSelector") or {})),
        tuple(_rule(each, "from", namespace) for each in spec.get("ingress") or ()) if "Ingress" in types else None,
        tuple(_rule(each, "to", namespace) for each in spec.get("egress") or ()) if "Egress" in types else None,
    )


def _rule(rule: Obj, field: str, namespace: str) -> Rule:
    peers, ports = rule.get(field), rule.get("ports")
    return Rule(
        tuple(_peer(each, namespace) for each in peers) if peers else None,
        tuple(_port(each) for each in ports) if ports else None,
    )


def _peer(peer: Obj, namespace: str) -> Scope | Block:
    block = peer.get("ipBlock")
    if block is not None:
        return Block(_cidr(block["cidr"]), tuple(_cidr(each) for each in block.get("except") or ()))
    namespaces = peer.get("namespaceSelector")
    return Scope(
        namespace if namespaces is None else "",
        None if namespaces is None else labels.from_selector(namespaces),
        labels.from_selector(peer.get("podSelector") or {}),
    )


def _cidr(text: str) -> str:
    return str(ip_network(text, strict=False))


def _port(port: Obj) -> Port:
    protocol, number = port.get("protocol") or "TCP", port.get("port")
    if number is None:
        return Port(protocol)
    if isinstance(number, str):
        return Port(protocol, name=number)
    return Port(protocol, int(number), int(port.get("endPort") or number))
