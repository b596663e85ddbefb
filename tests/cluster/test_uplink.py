"""What `--uplink` says, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeling.cluster import plan, uplink
from kubeling.cluster.families import IPV4, IPV6
from kubeling.cluster.topology import ClusterSpec, Layout, Topology, nodes_for, spec_from_json, spec_to_json
from kubeling.cluster.uplink import Uplink


@pytest.mark.parametrize(
    "text",
    [
        "user",
        "user,host-loopback",
        "link=eth1",
        "link=eth1,address=192.0.2.2/24,address=2001:db8::2/64,gateway=192.0.2.1,gateway=fe80::1,dns=192.0.2.53",
    ],
)
def test_what_is_read_is_written_the_same(text: str) -> None:
    assert str(uplink.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("eth1", "user, or link=NAME"),
        ("link=", "user, or link=NAME"),
        ("user,dns=192.0.2.1", "host-loopback"),
        ("link=eth1,address=192.0.2.2", "no prefix length"),
        ("link=eth1,address=192.0.2.300/24", "192.0.2.300"),
        ("link=eth1,gateway=192.0.2.0/24", "192.0.2.0/24"),
        ("link=eth1,mtu=9000", "address=, gateway= or dns="),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        uplink.parse(text)


def test_names_are_asked_of_whoever_is_behind_the_uplink() -> None:
    assert uplink.resolv_conf(Uplink(), [IPV4, IPV6]) == "nameserver 10.0.2.3\nnameserver fd00::3\n"
    assert uplink.resolv_conf(Uplink("eth1", dns=("192.0.2.53",)), [IPV4]) == "nameserver 192.0.2.53\n"


def flags(spec: ClusterSpec, name: str) -> list[tuple[str, ...]]:
    topology = Topology(spec, nodes_for(spec), Layout(Path("/somewhere")))
    return [each.args for node in topology.nodes for each in plan.daemons(topology, node) if each.name == name]


def test_daemons_are_told_of_it() -> None:
    spec = spec_from_json(spec_to_json(ClusterSpec("x", uplink="user,host-loopback", ip_families=("IPv4", "IPv6"))))
    assert flags(spec, "uplink") == [("--switch-fd={switch}", "--host-loopback", "--ipv6")]
    assert "--forward=/somewhere/resolv.conf" in flags(spec, "dns")[0]
    inside = "--non-masquerade-cidr=10.244.0.0/16,172.30.0.0/24,fd00:10:244::/56,fd00:172:30::0/64"
    assert all(inside in each for each in flags(spec, "kubeproxy"))
    assert flags(ClusterSpec("x", uplink="link=eth1,address=192.0.2.2/24"), "uplink") == []


def test_without_one_nothing_changes() -> None:
    spec = ClusterSpec("x")
    assert flags(spec, "uplink") == []
    assert "--forward=none" in flags(spec, "dns")[0]
    assert not any("masquerade" in word for each in flags(spec, "kubeproxy") for word in each)
