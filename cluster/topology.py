"""What a cluster consists of: nodes, addresses, ports and files, as data, computed from a :class:`ClusterSpec`. :mod:`plan` says what runs on it.

Two shapes of the same thing. In ``netns`` mode every node is a set of namespaces with an address of its own on the cluster's switch, so every
daemon has its well-known port. In ``host`` mode all share 127.0.0.1, and the ports come from a book that was filled once with free ones. Either
way each cluster owns one 127.X.0.0/16 of the host's loopback addresses: LoadBalancers come out of its first /24, and in host mode pods and Services
out of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kubeling.cluster import families, groups
from kubeling.cluster.families import Family
from kubeling.cluster.groups import Membership, NodeGroup

Role = Literal["control-plane", "worker"]

MTU = 1500
CLUSTER_CIDR = families.IPV4.cluster_cidr
API_SERVICE = families.IPV4.api_service
DOMAIN = "cluster.local"
CRI_SOCKET = "/run/kubeling/crilite.sock"
MAX_WORKERS = 230
MAX_HOLLOW = 10_000
#: As whom all hollow nodes come to the apiserver. It is no member of system:nodes, whose members may each do things to themselves alone.
HOLLOW_USER = "system:hollow-nodes"

#: The ports of netns mode, and the list of what host mode needs a port for.
PORTS: dict[Role, dict[str, int]] = {
    "control-plane": {
        "etcd-client": 2379,
        "etcd-peer": 2380,
        "etcd-metrics": 2381,
        "apiserver": 6443,
        "scheduler": 10259,
        "controllers": 10257,
        "dns": 53,
        "dns-health": 8181,
        "kubeproxy-health": 10256,
        "cloud": 10258,
        "kubelet": 10250,
        "kubelet-health": 10248,
        "hollow": 10350,
        "hollow-health": 10348,
    },
    "worker": {"kubelet": 10250, "kubelet-health": 10248, "kubeproxy-health": 10256},
}

#: Two clusters never share a loopback /16; below 10 and above 250 is left to others.
LOOPBACK_SLOTS = range(10, 250)


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What the user asked for. `loopback` is X of the cluster's 127.X.0.0/16."""

    name: str
    control_planes: int = 1
    workers: int = 1
    network: str = "netns"
    runtime: str = "crilite"
    api_port: int = 0
    loopback: int = LOOPBACK_SLOTS.start
    verbosity: int = 0
    #: The control plane runs as static pods of its nodes' kubelets.
    static_pods: bool = False
    #: What the cluster autoscaler may add machines to, and its flags.
    groups: tuple[NodeGroup, ...] = ()
    autoscaler: Mapping[str, str] = field(default_factory=dict)
    #: What `--node-config` says: flags of crilite, and fields of the kubelets' configuration.
    runtime_flags: tuple[str, ...] = ()
    kubelet_config: Mapping[str, Any] = field(default_factory=dict)
    #: How many hollow nodes there are besides, and whether there is a file that says of what kind.
    hollow_nodes: int = 0
    hollow_configured: bool = False
    #: What `--extra-config` says, see :mod:`kubeling.cluster.extra`.
    extra: tuple[str, ...] = ()
    #: The primary one first; both need nodes that have namespaces of their own.
    ip_families: tuple[str, ...] = (families.IPV4.name,)
    #: What `--uplink` says, see :mod:`kubeling.cluster.uplink`; empty: there is no way out.
    uplink: str = ""

    @property
    def isolated(self) -> bool:
        """Whether nodes have namespaces of their own."""
        return self.network == "netns"

    @property
    def families(self) -> list[Family]:
        """Where nodes have a switch: its IP families, the primary one first."""
        return [families.find(each) for each in self.ip_families]

    @property
    def service_cidr(self) -> str:
        """The range, or one of each family with commas between them; likewise `cluster_cidr`."""
        return ",".join(each.service_cidr for each in self.families) if self.isolated else f"127.{self.loopback}.128.0/20"

    @property
    def cluster_cidr(self) -> str:
        return ",".join(each.cluster_cidr for each in self.families) if self.isolated else f"127.{self.loopback}.64.0/18"

    @property
    def api_services(self) -> list[str]:
        """The addresses at which pods find the API, the main one first; likewise `dns_services`."""
        return [each.api_service for each in self.families] if self.isolated else [f"127.{self.loopback}.128.1"]

    @property
    def dns_services(self) -> list[str]:
        return [each.dns_service for each in self.families] if self.isolated else [f"127.{self.loopback}.128.10"]

    @property
    def load_balancer_cidr(self) -> str:
        return f"127.{self.loopback}.0.0/24"

    @property
    def server(self) -> str:
        """The API as the host reaches it."""
        return f"https://127.0.0.1:{self.api_port}"


