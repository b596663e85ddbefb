"""Which address a Service gets, and to which node a connection goes: plain functions."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from kubeling.cloud.provider import ProviderError
from kubeling.cloud.providers.addresses import allowed, choose, source_ranges
from kubeling.cloud.providers.targets import PENALTY, Target, Targets

NETWORK = ipaddress.ip_network("127.9.0.0/29")


def service(
    uid: str, address: str | None = None, wish: str | None = None, created: str = "2026-01-01T00:00:00Z"
) -> dict[str, Any]:
    made: dict[str, Any] = {"metadata": {"name": uid, "namespace": "d", "uid": uid, "creationTimestamp": created}, "spec": {}}
    if address:
        made["status"] = {"loadBalancer": {"ingress": [{"ip": address}]}}
    if wish:
        made["spec"]["loadBalancerIP"] = wish
    return made


def test_the_lowest_free_address_is_given_and_kept() -> None:
    others = [service("a", "127.9.0.1"), service("b", "127.9.0.2")]
    assert choose(service("c"), others, {}, NETWORK) == "127.9.0.3"
    assert choose(service("c"), others, {"127.9.0.3": "d"}, NETWORK) == "127.9.0.4", "what we serve already is taken"
    assert choose(service("b", "127.9.0.2"), others, {}, NETWORK) == "127.9.0.2"
    assert choose(service("c"), others, {"127.9.0.5": "c"}, NETWORK) == "127.9.0.5", (
        "ours, though the status does not show it yet"
    )


def test_of_two_with_one_address_the_younger_moves() -> None:
    older, younger = service("a", "127.9.0.1"), service("b", "127.9.0.1", created="2026-01-02T00:00:00Z")
    assert choose(older, [older, younger], {}, NETWORK) == "127.9.0.1"
    assert choose(younger, [older, younger], {"127.9.0.1": "b"}, NETWORK) == "127.9.0.2"


def test_a_wish_is_met_or_refused_with_a_remedy() -> None:
    assert choose(service("a", wish="127.9.0.6"), [], {}, NETWORK) == "127.9.0.6"
    with pytest.raises(ProviderError, match=r"not in 127\.9\.0\.0/29"):
        choose(service("a", wish="10.0.0.1"), [], {}, NETWORK)
    with pytest.raises(ProviderError, match="taken by another"):
        choose(service("a", wish="127.9.0.1"), [service("b", "127.9.0.1")], {}, NETWORK)


def test_a_range_can_be_used_up() -> None:
    others = [service(str(each), f"127.9.0.{each}") for each in range(1, 7)]
    with pytest.raises(ProviderError, match="larger --load-balancer-cidr"):
        choose(service("x"), others, {}, NETWORK)


def test_source_ranges() -> None:
    made = service("a")
    made["spec"]["loadBalancerSourceRanges"] = ["10.0.0.0/8", " 127.0.0.1/32"]
    ranges = source_ranges(made)
    assert allowed("127.0.0.1", ranges)
    assert not allowed("127.0.0.2", ranges)
    assert allowed("127.0.0.2", ())
    made["spec"]["loadBalancerSourceRanges"] = ["nonsense"]
    with pytest.raises(ProviderError):
        source_ranges(made)


def test_round_robin_prefers_nodes_that_answer() -> None:
    targets = Targets()
    nodes = [Target(each, f"10.0.0.{number}") for number, each in enumerate("abc")]
    targets.set(nodes)
    assert [targets.order("c", 0)[0].node for _ in range(4)] == ["a", "b", "c", "a"]
    targets.failed(nodes[0], 10.0)
    assert all(targets.order("c", 10.0 + PENALTY / 2)[-1].node == "a" for _ in range(3))
    assert {targets.order("c", 11.0 + PENALTY)[0].node for _ in range(3)} == {"a", "b", "c"}


def test_affinity_keeps_a_client_where_it_is() -> None:
    targets = Targets()
    nodes = [Target(each, f"10.0.0.{number}") for number, each in enumerate("abcd")]
    targets.set(nodes, sticky=True)
    first = {client: targets.order(client, 0)[0] for client in map(str, range(50))}
    assert len({each.node for each in first.values()}) == 4
    targets.set(nodes[1:], sticky=True)
    moved = [client for client, target in first.items() if targets.order(client, 0)[0] != target]
    assert all(first[client].node == "a" for client in moved), "only those move whose node is gone"
