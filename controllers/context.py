"""What every controller is given: the client, the shared informers, the clock, and what the flags say."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kubeling.api.meta import controller_of, namespace_of
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.rest import Client
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.tasks import Supervisor

Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """The flags, by upstream's names and defaults. Times in seconds."""

    #: One range of each family, the primary one first; also of the Services.
    cluster_cidr: str = "10.244.0.0/16"
    allocate_node_cidrs: bool = True
    #: 0: that of its family.
    node_cidr_mask_size: int = 0
    node_cidr_mask_size_ipv4: int = 24
    node_cidr_mask_size_ipv6: int = 64
    service_cluster_ip_range: str = "10.96.0.0/16"
    root_ca: str = ""
    service_account_private_key: str = ""
    #: For how long a token may go unused before it is marked, and then until it is deleted.
    legacy_token_period: float = 365 * 86400.0
    signing_certificate: str = ""
    signing_key: str = ""
    signing_duration: float = 365 * 86400.0
    apiserver_endpoints: tuple[str, ...] = ()
    node_monitor_grace_period: float = 40.0
    node_startup_grace_period: float = 60.0
    node_eviction_rate: float = 0.1
    secondary_node_eviction_rate: float = 0.01
    unhealthy_zone_threshold: float = 0.55
    large_cluster_size_threshold: int = 50
    terminated_pod_gc_threshold: int = 12500


@dataclass(slots=True)
class Context:
    """One per term of leadership: a new leader starts with new informers and an empty memory."""

    client: Client
    informers: InformerFactory
    options: Options = field(default_factory=Options)
    clock: Clock = field(default_factory=SystemClock)
    random: random.Random = field(default_factory=random.SystemRandom)
    #: What several controllers make use of and the first one makes, by name.
    shared: dict[str, object] = field(default_factory=dict)
    _recorders: dict[str, EventRecorder] = field(default_factory=dict)
    _waiting: list[tuple[str, Callable[[], Awaitable[None]]]] = field(default_factory=list)
    _parts: Supervisor | None = None

    def recorder(self, component: str) -> EventRecorder:
        """The recorder whose events say that they come from `component`."""
        found = self._recorders.get(component)
        if found is None:
            found = self._recorders[component] = EventRecorder(self.client, component, clock=self.clock)
            if self._parts is not None:
                self._parts.start(f"events {component}", found.run)
        return found

    def run_part(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run `part` for as long as we lead: now, or when :meth:`start` is called."""
        if self._parts is not None:
            self._parts.start(name, part)
        else:
            self._waiting.append((name, part))

    def start(self, parts: Supervisor) -> None:
        """Run the informers, the recorders and whatever else was asked for as parts of `parts`."""
        self._parts = parts
        self.informers.start(parts)
        for name, part in self._waiting:
            parts.start(name, part)
        for component, recorder in self._recorders.items():
            parts.start(f"events {component}", recorder.run)


def orphans(namespace: str) -> str:
    """The value of :func:`by_controller` for what nobody controls in a namespace."""
    return f"orphans of {namespace}"


def by_controller(obj: Obj) -> Iterable[str]:
    """An indexer: the uid of the controlling owner, or :func:`orphans`."""
    owner = controller_of(obj)
    return (owner.get("uid", "") if owner else orphans(namespace_of(obj)),)


def by_node(obj: Obj) -> Iterable[str]:
    """An indexer for pods: the node that it is assigned to."""
    node = (obj.get("spec") or {}).get("nodeName")
    return (node,) if node else ()


POD_INDEXERS = {"controller": by_controller, "node": by_node}
CHILD_INDEXERS = {"controller": by_controller}