@dataclass(frozen=True, slots=True)
class Node:
    """One node; `number` counts from 1 within its role."""

    role: Role
    number: int

    @property
    def name(self) -> str:
        return f"{self.role}-{self.number}"

    @property
    def place(self) -> int:
        """Its number on the cluster's switch."""
        return (10 if self.role == "control-plane" else 20) + self.number

    @property
    def link(self) -> str:
        """The name of its cable at the switch."""
        return f"{'cp' if self.role == 'control-plane' else 'w'}{self.number}"


@dataclass(frozen=True, slots=True)
class Probe:
    """Where a daemon tells how it is: plain HTTP, or HTTPS that we do not verify; dialled from inside the node."""

    host: str
    port: int
    path: str = "/healthz"
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Daemon:
    """One process to keep running. `{api}` in an argument stands for the number of the inherited listening socket of the API, `{switch}`
    for that of the switch's network namespace."""

    name: str
    node: str
    args: tuple[str, ...]
    probe: Probe | None = None
    #: Runs beside the supervisor, in the host's network namespace, not in its node.
    on_host: bool = False
    needs: tuple[str, ...] = ()
    #: Not started by us, but by its node's kubelet, from a manifest.
    static: bool = False
    #: Where its `main(argv)` is; by default that of the room of its name.
    entry: str = ""

    @property
    def module(self) -> str:
        return self.entry or f"kubeling.{self.name}.__main__"

    @property
    def key(self) -> str:
        """How it is called in `logs` and `status`."""
        return f"{self.node}/{self.name}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one cluster; see :mod:`kubeling.cluster.state`. `run` is where host mode keeps its sockets (their paths must be short)."""

    root: Path
    run: Path = Path("/run/kubeling")

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def context(self) -> Path:
        """Which kubeconfig of the user's we are merged into, and what was current in it before."""
        return self.root / "context.json"

    @property
    def control_socket(self) -> Path:
        return self.root / "control.sock"

    @property
    def rbac(self) -> Path:
        """Roles and bindings of our own."""
        return self.root / "rbac.json"

    @property
    def admin_kubeconfig(self) -> Path:
        return self.kubeconfig("admin")

    @property
    def hollow_config(self) -> Path:
        """What hollow nodes are to be like."""
        return self.root / "hollow.yaml"

    @property
    def resolv_conf(self) -> Path:
        """Whom the cluster's DNS asks for names that are not its own; only where there is an uplink."""
        return self.root / "resolv.conf"

    @property
    def extra(self) -> Path:
        """The files of `--extra-config`."""
        return self.root / "extra"

    def kubeconfig(self, component: str) -> Path:
        return self.root / "kubeconfig" / f"{component}.conf"

    def node(self, name: str) -> Path:
        return self.root / "nodes" / name

    def log(self, key: str) -> Path:
        return self.logs / f"{key.replace('/', '-')}.log"


