"""Which daemons a node runs, with which flags: pure, and the one place where the flags of all daemons stand side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kubeling.cluster import groups, nodeconfig
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
    spec, layout, pki, address = topology.spec, topology.layout, topology.layout.pki, topology.address(node)
    first = topology.of("control-plane")[0] == node

    def port(purpose: str) -> int:
        return topology.port(node, purpose)

    def peer(n: Node) -> str:
        return f"https://{topology.at(n, 'etcd-peer')}"

    def client(n: Node) -> str:
        return f"https://{topology.at(n, 'etcd-client')}"

    def made(name: str, *args: str, probe: Probe | None = None, on_host: bool = False, needs: tuple[str, ...] = ()) -> Daemon:
        return Daemon(name, node.name, (*args, *_common(topology)), probe, on_host, needs)

    def leader_elected(name: str, *args: str, purpose: str = "", bind: str = address, **rest: Any) -> Daemon:
        number = port(purpose or name)
        return made(
            name,
            f"--kubeconfig={layout.kubeconfig(f'{node.name}-{name}')}",
            "--leader-elect=true",
            f"--bind-address={bind}",
            f"--secure-port={number}",
            *args,
            probe=Probe(bind, number),
            **rest,
        )

    others = [n for n in topology.of("control-plane") if n != node]
    etcd = pki / "etcd"
    found = [
        made(
            "etcdlite",
            f"--name={node.name}",
            f"--data-dir={layout.node(node.name) / 'etcd'}",
            f"--listen-client-urls={client(node)}",
            f"--advertise-client-urls={client(node)}",
            f"--listen-peer-urls={peer(node)}",
            f"--initial-advertise-peer-urls={peer(node)}",
            "--initial-cluster=" + ",".join(f"{n.name}={peer(n)}" for n in topology.of("control-plane")),
            "--initial-cluster-state=new",
            f"--cert-file={etcd / f'{node.name}.crt'}",
            f"--key-file={etcd / f'{node.name}.key'}",
            f"--trusted-ca-file={etcd / 'ca.crt'}",
            "--client-cert-auth=true",
            f"--peer-cert-file={etcd / f'{node.name}.crt'}",
            f"--peer-key-file={etcd / f'{node.name}.key'}",
            f"--peer-trusted-ca-file={etcd / 'ca.crt'}",
            "--peer-client-cert-auth=true",
            f"--listen-metrics-urls=http://{topology.at(node, 'etcd-metrics')}",
            probe=Probe(address, port("etcd-metrics"), "/health"),
        ),
        made(
            "apiserver",
            "--etcd-servers=" + ",".join(client(n) for n in (node, *others)),
            f"--etcd-cafile={etcd / 'ca.crt'}",
            f"--etcd-certfile={pki / 'apiserver-etcd-client.crt'}",
            f"--etcd-keyfile={pki / 'apiserver-etcd-client.key'}",
            f"--bind-address={address}",
            f"--secure-port={port('apiserver')}",
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
            probe=Probe(address, port("apiserver"), "/readyz", tls=True),
            needs=("etcdlite",),
        ),
        leader_elected(
            "controllers",
            f"--cluster-cidr={spec.cluster_cidr}",
            *(f"--node-cidr-mask-size-{each.name.lower()}={each.node_bits}" for each in spec.families),
            f"--service-cluster-ip-range={spec.service_cidr}",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--service-account-private-key-file={pki / 'sa.key'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
            needs=("apiserver",),
        ),
        leader_elected("scheduler", needs=_LATER),
        made(
            "dns",
            f"--kubeconfig={layout.kubeconfig(f'{node.name}-dns')}",
            "--listen=" + ",".join(at(each, port("dns")) for each in topology.addresses(node)),
            f"--domain={DOMAIN}",
            f"--endpoint-name={node.name}",
            f"--healthz-bind-address={topology.at(node, 'dns-health')}",
            "--forward=none" if spec.isolated else "--forward=/etc/resolv.conf",
            probe=Probe(address, port("dns-health")),
            needs=_LATER,
        ),
    ]
    if spec.isolated or first:
        # In host mode one proxy serves all: they would only fight for the same addresses.
        found.append(_kubeproxy(topology, node))
    if first and spec.hollow_nodes:
        found.append(_hollow(topology, node))
    if first:
        dial = ("--dial-netns=/proc/self/fd/{switch}",) if spec.isolated else ()
        found.append(
            leader_elected(
                "cloud",
                "--cloud-provider=local",
                f"--load-balancer-cidr={spec.load_balancer_cidr}",
                f"--control-socket={layout.control_socket}",
                *dial,
                *_autoscaler(topology),
                bind=f"127.{spec.loopback}.1.1" if spec.isolated else "127.0.0.1",
                on_host=True,
                needs=_LATER,
            )
        )
    return found


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
            *_common(topology),
        ),
        Probe(address, port),
        needs=_LATER,
    )


def _worker(topology: Topology, node: Node) -> list[Daemon]:
    group = topology.group_of(node)
    found = _node_agents(topology, node, groups.kubelet_flags(group) if group else ())
    if topology.spec.isolated:
        found.append(_kubeproxy(topology, node))
    return found


def _node_agents(
    topology: Topology, node: Node, flags: tuple[str, ...] = (), needs: tuple[str, ...] = ("apiserver",)
) -> list[Daemon]:
    """The runtime and the kubelet."""
    spec, layout, home = topology.spec, topology.layout, topology.layout.node(node.name)
    address, endpoint = topology.address(node), topology.cri_endpoint(node)
    cgroup = (f"--cgroup-root={topology.cgroup}/{node.name}",) if topology.cgroup else ()
    found = []
    if spec.runtime == "crilite":
        state = layout.run / ("crilite" if spec.isolated else f"{node.name}-crilite")
        mode = (
            ("--handlers=native,process", "--default-handler=native", f"--stream-address={address}")
            if spec.isolated
            else (
                "--handlers=process",
                "--default-handler=process",
                "--stream-address=127.0.0.1",
                f"--pod-address-range=127.{spec.loopback}.{63 + node.number}.0/24",
            )
        )
        found.append(
            Daemon(
                "crilite",
                node.name,
                (
                    f"--listen={endpoint}",
                    f"--root={home / 'crilite'}",
                    f"--state={state}",
                    # The built-in image shows the node's files to every pod: not our keys.
                    f"--hide={layout.root.parent}",
                    *cgroup,
                    *mode,
                    *spec.runtime_flags,
                    *_common(topology),
                ),
                # Not for itself: what is forked before the zygote has imported everything shares little of it.
                needs=needs,
            )
        )
    kubelet, health = topology.port(node, "kubelet"), topology.port(node, "kubelet-health")
    found.append(
        Daemon(
            "kubelet",
            node.name,
            (
                f"--kubeconfig={layout.kubeconfig(f'{node.name}-kubelet')}",
                f"--container-runtime-endpoint={endpoint}",
                f"--hostname-override={node.name}",
                f"--node-ip={','.join(topology.addresses(node))}",
                f"--root-dir={home / 'kubelet'}",
                f"--pod-manifest-path={home / 'manifests'}",
                f"--cluster-dns={spec.dns_services[0]}",
                f"--cluster-domain={DOMAIN}",
                f"--address={address}",
                f"--port={kubelet}",
                f"--healthz-port={health}",
                f"--tls-cert-file={layout.pki / f'kubelet-{node.name}.crt'}",
                f"--tls-private-key-file={layout.pki / f'kubelet-{node.name}.key'}",
                f"--client-ca-file={layout.pki / 'ca.crt'}",
                f"--config-dir={home / nodeconfig.FOLDER}",
                # On the host's own mounts nothing may be left behind.
                *(() if spec.isolated else ("--mount-volumes=false",)),
                *cgroup,
                *flags,
                *_common(topology),
            ),
            Probe("127.0.0.1", health),
            # The runtime it waits for itself, and registers the node meanwhile.
            needs=needs,
        )
    )
    return found
