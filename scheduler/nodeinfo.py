"""What a cycle needs to know of a pod and of a node, worked out once instead of at every look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from kubeling.api import labels, pods
from kubeling.api.meta import key_of, labels_of, name_of, namespace_of, spec_of, uid_of

Obj = dict[str, Any]
Amounts = dict[str, int]
HostPort = tuple[str, str, int]
#: What tells pods apart for label selectors: namespace and sorted labels.
Group = tuple[str, tuple[tuple[str, str], ...]]

#: What a container that asks for nothing is taken to use, so that such pods spread as well (millicores, bytes).
DEFAULT_MILLI_CPU = 100
DEFAULT_MEMORY = 200 * 1024 * 1024
#: Amounts are cut here, so that a hundred times as much still fits a 64-bit integer.
MAX_AMOUNT = 2**56

_FULL = "requiredDuringSchedulingIgnoredDuringExecution"
_SOFT = "preferredDuringSchedulingIgnoredDuringExecution"


def fingerprint(value: object) -> bytes:
    """A short key for a piece of a spec; equal pieces have equal keys."""
    return orjson.dumps(value) if value else b""


@dataclass(frozen=True, slots=True)
class AffinityTerm:
    """A PodAffinityTerm of some pod, parsed. Equal terms are equal values, so that pods of one template share what is counted for them."""

    key: str
    selector: labels.Selector
    namespaces: frozenset[str]
    #: None where no namespaceSelector is given; an empty one selects every namespace.
    namespace_selector: labels.Selector | None = None

    def selects(self, group: Group, by_label: Mapping[str, str], spaces: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether the term is about pods of this namespace with these labels."""
        namespace = group[0]
        if namespace not in self.namespaces and (
            self.namespace_selector is None or not self.namespace_selector.matches(spaces.get(namespace))
        ):
            return False
        return self.selector.matches(by_label)


def parse_term(term: Obj, owner: PodInfo) -> AffinityTerm:
    """`matchLabelKeys` and `mismatchLabelKeys` (KEP-3633) become requirements with the owner's values."""
    selector = labels.from_selector(term.get("labelSelector"))
    more = [
        labels.Requirement(key, "in", (owner.labels[key],)) for key in term.get("matchLabelKeys") or () if key in owner.labels
    ]
    more += [
        labels.Requirement(key, "notin", (owner.labels[key],))
        for key in term.get("mismatchLabelKeys") or ()
        if key in owner.labels
    ]
    if more and not selector.nothing:
        selector = labels.Selector((*selector.requirements, *more))
    chosen = term.get("namespaceSelector")
    named = term.get("namespaces") or ()
    return AffinityTerm(
        term.get("topologyKey") or "",
        selector,
        frozenset(named) if named or chosen is not None else frozenset({owner.namespace}),
        None if chosen is None else labels.from_selector(chosen),
    )


