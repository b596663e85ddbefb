"""Who runs where: the topology is data, so it is tested as data."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from kubeling.cluster import families, plan
from kubeling.cluster.pki import api_names
from kubeling.cluster.topology import (
    PORTS,
    ClusterSpec,
    Daemon,
    Layout,
    Node,
    Topology,
    missing_ports,
    next_worker,
    nodes_for,
    parse_node,
    spec_from_json,
    spec_to_json,
)
from kubeling.controllers.node_ipam import ranges_of


def topology(**spec: object) -> Topology:
    made = ClusterSpec("t", api_port=7443, **spec)  # type: ignore[arg-type]
    nodes = nodes_for(made)
    ports = {key: 20000 + n for n, key in enumerate(missing_ports(made, nodes, {}))}
    return Topology(made, nodes, Layout(Path("/home/u/.kubeling/t"), Path("/tmp/k")), ports, "/kubeling/t-1")


def flags(daemon: Daemon) -> dict[str, str]:
    return dict(arg.removeprefix("--").split("=", 1) for arg in daemon.args)


def find(found: Topology, node: str, name: str) -> dict[str, str]:
    return flags(next(d for d in plan.daemons(found, found.node(node)) if d.name == name))


def test_every_node_runs_what_its_role_needs() -> None:
    found = topology(control_planes=3, workers=2)
    ran = {node.name: [d.name for d in plan.daemons(found, node)] for node in found.nodes}
    control = ["etcdlite", "apiserver", "controllers", "scheduler", "dns", "kubeproxy"]
    assert ran == {
        "control-plane-1": [*control, "cloud"],
        "control-plane-2": control,
        "control-plane-3": control,
        "worker-1": ["crilite", "kubelet", "kubeproxy"],
        "worker-2": ["crilite", "kubelet", "kubeproxy"],
    }


def test_the_members_of_the_store_know_each_other_and_the_apiservers_them() -> None:
    found = topology(control_planes=3)
    members = "control-plane-1=https://172.30.0.11:2380,control-plane-2=https://172.30.0.12:2380,control-plane-3=https://172.30.0.13:2380"
    assert {find(found, f"control-plane-{n}", "etcdlite")["initial-cluster"] for n in (1, 2, 3)} == {members}
    servers = find(found, "control-plane-2", "apiserver")["etcd-servers"].split(",")
    assert servers[0] == "https://172.30.0.12:2379"
    assert len(servers) == 3


def test_workers_begin_at_different_apiservers() -> None:
    found = topology(control_planes=3, workers=3)
    firsts = [found.api_servers(node)[0] for node in found.of("worker")]
    assert firsts == ["https://172.30.0.11:6443", "https://172.30.0.12:6443", "https://172.30.0.13:6443"]
    assert all(len(found.api_servers(node)) == 3 for node in found.nodes)
    assert found.api_servers(found.node("control-plane-3"))[0] == "https://172.30.0.13:6443"


def test_host_mode_shares_one_address_and_no_port() -> None:
    found = topology(network="host", control_planes=3, workers=2)
    seen: list[str] = []
    for node in found.nodes:
        for daemon in plan.daemons(found, node):
            for name, value in flags(daemon).items():
                if name in ("secure-port", "port", "healthz-port"):
                    seen.append(value)
                if (name.startswith("listen-") and "fds" not in name) or name == "healthz-bind-address":
                    seen.append(value.rpartition(":")[2])
    assert len(seen) == len(set(seen))
    assert all("172.30" not in arg for node in found.nodes for d in plan.daemons(found, node) for arg in d.args)
    assert [d.name for n in found.nodes for d in plan.daemons(found, n)].count("kubeproxy") == 1


def test_host_mode_takes_all_addresses_from_the_clusters_own_range() -> None:
    spec = ClusterSpec("t", network="host", loopback=77)
    for value in (spec.service_cidr, spec.cluster_cidr, *spec.api_services, *spec.dns_services, spec.load_balancer_cidr):
        assert value.startswith("127.77.")


def test_another_runtime_replaces_ours() -> None:
    found = topology(runtime="unix:///run/containerd/containerd.sock")
    assert [d.name for d in plan.daemons(found, found.node("worker-1"))] == ["kubelet", "kubeproxy"]
    assert find(found, "worker-1", "kubelet")["container-runtime-endpoint"] == "unix:///run/containerd/containerd.sock"


def test_without_cgroups_the_daemons_hear_nothing_of_them() -> None:
    found = topology()
    assert find(found, "worker-1", "kubelet")["cgroup-root"] == "/kubeling/t-1/worker-1"
    assert "cgroup-root" not in find(replace(found, cgroup=""), "worker-1", "kubelet")


def test_only_the_apiserver_and_the_cloud_are_given_descriptors() -> None:
    found = topology()
    named = {d.name for n in found.nodes for d in plan.daemons(found, n) if any("{" in arg for arg in d.args)}
    assert named == {"apiserver", "cloud"}
    assert [d.name for n in found.nodes for d in plan.daemons(found, n) if d.on_host] == ["cloud"]


def test_a_new_worker_takes_the_lowest_free_number() -> None:
    nodes = [Node("control-plane", 1), Node("worker", 1), Node("worker", 3)]
    assert next_worker(nodes) == Node("worker", 2)
    assert next_worker([]) == Node("worker", 1)


@pytest.mark.parametrize("name", ["worker-12", "control-plane-3"])
def test_names_of_nodes_are_read_back(name: str) -> None:
    assert parse_node(name).name == name


@pytest.mark.parametrize("name", ["worker", "master-1", "worker-x", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a node"):
        parse_node(name)


def test_addresses_on_the_switch_never_meet() -> None:
    found = topology(control_planes=3, workers=230, ip_families=("IPv4", "IPv6"))
    nodes = found.nodes
    for number, network in enumerate(("172.30.0.0/24", "fd00:172:30::/64")):
        addresses = {ip_address(found.addresses(node)[number]) for node in nodes}
        assert len(addresses | {ip_address(found.spec.families[number].gateway)}) == len(nodes) + 1
        assert all(each in ip_network(network) for each in addresses)
    assert all(len(n.link) < 16 for n in nodes)


def test_a_spec_survives_the_disk_and_the_unknown() -> None:
    spec = ClusterSpec("t", 3, 2, "host", "unix:///x", 7443, 44, 4, ip_families=("IPv6", "IPv4"))
    assert spec_from_json({**json.loads(json.dumps(spec_to_json(spec))), "of-a-later-version": 1}) == spec
    assert spec_from_json({"name": "of an earlier one"}).ip_families == ("IPv4",)


def test_a_cluster_of_both_families_has_two_of_everything_and_talks_by_the_primary_one() -> None:
    found = topology(workers=1, ip_families=("IPv6", "IPv4"))
    assert found.api_servers() == ["https://[fd00:172:30::11]:6443"]
    assert find(found, "worker-1", "kubelet")["node-ip"] == "fd00:172:30::21,172.30.0.21"
    assert find(found, "worker-1", "kubelet")["cluster-dns"] == "fd00:10:96::a"
    assert find(found, "worker-1", "kubeproxy")["cluster-cidr"] == "fd00:10:244::/56,10.244.0.0/16"
    assert find(found, "control-plane-1", "dns")["listen"] == "[fd00:172:30::11]:53,172.30.0.11:53"
    assert find(found, "control-plane-1", "etcdlite")["listen-client-urls"] == "https://[fd00:172:30::11]:2379"
    controllers = find(found, "control-plane-1", "controllers")
    ranges = ranges_of(
        controllers["cluster-cidr"], 0, int(controllers["node-cidr-mask-size-ipv4"]), int(controllers["node-cidr-mask-size-ipv6"])
    )
    assert [(str(each.network), each.mask) for each in ranges] == [("fd00:10:244::/56", 64), ("10.244.0.0/16", 24)]
    for name in ("172.30.0.11", "fd00:172:30::11", "10.96.0.1", "fd00:10:96::1"):
        assert name in api_names(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [("IPv4", ["IPv4"]), ("ipv6", ["IPv6"]), ("dual", ["IPv4", "IPv6"]), ("IPv6, IPv4", ["IPv6", "IPv4"])],
)
def test_families_by_name(text: str, found: list[str]) -> None:
    assert list(families.parse(text)) == found


@pytest.mark.parametrize("text", ["", "IPv5", "IPv4,IPv4", "IPv4,"])
def test_other_families_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="IPv4, IPv6, or both"):
        families.parse(text)


def test_the_port_book_is_filled_once() -> None:
    spec = ClusterSpec("t", network="host")
    wanted = missing_ports(spec, nodes_for(spec), {"worker-1/kubelet": 1})
    assert "worker-1/kubelet" not in wanted
    assert len(wanted) == len(PORTS["control-plane"]) + len(PORTS["worker"]) - 1
    assert missing_ports(ClusterSpec("t"), nodes_for(ClusterSpec("t")), {}) == []
