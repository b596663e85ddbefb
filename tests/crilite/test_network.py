"""Addresses and host ports of the built-in pod network, as far as they can be judged without one."""

from __future__ import annotations

from kubeling.crilite import attachment, hostports, network


def test_large_ranges_of_ipv6() -> None:
    pool = network.AddressRange("fd00:10:244:7::/64")
    assert [pool.allocate(["fd00:10:244:7::3"]) for _ in range(2)] == ["fd00:10:244:7::2", "fd00:10:244:7::4"]


def test_host_ports_of_both_families() -> None:
    ports = [attachment.HostPort("tcp", "", 80, 8080), attachment.HostPort("tcp", "10.0.0.9", 81, 8081)]
    text = hostports.rules({"a": (["10.1.0.2", "fd00::2"], ports)})
    four, six = text.split("table ip6 ")
    assert "ip daddr 10.0.0.9 tcp dport 81" in four
    assert "tcp dport 80 dnat to [fd00::2]:8080" in six
    assert " 81 " not in six, "a port of an IPv4 address is none of IPv6"
    assert "ip6 saddr fd00::2 ip6 daddr fd00::2 masquerade" in six
    assert hostports.rules({"a": (["10.1.0.2"], ports)}).count("table") == 1
    assert hostports.rules({}) == ""
