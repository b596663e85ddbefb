"""What all pod workers share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from kubeling.api.meta import Object
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Informer
from kubeling.client.rest import Client
from kubeling.daemon.clock import Clock
from kubeling.kubelet.allocation import Allocations
from kubeling.kubelet.backoff import KeyedBackoff
from kubeling.kubelet.cgroups import PodCgroups
from kubeling.kubelet.config import Config
from kubeling.kubelet.cpus import CpuManager
from kubeling.kubelet.cri import Runtime
from kubeling.kubelet.deviceplugins import DevicePlugins
from kubeling.kubelet.dnsconfig import NodeDNS
from kubeling.kubelet.images import ImageManager
from kubeling.kubelet.machine import Machine
from kubeling.kubelet.objects import ObjectCache
from kubeling.kubelet.probemetrics import ProbeMetrics
from kubeling.kubelet.statuses import StatusManager
from kubeling.kubelet.volumes import VolumeManager

EventKind = Literal["Normal", "Warning"]


@dataclass(slots=True)
class NodeState:
    """What the node agent finds out and the workers need."""

    #: The node's addresses, one of each family, the main one first.
    host_ips: tuple[str, ...]
    allocatable: dict[str, str]
    #: Set while the runtime can make pods with networks of their own.
    network_ready: asyncio.Event
    network_problem: str = ""
    #: The conditions of pressure that hold.
    pressure: Callable[[], frozenset[str]] = frozenset
    #: Set when the node goes down: it is not ready, and takes nobody.
    shutting_down: Callable[[], bool] = lambda: False
    #: Capacity and allocatable of the devices that plugins offer.
    extended: Callable[[], tuple[dict[str, str], dict[str, str]]] = lambda: ({}, {})

    @property
    def host_ip(self) -> str:
        """The main one."""
        return self.host_ips[0] if self.host_ips else ""


@dataclass(slots=True)
class Context:
    """The parts of a running kubelet."""

    config: Config
    clock: Clock
    client: Client
    runtime: Runtime
    images: ImageManager
    volumes: VolumeManager
    objects: ObjectCache
    statuses: StatusManager
    services: Informer
    recorder: EventRecorder
    crashes: KeyedBackoff
    cgroups: PodCgroups
    machine: Machine
    node: NodeState
    node_dns: NodeDNS
    allocations: Allocations
    #: The pods that use the node's resources, but for the one with that uid.
    others: Callable[[str], list[Object]]
    #: The Node as the API shows it.
    node_object: Callable[[], Object | None]
    devices: DevicePlugins
    cpus: CpuManager
    probe_metrics: ProbeMetrics
    #: Called by a worker with its uid when its pod uses the node's resources no more.
    worker_over: Callable[[str], None]
    #: Called by a worker of which nothing is left.
    worker_ended: Callable[[str], None]

    def event(
        self, pod: Object, kind: EventKind, reason: str, message: str, container: str = "", field: str = "containers"
    ) -> None:
        """Record an event about a pod, or about one container of it."""
        path = f"spec.{field}{{{container}}}" if container else ""
        named = {"apiVersion": "v1", "kind": "Pod", **pod}
        self.recorder.event(named, kind, reason, message, field_path=path)

    def all_services(self) -> Iterable[Object]:
        return self.services.store
