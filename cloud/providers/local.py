"""The cloud that is this machine: each LoadBalancer Service gets a loopback address of the host, and what arrives there is relayed to the nodes.

The addresses are of IPv4 whatever the Service's families are (of IPv6 the host has one loopback address only); the nodes are reached by the Service's first.

All of 127.0.0.0/8 is local to the host without any set-up, so an address costs nothing and nobody outside can reach it. The listening sockets belong to
the host's network; the nodes are dialled on their NodePorts, where need be from inside the namespace in which they live.

An ordinary user may not listen below port 1024. Then the port is served at 8000 more (80 → 8080), which the Service's annotation
`kubeling.dev/host-ports` shows, and an event says how to have it otherwise.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kubeling.api.meta import name_of, spec_of, uid_of
from kubeling.cloud.nodes import internal_address
from kubeling.cloud.provider import (
    Cluster,
    Instances,
    LoadBalancer,
    LoadBalancers,
    NodeGroups,
    Obj,
    ProviderError,
    Routes,
    Volumes,
    Zones,
)
from kubeling.cloud.providers.addresses import Network, choose, source_ranges
from kubeling.cloud.providers.datagrams import UdpRelay
from kubeling.cloud.providers.dialer import Dialer, listen
from kubeling.cloud.providers.machines import Machines
from kubeling.cloud.providers.relay import TcpRelay
from kubeling.cloud.providers.supervisor import Supervisor
from kubeling.cloud.providers.targets import Target, Targets
from kubeling.cloud.providers.volumes import LocalVolumes
from kubeling.daemon.log import get_logger

log = get_logger("load-balancer")

HOST_PORTS = "kubeling.dev/host-ports"
FALLBACK_OFFSET = 8000
DEFAULT_CIDR = "127.10.0.0/24"

Key = tuple[str, int]
_KINDS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}


@dataclass(slots=True)
class _Served:
    """What we hold open for one Service."""

    address: str
    targets: Targets = field(default_factory=Targets)
    ranges: tuple[Network, ...] = ()
    #: (protocol, service port) → (port that we listen on, relay).
    relays: dict[Key, tuple[int, TcpRelay | UdpRelay]] = field(default_factory=dict)


class LocalLoadBalancers:
    """See :class:`kubeling.cloud.provider.LoadBalancers`."""

    owned_annotations = frozenset({HOST_PORTS})

    def __init__(self, network: Network, dialer: Dialer, cluster: Cluster) -> None:
        self._network = network
        self._dialer = dialer
        self._cluster = cluster
        self._served: dict[str, _Served] = {}

    async def ensure(self, service: Obj, nodes: Sequence[Obj]) -> LoadBalancer:
        """Listen on every port of the Service, relay to every node."""
        uid = uid_of(service)
        held = {served.address: owner for owner, served in self._served.items()}
        address = choose(service, self._cluster.services(), held, self._network)
        ranges = source_ranges(service)
        served = self._served.get(uid)
        if served is not None and served.address != address:
            await self._drop(uid)
            served = None
        if served is None:
            served = self._served[uid] = _Served(address)
        served.ranges = ranges
        await self.update(service, nodes)
        problems = await self._listen(served, service)
        moved = [f"{port}={actual}" for (_, port), (actual, _) in sorted(served.relays.items()) if actual != port]
        annotations = {HOST_PORTS: ",".join(dict.fromkeys(moved))} if moved else {}
        # "Proxy" tells kube-proxy not to short-cut to this address inside the cluster, where it leads nowhere.
        return LoadBalancer(({"ip": address, "ipMode": "Proxy"},), annotations, tuple(problems))

    async def update(self, service: Obj, nodes: Sequence[Obj]) -> None:
        """Relay to these nodes from now on."""
        served = self._served.get(uid_of(service))
        if served is None:
            return
        spec = spec_of(service)
        targets = [Target(name_of(each), address) for each in nodes if (address := internal_address(each, service))]
        if spec.get("externalTrafficPolicy") == "Local":
            local = self._cluster.nodes_with_endpoints(service)
            targets = [each for each in targets if each.node in local]
        served.targets.set(targets, sticky=spec.get("sessionAffinity") == "ClientIP")

    async def delete(self, service: Obj) -> None:
        """Close its sockets; the address is free again."""
        await self._drop(uid_of(service))

    async def close(self) -> None:
        """Close everything; the Services' status still says which addresses they have, for who comes next."""
        for uid in list(self._served):
            await self._drop(uid)
        self._dialer.close()

    async def _drop(self, uid: str) -> None:
        served = self._served.pop(uid, None)
        if served is not None:
            for _, relay in served.relays.values():
                await relay.close()

    async def _listen(self, served: _Served, service: Obj) -> list[str]:
        """Bring the listening sockets to the Service's ports; what could not be had is said in words."""
        problems: list[str] = []
        wanted: dict[Key, int] = {}
        for port in spec_of(service).get("ports") or ():
            protocol, number, node_port = port.get("protocol") or "TCP", int(port["port"]), port.get("nodePort")
            if protocol not in _KINDS:
                problems.append(f"port {number}/{protocol}: the local provider relays TCP and UDP only")
            elif not node_port:
                problems.append(f"port {number}/{protocol} has no nodePort: set spec.allocateLoadBalancerNodePorts to true")
            else:
                wanted[protocol, number] = int(node_port)
        for key in [each for each in served.relays if each not in wanted]:
            _, relay = served.relays.pop(key)
            await relay.close()
        for key, node_port in wanted.items():
            if key in served.relays:
                served.relays[key][1].node_port = node_port
            else:
                problem = self._open(served, key, node_port)
                if problem:
                    problems.append(problem)
        if wanted and not served.relays:
            raise ProviderError("; ".join(problems))
        return problems

    def _open(self, served: _Served, key: Key, node_port: int) -> str | None:
        """Listen on one port, or on the one that stands in for it. Returns what to tell the user."""
        protocol, number = key
        try:
            sock = listen(served.address, number, _KINDS[protocol])
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EADDRINUSE):
                return f"cannot listen on {served.address}:{number}/{protocol}: {error.strerror}"
            return self._stand_in(served, key, node_port, error)
        served.relays[key] = (number, self._relay(served, sock, node_port))
        return None

    def _stand_in(self, served: _Served, key: Key, node_port: int, error: OSError) -> str:
        protocol, number = key
        other = FALLBACK_OFFSET + number
        if error.errno == errno.EADDRINUSE:
            why = f"{served.address}:{number}/{protocol} is taken by another program of the host: stop it, or use another port"
        else:
            why = (
                f"listening on port {number} of the host needs a privilege: "
                f"run `sysctl -w net.ipv4.ip_unprivileged_port_start={number}` as root, or `kubeling up` as root"
            )
        if other > 65535:
            return why
        try:
            sock = listen(served.address, other, _KINDS[protocol])
        except OSError as second:
            return f"{why}; port {other} in its place cannot be had either: {second.strerror}"
        served.relays[key] = (other, self._relay(served, sock, node_port))
        return f"{why}; until then it is served on port {other}"

    def _relay(self, served: _Served, sock: socket.socket, node_port: int) -> TcpRelay | UdpRelay:
        make = TcpRelay if sock.type == socket.SOCK_STREAM else UdpRelay
        log.info("listening", address="{}:{}".format(*sock.getsockname()[:2]), node_port=node_port)
        return make(sock, node_port, served.targets, self._dialer, lambda: served.ranges)


