"""Which daemons a node runs, with which flags: pure, and the one place where the flags of all daemons stand side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kubeling.cluster import extra, families, groups, nodeconfig, uplink
from kubeling.cluster.families import at
from kubeling.cluster.topology import DOMAIN, Daemon, Node, Probe, Topology

#: What is a static pod with `--static-pods`.
STATIC = frozenset({"etcdlite", "apiserver", "controllers", "scheduler"})
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
_CONTROL_PLANE_FLAGS = (f"--register-with-taints={CONTROL_PLANE}=:NoSchedule",)
#: What a node's becoming Ready does not wait for. The controllers (which give it its pod addresses), the runtime and the kubelet are forked first.
_LATER = ("apiserver", "controllers")


def daemons(topology: Topology, node: Node) -> list[Daemon]:
    """All that runs for `node`, in the order in which it is started."""
    found = _of_node(topology, node)
    words = topology.spec.extra
    return [replace(each, args=(*each.args, *extra.flags(words, each.name, topology.layout))) for each in found]


def _of_node(topology: Topology, node: Node) -> list[Daemon]:
    if node.role == "worker":
        return _worker(topology, node)
    found = _control_plane(topology, node)
    if topology.spec.static_pods:
        found = [replace(each, static=each.name in STATIC) for each in found]
        # Nothing of the control plane is there before these: they wait for nobody but each other.
        found = [*_node_agents(topology, node, _CONTROL_PLANE_FLAGS, needs=()), *found]
    return found


def _common(topology: Topology) -> tuple[str, ...]:
    return (f"--v={topology.spec.verbosity}",) if topology.spec.verbosity else ()


def _control_plane(topology: Topology, node: Node) -> list[Daemon]:
    first = topology.of("control-plane")[0] == node
    found = [
        _etcdlite(topology, node),
        _apiserver(topology, node),
        _controllers(topology, node),
        _leader_elected(topology, node, "scheduler", topology.address(node), needs=_LATER),
        _dns(topology, node),
    ]
    if topology.spec.isolated or first:
        # In host mode one proxy serves all: they would only fight for the same addresses.
        found.append(_kubeproxy(topology, node))
    if first and topology.spec.hollow_nodes:
        found.append(_hollow(topology, node))
    if first and topology.spec.uplink and not uplink.parse(topology.spec.uplink).link:
        found.append(_slirp(topology, node))
    if first:
        found.append(_cloud(topology, node))
    return found


def _leader_elected(topology: Topology, node: Node, name: str, bind: str, *args: str, **rest: Any) -> Daemon:
    """One that speaks to the API and works while it leads; `bind` is where its health is asked."""
    port = topology.port(node, name)
    flags = (
        f"--kubeconfig={topology.layout.kubeconfig(f'{node.name}-{name}')}",
        "--leader-elect=true",
        f"--bind-address={bind}",
        f"--secure-port={port}",
    )
    return Daemon(name, node.name, (*flags, *args, *_common(topology)), Probe(bind, port), **rest)


def _etcd_client(topology: Topology, node: Node) -> str:
    return f"https://{topology.at(node, 'etcd-client')}"


def _etcd_peer(topology: Topology, node: Node) -> str:
    return f"https://{topology.at(node, 'etcd-peer')}"


def _etcdlite(topology: Topology, node: Node) -> Daemon:
    layout, keys = topology.layout, topology.layout.pki / "etcd"
    client, peer = _etcd_client(topology, node), _etcd_peer(topology, node)
    return Daemon(
        "etcdlite",
        node.name,
        (
            f"--name={node.name}",
            f"--data-dir={layout.node(node.name) / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            "--initial-cluster=" + ",".join(f"{n.name}={_etcd_peer(topology, n)}" for n in topology.of("control-plane")),
            "--initial-cluster-state=new",
            f"--cert-file={keys / f'{node.name}.crt'}",
            f"--key-file={keys / f'{node.name}.key'}",
            f"--trusted-ca-file={keys / 'ca.crt'}",
            "--client-cert-auth=true",
            f"--peer-cert-file={keys / f'{node.name}.crt'}",
            f"--peer-key-file={keys / f'{node.name}.key'}",
            f"--peer-trusted-ca-file={keys / 'ca.crt'}",
            "--peer-client-cert-auth=true",
            f"--listen-metrics-urls=http://{topology.at(node, 'etcd-metrics')}",
            *_common(topology),
        ),
        Probe(topology.address(node), topology.port(node, "etcd-metrics"), "/health"),
    )


def _apiserver(topology: Topology, node: Node) -> Daemon:
    """Its own node's member of the store comes first."""
    spec, layout, pki = topology.spec, topology.layout, topology.layout.pki
    address, port = topology.address(node), topology.port(node, "apiserver")
    others = [n for n in topology.of("control-plane") if n != node]
    return Daemon(
        "apiserver",
        node.name,
        (
            "--etcd-servers=" + ",".join(_etcd_client(topology, n) for n in (node, *others)),
            f"--etcd-cafile={pki / 'etcd' / 'ca.crt'}",
            f"--etcd-certfile={pki / 'apiserver-etcd-client.crt'}",
            f"--etcd-keyfile={pki / 'apiserver-etcd-client.key'}",
            f"--bind-address={address}",
            f"--secure-port={port}",
            f"--advertise-address={address}",
            "--listen-fds={api}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            "--authorization-mode=Node,RBAC",
            "--enable-bootstrap-token-auth=true",
            f"--rbac-bootstrap-file={layout.rbac}",
            f"--service-account-key-file={pki / 'sa.pub'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
            f"--service-cluster-ip-range={spec.service_cidr}",
            "--service-node-port-range=30000-32767",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
            f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
            f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            *_common(topology),
        ),
        Probe(address, port, "/readyz", tls=True),
        needs=("etcdlite",),
    )