@dataclass(frozen=True, slots=True)
class Topology:
    """The cluster as it is meant to be: the spec, its nodes, and where things are."""

    spec: ClusterSpec
    nodes: tuple[Node, ...]
    layout: Layout
    #: host mode: "<node>/<purpose>" -> port
    ports: Mapping[str, int] = field(default_factory=dict)
    #: The cgroup that all of the cluster lives in, relative to each controller's root; empty where cgroups may not be written.
    cgroup: str = ""
    #: The nodes that are machines of a group, by name.
    machines: Mapping[str, Membership] = field(default_factory=dict)

    def group_of(self, node: Node) -> NodeGroup | None:
        """The group that the node belongs to, if any."""
        member = self.machines.get(node.name)
        return next((each for each in self.spec.groups if member is not None and each.name == member.group), None)

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def of(self, role: Role) -> list[Node]:
        return [node for node in self.nodes if node.role == role]

    def addresses(self, node: Node) -> list[str]:
        """One of each family, the main one first."""
        return [each.address(node.place) for each in self.spec.families] if self.spec.isolated else ["127.0.0.1"]

    def address(self, node: Node) -> str:
        """The main one."""
        return self.addresses(node)[0]

    def at(self, node: Node, purpose: str) -> str:
        """`address:port` of what `node` has at the port for `purpose`."""
        return families.at(self.address(node), self.port(node, purpose))

    def port(self, node: Node, purpose: str) -> int:
        if self.spec.isolated:
            return PORTS[node.role][purpose]
        return self.ports[f"{node.name}/{purpose}"]

    def cri_endpoint(self, node: Node) -> str:
        if self.spec.runtime != "crilite":
            return self.spec.runtime
        return f"unix://{CRI_SOCKET}" if self.spec.isolated else f"unix://{self.layout.run / node.name}.sock"

    def api_servers(self, node: Node | None = None) -> list[str]:
        """The apiservers as the nodes reach them; a node's own comes first, workers begin at different ones."""
        if not self.spec.isolated:
            return [self.spec.server]
        urls = [f"https://{self.at(n, 'apiserver')}" for n in self.of("control-plane")]
        start = (node.number - 1) % len(urls) if node is not None else 0
        return urls[start:] + urls[:start]


def nodes_for(spec: ClusterSpec) -> tuple[Node, ...]:
    """The nodes that a new cluster begins with."""
    control = [Node("control-plane", n + 1) for n in range(spec.control_planes)]
    return (*control, *(Node("worker", n + 1) for n in range(spec.workers)))


def next_worker(nodes: Sequence[Node]) -> Node:
    """The worker to add next: the lowest number that is free."""
    taken = {node.number for node in nodes if node.role == "worker"}
    return Node("worker", next(n for n in range(1, MAX_WORKERS + 2) if n not in taken))


def next_machine(nodes: Sequence[Node], last: int) -> Node:
    """The worker for a machine of a group: a number that was not in use lately, so that nobody takes its Node for that of a machine that has just gone."""
    taken = {node.number for node in nodes if node.role == "worker"}
    order = [*range(max(last, *taken, 0) + 1, MAX_WORKERS + 1), *range(1, MAX_WORKERS + 2)]
    return Node("worker", next(n for n in order if n not in taken))


def parse_node(name: str) -> Node:
    """The inverse of :attr:`Node.name`."""
    role, _, number = name.rpartition("-")
    if number.isdecimal():
        if role == "control-plane":
            return Node("control-plane", int(number))
        if role == "worker":
            return Node("worker", int(number))
    raise ValueError(f"{name!r} is not the name of a node: control-plane-N or worker-N")


def missing_ports(spec: ClusterSpec, nodes: Sequence[Node], book: Mapping[str, int]) -> list[str]:
    """The entries that the port book of host mode still lacks."""
    if spec.isolated:
        return []
    return [key for node in nodes for purpose in PORTS[node.role] if (key := f"{node.name}/{purpose}") not in book]


def spec_to_json(spec: ClusterSpec) -> dict[str, Any]:
    return asdict(spec)


def spec_from_json(raw: Mapping[str, Any]) -> ClusterSpec:
    known = {key: raw[key] for key in ClusterSpec.__dataclass_fields__ if key in raw}
    found = {"groups": tuple(groups.from_json(each) for each in raw.get("groups", ()))}
    for key in {"ip_families", "runtime_flags", "extra"} & known.keys():
        found[key] = tuple(known[key])
    return ClusterSpec(**{**known, **found})