class LocalProvider:
    """See :class:`kubeling.cloud.provider.Provider`. `options`: the flags --load-balancer-cidr, --dial-netns, --control-socket and --volumes."""

    name = "local"

    def __init__(self, options: Mapping[str, str], cluster: Cluster) -> None:
        network = ipaddress.ip_network(options.get("load-balancer-cidr") or DEFAULT_CIDR)
        self._balancers = LocalLoadBalancers(network, Dialer(options.get("dial-netns", "")), cluster)
        control = options.get("control-socket", "")
        self._machines = Machines(Supervisor(control)) if control else None
        folder = options.get("volumes", "")
        self._volumes = LocalVolumes(Path(folder)) if folder else None

    @property
    def load_balancers(self) -> LoadBalancers | None:
        return self._balancers

    @property
    def instances(self) -> Instances | None:
        """The supervisor owns the machines: without a way to it nothing is known of them."""
        return self._machines

    @property
    def zones(self) -> Zones | None:
        return None

    @property
    def routes(self) -> Routes | None:
        """kube-proxy programs them (host-gw)."""
        return None

    @property
    def volumes(self) -> Volumes | None:
        """In the folder that we are given."""
        return self._volumes

    @property
    def node_groups(self) -> NodeGroups | None:
        return self._machines

    async def changes(self) -> None:
        """Return when machines have changed."""
        if self._machines is None:
            await asyncio.Event().wait()
        else:
            await self._machines.changes()

    async def close(self) -> None:
        """Give up all listening sockets."""
        await self._balancers.close()
