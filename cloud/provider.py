"""What a cloud can do for a cluster: the seam between our controllers and a provider, shaped like upstream's cloud provider interface.

A provider offers the parts that it has and None for the others; the controllers of absent parts do not run. Every call may be slow, may fail, and may
be repeated: each must be idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Obj = dict[str, Any]


class ProviderError(Exception):
    """The provider cannot do it now; the text is shown in an event on the object, so it says what to do."""


class Outdated(ProviderError):
    """The provider refuses because the caller has not seen the latest change: look again, nothing is wrong."""


class Missing(ProviderError):
    """There is no such thing at the provider."""


class Conflicting(ProviderError):
    """What is there stands against it: a name that is taken by something else, a volume that is attached elsewhere."""


class Exhausted(ProviderError):
    """The provider has no room for it: another zone may have."""


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """How a load balancer stands: what goes into `status.loadBalancer.ingress`, annotations to show, and what is wrong though it works in part."""

    ingress: tuple[Obj, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a cloud knows of a machine."""

    provider_id: str
    instance_type: str = ""
    addresses: tuple[Obj, ...] = ()
    zone: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Packets to `destination` (a pod CIDR) go to the node."""

    name: str
    node: str
    destination: str


class LoadBalancers(Protocol):
    """External addresses for Services of type LoadBalancer."""

    @property
    def owned_annotations(self) -> frozenset[str]:
        """The keys of the annotations that it may set on Services; they go with the load balancer."""

    async def ensure(self, service: Obj, nodes: Sequence[Obj]) -> LoadBalancer:
        """Make it, or bring it to what the Service and the nodes are now. ProviderError where that cannot be done."""

    async def update(self, service: Obj, nodes: Sequence[Obj]) -> None:
        """Only the nodes changed."""

    async def delete(self, service: Obj) -> None:
        """Nothing of it is left afterwards; one that is not there is fine."""


class Instances(Protocol):
    """The machines behind the nodes (upstream's InstancesV2)."""

    def covers(self, node: Obj) -> bool:
        """Whether a Node can be one of this cloud's at all: what others registered is none of its business."""

    async def exists(self, node: Obj) -> bool:
        """Whether there is a machine behind the node, running or not."""

    async def is_shut_down(self, node: Obj) -> bool:
        """Whether the machine is there and switched off."""

    async def metadata(self, node: Obj) -> Metadata:
        """What the machine is. ProviderError where there is none."""


class Zones(Protocol):
    """Where machines are, at clouds that do not say it of each machine."""

    async def zone_of(self, node: Obj) -> tuple[str, str]:
        """(region, zone)."""


class Routes(Protocol):
    """Routes to pod CIDRs, where the cloud's network needs them."""

    async def list(self, cluster: str) -> Sequence[Route]: ...

    async def create(self, cluster: str, route: Route) -> None: ...

    async def delete(self, cluster: str, route: Route) -> None: ...


@dataclass(frozen=True, slots=True)
class Volume:
    """A disk of the cloud. `size` in bytes; `nodes` are those that it is attached to; without a zone it can be had in all of them."""

    id: str
    name: str
    size: int
    block: bool = False
    zone: str = ""
    region: str = ""
    nodes: tuple[str, ...] = ()


class Volumes(Protocol):
    """Disks that are made, attached to machines and taken away: what a CSI driver's controller works with (`deploy/csi-cloud`)."""

    async def list(self) -> Sequence[Volume]:
        """All of this cluster's, as they are now."""

    async def find(self, volume: str) -> Volume:
        """One by its id. Missing where there is none."""

    async def create(self, name: str, size: int, *, block: bool = False, zone: str = "", region: str = "") -> Volume:
        """Make it; the one that has that name already is it. Conflicting where that one is otherwise, Exhausted where there is no room."""

    async def expand(self, volume: str, size: int) -> Volume:
        """Make it at least that large; none ever shrinks. Missing where there is none."""

    async def delete(self, volume: str) -> None:
        """One that has gone is fine. Conflicting while it is attached."""

    async def attach(self, volume: str, node: str) -> Mapping[str, str]:
        """Give it to a machine; what that needs to know to find it. Missing without a volume, Conflicting where another machine has it."""

    async def detach(self, volume: str, node: str) -> None:
        """Take it from a machine; nobody has to be there for that, and one that is not attached is fine."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of a group. `node` is the name of its Node, as far as that is known before it registers; `created` in seconds of the epoch."""

    provider_id: str
    node: str = ""
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Machines that are all alike. `size` is what was asked for, `machines` may be fewer for a while; `template` the Node that a new one will have."""

    name: str
    minimum: int
    maximum: int
    size: int
    machines: tuple[Machine, ...] = ()
    template: Obj = field(default_factory=dict)


class NodeGroups(Protocol):
    """Groups of machines that can be resized: what the cluster autoscaler works with."""

    async def list(self) -> Sequence[NodeGroup]:
        """All groups, as they are now."""

    async def grow(self, group: str, before: int, after: int) -> None:
        """Ask for `after` machines where `before` were asked for. Outdated where that is not so: two who want one more get one."""

    async def remove(self, group: str, machine: Machine) -> None:
        """Take one machine away and ask for one less; one that has gone is fine."""


class Provider(Protocol):
    """One cloud."""

    @property
    def name(self) -> str: ...

    @property
    def load_balancers(self) -> LoadBalancers | None: ...

    @property
    def instances(self) -> Instances | None: ...

    @property
    def zones(self) -> Zones | None: ...

    @property
    def routes(self) -> Routes | None: ...

    @property
    def volumes(self) -> Volumes | None: ...

    @property
    def node_groups(self) -> NodeGroups | None: ...

    async def changes(self) -> None:
        """Return when machines have changed since the last time that this was asked; never, where the cloud does not tell."""

    async def close(self) -> None:
        """We lead no longer: leave to the next leader what it needs."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a provider may ask of the cluster, without a client of its own: reads from copies that follow the apiserver."""

    #: All Services, to know which addresses are taken.
    services: Callable[[], Sequence[Obj]]
    #: The names of the nodes with a ready endpoint of a Service.
    nodes_with_endpoints: Callable[[Obj], frozenset[str]]


#: Makes a provider from the flags' values.
Factory = Callable[[Mapping[str, str], Cluster], Provider]