class PodInfo:
    """A pod and what follows from its spec."""

    __slots__ = (
        "affinity",
        "anti_affinity",
        "group",
        "has_affinity",
        "host_ports",
        "key",
        "labels",
        "name",
        "namespace",
        "nonzero",
        "pod",
        "preferred_affinity",
        "preferred_anti_affinity",
        "priority",
        "requests",
        "requests_key",
        "uid",
        "volumes",
    )

    def __init__(self, pod: Obj) -> None:
        spec = spec_of(pod)
        self.pod = pod
        self.key = key_of(pod)
        self.uid = uid_of(pod)
        self.name = name_of(pod)
        self.namespace = namespace_of(pod)
        self.labels = labels_of(pod)
        self.group: Group = (self.namespace, tuple(sorted(self.labels.items())))
        self.priority = int(spec.get("priority") or 0)
        self.requests = {name: min(amount, MAX_AMOUNT) for name, amount in pods.requests_of(pod).items()}
        self.nonzero = _nonzero(pod)
        self.requests_key = (*sorted(self.requests.items()), self.nonzero)
        self.host_ports: list[HostPort] = pods.host_ports_of(pod)
        self.volumes: list[Obj] = spec.get("volumes") or []
        affinity = spec.get("affinity") or {}
        near, far = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
        self.affinity = tuple(parse_term(each, self) for each in near.get(_FULL) or ())
        self.anti_affinity = tuple(parse_term(each, self) for each in far.get(_FULL) or ())
        self.preferred_affinity = self._weighted(near.get(_SOFT))
        self.preferred_anti_affinity = self._weighted(far.get(_SOFT))
        self.has_affinity = bool(self.affinity or self.anti_affinity or self.preferred_affinity or self.preferred_anti_affinity)

    def _weighted(self, terms: list[Obj] | None) -> tuple[tuple[AffinityTerm, int], ...]:
        return tuple((parse_term(each.get("podAffinityTerm") or {}, self), int(each.get("weight") or 0)) for each in terms or ())

    def renew(self, newer: PodInfo) -> None:
        """The same pod with another status: nothing of the older object is held on to."""
        self.pod, self.labels, self.volumes, self.uid = newer.pod, newer.labels, newer.volumes, newer.uid

    @property
    def spec(self) -> Obj:
        return spec_of(self.pod)

    @property
    def is_terminating(self) -> bool:
        return bool(self.pod["metadata"].get("deletionTimestamp"))

    def selected_by(self, term: AffinityTerm, spaces: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether `term`, of another pod, is about this one."""
        return term.selects(self.group, self.labels, spaces)


_DEFAULTS = {"cpu": f"{DEFAULT_MILLI_CPU}m", "memory": str(DEFAULT_MEMORY)}


def _nonzero(pod: Obj) -> tuple[int, int]:
    """Requests for scoring (millicores, bytes), in which a container without a request counts with the defaults."""
    spec = spec_of(pod)

    def filled(containers: Iterable[Obj]) -> list[Obj]:
        return [
            {**each, "resources": {"requests": {**_DEFAULTS, **((each.get("resources") or {}).get("requests") or {})}}}
            for each in containers
        ]

    complete = all(
        "cpu" in asked and "memory" in asked
        for each in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        for asked in ((each.get("resources") or {}).get("requests") or {},)
    )
    if complete:
        found = pods.requests_of(pod)
    else:
        shaped = {
            **spec,
            "containers": filled(spec.get("containers") or ()),
            "initContainers": filled(spec.get("initContainers") or ()),
        }
        found = pods.requests_of({**pod, "spec": shaped})
    return min(found.get("cpu", 0), MAX_AMOUNT), min(found.get("memory", 0), MAX_AMOUNT)


@dataclass(slots=True)
class NodeInfo:
    """A node and the pods that are on it or assumed to be."""

    node: Obj
    pods: dict[str, PodInfo] = field(default_factory=dict)
    allocatable: Amounts = field(default_factory=dict)
    requested: Amounts = field(default_factory=dict)
    nonzero: tuple[int, int] = (0, 0)
    host_ports: dict[HostPort, int] = field(default_factory=dict)
    #: Image name → bytes.
    images: dict[str, int] = field(default_factory=dict)
    #: The pods here that carry affinity terms of any kind, and those with required anti-affinity.
    with_affinity: dict[str, PodInfo] = field(default_factory=dict)
    with_anti_affinity: dict[str, PodInfo] = field(default_factory=dict)
    name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[Obj] = field(default_factory=list)
    unschedulable: bool = False

    def __post_init__(self) -> None:
        self.set_node(self.node)

    def set_node(self, node: Obj) -> None:
        """Take a newer state of the node."""
        self.node = node
        self.name, self.labels = name_of(node), labels_of(node)
        spec = spec_of(node)
        self.taints, self.unschedulable = spec.get("taints") or [], bool(spec.get("unschedulable"))
        status = node.get("status") or {}
        found = status.get("allocatable") or status.get("capacity") or {}
        self.allocatable = {name: min(pods.amount_of(name, amount), MAX_AMOUNT) for name, amount in found.items()}
        self.images = {
            name: int(image.get("sizeBytes") or 0) for image in status.get("images") or [] for name in image.get("names") or []
        }

    def add(self, pod: PodInfo) -> None:
        """Count `pod` in; a pod that is counted already is replaced."""
        if pod.uid in self.pods:
            self.remove(pod.uid)
        self.pods[pod.uid] = pod
        self._count(pod, 1)
        if pod.has_affinity:
            self.with_affinity[pod.uid] = pod
        if pod.anti_affinity:
            self.with_anti_affinity[pod.uid] = pod

    def remove(self, uid: str) -> PodInfo | None:
        """Count a pod out; None where it was not counted."""
        pod = self.pods.pop(uid, None)
        if pod is not None:
            self._count(pod, -1)
            self.with_affinity.pop(uid, None)
            self.with_anti_affinity.pop(uid, None)
        return pod

    def _count(self, pod: PodInfo, sign: int) -> None:
        requested = self.requested
        for name, amount in pod.requests.items():
            requested[name] = requested.get(name, 0) + sign * amount
        self.nonzero = (self.nonzero[0] + sign * pod.nonzero[0], self.nonzero[1] + sign * pod.nonzero[1])
        for port in pod.host_ports:
            left = self.host_ports.get(port, 0) + sign
            if left > 0:
                self.host_ports[port] = left
            else:
                self.host_ports.pop(port, None)

    def copy(self) -> NodeInfo:
        """A copy whose pods may be changed: what preemption and nominations try filters on."""
        made = NodeInfo.__new__(NodeInfo)
        made.node, made.allocatable, made.images = self.node, self.allocatable, self.images
        made.name, made.labels, made.taints, made.unschedulable = self.name, self.labels, self.taints, self.unschedulable
        made.nonzero = self.nonzero
        made.pods, made.requested, made.host_ports = dict(self.pods), dict(self.requested), dict(self.host_ports)
        made.with_affinity, made.with_anti_affinity = dict(self.with_affinity), dict(self.with_anti_affinity)
        return made
