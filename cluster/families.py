"""The addresses of a cluster whose nodes have a switch of their own, for each IP family: of the switch, its nodes, their pods and the Services.

A cluster has one family or both; the one that is named first is its primary one: its daemons talk to each other by it, and Services that do not say
otherwise are of it. The networks are the cluster's own, so they are the same in every cluster (those of IPv6 are unique local ones, RFC 4193).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """`switch` is what a node's number is put behind; `bits` the prefix of the switch's network, `node_bits` that of a node's share of the pods'."""

    name: str
    switch: str
    bits: int
    cluster_cidr: str
    node_bits: int
    service_cidr: str
    #: Of the Services that every cluster has.
    api_service: str
    dns_service: str

    def address(self, number: int) -> str:
        """On the switch."""
        return f"{self.switch}{number}"

    @property
    def gateway(self) -> str:
        """The switch's own."""
        return self.address(1)


IPV4 = Family("IPv4", "172.30.0.", 24, "10.244.0.0/16", 24, "10.96.0.0/16", "10.96.0.1", "10.96.0.10")
IPV6 = Family("IPv6", "fd00:172:30::", 64, "fd00:10:244::/56", 64, "fd00:10:96::/112", "fd00:10:96::1", "fd00:10:96::a")
_BY_NAME = {each.name.lower(): each for each in (IPV4, IPV6)}


def parse(text: str) -> tuple[str, ...]:
    """The families that `--ip-families` names, the primary one first; `dual` stands for IPv4,IPv6. ValueError with a remedy for anything else."""
    words = [each.strip().lower() for each in ("IPv4,IPv6" if text.lower() == "dual" else text).split(",")]
    if not words or len(set(words)) != len(words) or any(each not in _BY_NAME for each in words):
        raise ValueError(f"{text!r}: IPv4, IPv6, or both: IPv4,IPv6 (or IPv6,IPv4, whose primary one is IPv6)")
    return tuple(_BY_NAME[each].name for each in words)


def find(name: str) -> Family:
    """By its name as the API has it."""
    return _BY_NAME[name.lower()]


def at(host: str, port: int) -> str:
    """`host:port`, with brackets where they are needed."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
