"""Which routes lead to the pods of other nodes."""

from __future__ import annotations

from typing import Any

from kubeling.kubeproxy.routes import wanted_routes


def node(name: str, cidrs: list[str], *addresses: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs} if cidrs else {},
        "status": {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]},
    }


def test_each_family_goes_by_the_nodes_address_of_that_family() -> None:
    nodes = [
        node("me", ["10.0.0.0/24", "fd00::/64"], "172.30.0.21", "fd00:172::21"),
        node("other", ["10.0.1.0/24", "fd00:0:0:1::/64"], "172.30.0.22", "fd00:172::22"),
        node("six", ["fd00:0:0:2::/64"], "fd00:172::23"),
        # Of the time before the cluster had a second family; without a way; of no consequence.
        node("old", ["10.0.3.0/24"], "172.30.0.24", "fd00:172::24"),
        node("lame", ["10.0.4.0/24", "fd00:0:0:4::/64"], "172.30.0.25"),
        node("new", [], "172.30.0.26"),
        node("hollow", ["10.0.5.0/24"], "172.30.0.27", labels={"kubeling.dev/hollow": "true"}),
    ]
    assert wanted_routes(nodes, "me", ["172.30.0.21"]) == {
        "10.0.1.0/24": "172.30.0.22",
        "fd00:0:0:1::/64": "fd00:172::22",
        "fd00:0:0:2::/64": "fd00:172::23",
        "10.0.3.0/24": "172.30.0.24",
        "10.0.4.0/24": "172.30.0.25",
    }