def _controllers(topology: Topology, node: Node) -> Daemon:
    spec, pki = topology.spec, topology.layout.pki
    return _leader_elected(
        topology,
        node,
        "controllers",
        topology.address(node),
        f"--cluster-cidr={spec.cluster_cidr}",
        *(f"--node-cidr-mask-size-{each.name.lower()}={each.node_bits}" for each in spec.families),
        f"--service-cluster-ip-range={spec.service_cidr}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'sa.key'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        needs=("apiserver",),
    )


def _dns(topology: Topology, node: Node) -> Daemon:
    port = topology.port(node, "dns")
    return Daemon(
        "dns",
        node.name,
        (
            f"--kubeconfig={topology.layout.kubeconfig(f'{node.name}-dns')}",
            "--listen=" + ",".join(at(each, port) for each in topology.addresses(node)),
            f"--domain={DOMAIN}",
            f"--endpoint-name={node.name}",
            f"--healthz-bind-address={topology.at(node, 'dns-health')}",
            f"--forward={_forward(topology)}",
            *_common(topology),
        ),
        Probe(topology.address(node), topology.port(node, "dns-health")),
        needs=_LATER,
    )


def _forward(topology: Topology) -> str:
    """Whom the cluster's DNS asks: in host mode those whom the host asks, else whoever is behind the uplink."""
    if not topology.spec.isolated:
        return "/etc/resolv.conf"
    return str(topology.layout.resolv_conf) if topology.spec.uplink else "none"


def _slirp(topology: Topology, node: Node) -> Daemon:
    """The cluster's way out by the host's sockets."""
    flags = ["--switch-fd={switch}"]
    flags += ["--host-loopback"] if uplink.parse(topology.spec.uplink).host_loopback else []
    flags += ["--ipv6"] if families.IPV6 in topology.spec.families else []
    return Daemon("uplink", node.name, tuple(flags), on_host=True, entry="kubeling.cluster.slirp")


def _cloud(topology: Topology, node: Node) -> Daemon:
    """It is on the host, where the load balancers' addresses are, and dials nodes through the switch."""
    spec = topology.spec
    return _leader_elected(
        topology,
        node,
        "cloud",
        f"127.{spec.loopback}.1.1" if spec.isolated else "127.0.0.1",
        "--cloud-provider=local",
        f"--load-balancer-cidr={spec.load_balancer_cidr}",
        f"--control-socket={topology.layout.control_socket}",
        *(("--dial-netns=/proc/self/fd/{switch}",) if spec.isolated else ()),
        *_autoscaler(topology),
        on_host=True,
        needs=_LATER,
    )


def _hollow(topology: Topology, node: Node) -> Daemon:
    """All hollow nodes: they are at the address of the control plane's first node."""
    layout, address = topology.layout, topology.address(node)
    health = topology.port(node, "hollow-health")
    return Daemon(
        "hollow",
        node.name,
        (
            f"--kubeconfig={layout.kubeconfig(f'{node.name}-hollow')}",
            f"--nodes={topology.spec.hollow_nodes}",
            *((f"--config={layout.hollow_config}",) if topology.spec.hollow_configured else ()),
            f"--node-ip={address}",
            f"--port={topology.port(node, 'hollow')}",
            f"--tls-cert-file={layout.pki / 'hollow.crt'}",
            f"--tls-private-key-file={layout.pki / 'hollow.key'}",
            f"--client-ca-file={layout.pki / 'ca.crt'}",
            f"--healthz-bind-address={address}",
            f"--healthz-port={health}",
            *_common(topology),
        ),
        Probe(address, health),
        needs=_LATER,
        entry="kubeling.kubelet.hollow.__main__",
    )


def _autoscaler(topology: Topology) -> tuple[str, ...]:
    """The flags of the cluster autoscaler; none where there is nothing that it might scale."""
    spec = topology.spec
    return ("--autoscale=true", *(f"--{name}={value}" for name, value in spec.autoscaler.items())) if spec.groups else ()


