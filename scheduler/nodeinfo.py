"""What a cycle needs to know of a pod and of a node, worked out once instead of at every look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kubeling.api import pods
from kubeling.api.meta import key_of, labels_of, name_of, namespace_of, spec_of, uid_of

Obj = dict[str, Any]
Amounts = dict[str, int]

#: What a container that asks for nothing is taken to use, so that such pods spread as well (millicores, bytes).
DEFAULT_MILLI_CPU = 100
DEFAULT_MEMORY = 200 * 1024 * 1024
HostPort = tuple[str, str, int]


class PodInfo:
    """A pod and what follows from its spec."""

    __slots__ = (
        "affinity",
        "anti_affinity",
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
        "uid",
    )

    def __init__(self, pod: Obj) -> None:
        spec = spec_of(pod)
        self.pod = pod
        self.key = key_of(pod)
        self.uid = uid_of(pod)
        self.name = name_of(pod)
        self.namespace = namespace_of(pod)
        self.labels = labels_of(pod)
        self.priority = int(spec.get("priority") or 0)
        self.requests = pods.requests_of(pod)
        self.nonzero = _nonzero(pod, self.requests)
        self.host_ports: list[HostPort] = pods.host_ports_of(pod)
        affinity = spec.get("affinity") or {}
        near, far = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
        self.affinity: list[Obj] = near.get("requiredDuringSchedulingIgnoredDuringExecution") or []
        self.anti_affinity: list[Obj] = far.get("requiredDuringSchedulingIgnoredDuringExecution") or []
        self.preferred_affinity: list[Obj] = near.get("preferredDuringSchedulingIgnoredDuringExecution") or []
        self.preferred_anti_affinity: list[Obj] = far.get("preferredDuringSchedulingIgnoredDuringExecution") or []

    @property
    def spec(self) -> Obj:
        return spec_of(self.pod)

    @property
    def is_terminating(self) -> bool:
        return bool(self.pod["metadata"].get("deletionTimestamp"))


def _nonzero(pod: Obj, requests: Amounts) -> tuple[int, int]:
    """Requests for scoring (millicores, bytes), in which a container without a request counts with the defaults."""
    cpu, memory = requests.get("cpu", 0), requests.get("memory", 0)
    for container in pods.containers_of(pod):
        asked = (container.get("resources") or {}).get("requests") or {}
        cpu += 0 if "cpu" in asked else DEFAULT_MILLI_CPU
        memory += 0 if "memory" in asked else DEFAULT_MEMORY
    return cpu, memory


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
    #: How many pods here carry (required or preferred) affinity terms, and required anti-affinity terms.
    with_affinity: dict[str, PodInfo] = field(default_factory=dict)
    with_anti_affinity: dict[str, PodInfo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.set_node(self.node)

    @property
    def name(self) -> str:
        return name_of(self.node)

    @property
    def labels(self) -> dict[str, str]:
        return labels_of(self.node)

    @property
    def taints(self) -> list[Obj]:
        return spec_of(self.node).get("taints") or []

    def set_node(self, node: Obj) -> None:
        """Take a newer state of the node."""
        self.node = node
        status = node.get("status") or {}
        found = status.get("allocatable") or status.get("capacity") or {}
        self.allocatable = {name: pods.amount_of(name, amount) for name, amount in found.items()}
        self.images = {
            name: int(image.get("sizeBytes") or 0) for image in status.get("images") or [] for name in image.get("names") or []
        }

    def add(self, pod: PodInfo) -> None:
        """Count `pod` in; a pod that is counted already is replaced."""
        if pod.uid in self.pods:
            self.remove(pod.uid)
        self.pods[pod.uid] = pod
        self._count(pod, 1)
        if pod.affinity or pod.anti_affinity or pod.preferred_affinity or pod.preferred_anti_affinity:
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
        for name, amount in pod.requests.items():
            self.requested[name] = self.requested.get(name, 0) + sign * amount
        self.nonzero = (self.nonzero[0] + sign * pod.nonzero[0], self.nonzero[1] + sign * pod.nonzero[1])
        for port in pod.host_ports:
            left = self.host_ports.get(port, 0) + sign
            if left > 0:
                self.host_ports[port] = left
            else:
                self.host_ports.pop(port, None)

    def without(self, uids: Iterable[str]) -> NodeInfo:
        """A copy in which the pods `uids` are gone: what preemption tries filters on."""
        gone = set(uids)
        copy = NodeInfo(self.node)
        for uid, pod in self.pods.items():
            if uid not in gone:
                copy.add(pod)
        return copy