def _kubeproxy(topology: Topology, node: Node) -> Daemon:
    spec = topology.spec
    address, port = topology.address(node), topology.port(node, "kubeproxy-health")
    return Daemon(
        "kubeproxy",
        node.name,
        (
            f"--kubeconfig={topology.layout.kubeconfig(f'{node.name}-kubeproxy')}",
            f"--hostname-override={node.name}",
            f"--node-ip={','.join(topology.addresses(node))}",
            f"--proxy-mode={'auto' if spec.isolated else 'userspace'}",
            f"--cluster-cidr={spec.cluster_cidr}",
            f"--healthz-bind-address={at(address, port)}",
            f"--pod-routes={'true' if spec.isolated else 'false'}",
            *_masquerade(topology),
            *_common(topology),
        ),
        Probe(address, port),
        needs=_LATER,
    )


def _masquerade(topology: Topology) -> tuple[str, ...]:
    """With an uplink, pods have their node's address outside of the cluster's own networks."""
    if not topology.spec.uplink:
        return ()
    return (f"--non-masquerade-cidr={','.join(uplink.inside(topology.spec.families))}",)


def _worker(topology: Topology, node: Node) -> list[Daemon]:
    group = topology.group_of(node)
    found = _node_agents(topology, node, groups.kubelet_flags(group) if group else ())
    if topology.spec.isolated:
        found.append(_kubeproxy(topology, node))
    return found


def _node_agents(
    topology: Topology, node: Node, flags: tuple[str, ...] = (), needs: tuple[str, ...] = ("apiserver",)
) -> list[Daemon]:
    """The runtime, where it is ours, and the kubelet."""
    kubelet = _kubelet(topology, node, flags, needs)
    return [_crilite(topology, node, needs), kubelet] if topology.spec.runtime == "crilite" else [kubelet]


def _cgroup(topology: Topology, node: Node) -> tuple[str, ...]:
    return (f"--cgroup-root={topology.cgroup}/{node.name}",) if topology.cgroup else ()


def _crilite(topology: Topology, node: Node, needs: tuple[str, ...]) -> Daemon:
    """The runtime, which needs nothing for itself; but what is forked before the zygote has imported everything shares little of it."""
    spec, layout = topology.spec, topology.layout
    if spec.isolated:
        state = layout.run / "crilite"
        mode = ["--handlers=native,process", "--default-handler=native", f"--stream-address={topology.address(node)}"]
    else:
        state = layout.run / f"{node.name}-crilite"
        addresses = f"--pod-address-range=127.{spec.loopback}.{63 + node.number}.0/24"
        mode = ["--handlers=process", "--default-handler=process", "--stream-address=127.0.0.1", addresses]
    return Daemon(
        "crilite",
        node.name,
        (
            f"--listen={topology.cri_endpoint(node)}",
            f"--root={layout.node(node.name) / 'crilite'}",
            f"--state={state}",
            # The built-in image shows the node's files to every pod: not our keys.
            f"--hide={layout.root.parent}",
            *_cgroup(topology, node),
            *mode,
            *spec.runtime_flags,
            *_common(topology),
        ),
        needs=needs,
    )


def _kubelet(topology: Topology, node: Node, flags: tuple[str, ...], needs: tuple[str, ...]) -> Daemon:
    """The agent. The runtime it waits for itself, and registers the node meanwhile."""
    layout, home = topology.layout, topology.layout.node(node.name)
    health = topology.port(node, "kubelet-health")
    return Daemon(
        "kubelet",
        node.name,
        (
            f"--kubeconfig={layout.kubeconfig(f'{node.name}-kubelet')}",
            f"--container-runtime-endpoint={topology.cri_endpoint(node)}",
            f"--hostname-override={node.name}",
            f"--node-ip={','.join(topology.addresses(node))}",
            f"--root-dir={home / 'kubelet'}",
            f"--pod-manifest-path={home / 'manifests'}",
            f"--cluster-dns={topology.spec.dns_services[0]}",
            f"--cluster-domain={DOMAIN}",
            f"--address={topology.address(node)}",
            f"--port={topology.port(node, 'kubelet')}",
            f"--healthz-port={health}",
            f"--tls-cert-file={layout.pki / f'kubelet-{node.name}.crt'}",
            f"--tls-private-key-file={layout.pki / f'kubelet-{node.name}.key'}",
            f"--client-ca-file={layout.pki / 'ca.crt'}",
            f"--config-dir={home / nodeconfig.FOLDER}",
            # On the host's own mounts nothing may be left behind.
            *(() if topology.spec.isolated else ("--mount-volumes=false",)),
            *_cgroup(topology, node),
            *flags,
            *_common(topology),
        ),
        Probe("127.0.0.1", health),
        needs=needs,
    )
