"""Hints: which endpoints are meant for which zones."""

from __future__ import annotations

from collections import Counter

import pytest

from kubeling.controllers import topology


def node(name: str, zone: str, cpu: str = "4", *, ready: bool = True, **labels: str) -> dict[str, object]:
    return {
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone, **labels} if zone else labels},
        "status": {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def endpoint(zone: str, node_name: str = "", *, ready: bool = True) -> dict[str, object]:
    return {"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "zone": zone, "nodeName": node_name}


def test_shares_follow_the_processors_of_nodes_that_take_pods() -> None:
    control = {"node-role.kubernetes.io/control-plane": ""}
    nodes = [node("a", "x", "2"), node("b", "y", "6"), node("c", "y", "8", ready=False), {**node("d", "x", "64", **control)}]
    zones = topology.zones_of(nodes)
    assert zones.shares == {"x": 0.25, "y": 0.75}
    assert zones.of_node == {"a": "x", "b": "y", "c": "y", "d": "x"}
    # One that is in no zone that anybody knows: nobody can share anything out.
    assert topology.zones_of([*nodes, node("e", "")]).shares == {}
    assert topology.zones_of([node("a", "x")]).shares == {}


@pytest.mark.parametrize("zones", ["xxxxxx", "xxxyyy", "xyyyyy", "yyyyyy", "xxxxxxxxxxy"])
def test_no_zone_gets_too_few(zones: str) -> None:
    shares = {"x": 0.5, "y": 0.5}
    made = Counter(topology.allocate(list(zones), shares))
    for zone, share in shares.items():
        assert len(zones) * share / made[zone] <= 1.2 + 1e-9, made


def test_what_cannot_be_shared_out_has_no_hints() -> None:
    assert topology.allocate(["x"], {"x": 0.5, "y": 0.5}) == []
    assert topology.allocate(["x", "?"], {"x": 0.5, "y": 0.5}) == []
    assert topology.allocate([], {"x": 0.5, "y": 0.5}) == []


def test_an_endpoint_stays_in_its_zone_where_it_may() -> None:
    assert topology.allocate(list("xxyy"), {"x": 0.5, "y": 0.5}) == list("xxyy")


def test_prefer_close_is_about_the_own_zone() -> None:
    ends = [endpoint("x", "n"), endpoint("y", "m", ready=False)]
    topology.add_hints({"spec": {"trafficDistribution": "PreferClose"}, "metadata": {}}, ends, topology.Zones())
    assert ends[0]["hints"] == {"forZones": [{"name": "x"}]}
    assert "hints" not in ends[1]
    topology.add_hints({"spec": {"trafficDistribution": "PreferSameNode"}, "metadata": {}}, ends, topology.Zones())
    assert ends[0]["hints"] == {"forZones": [{"name": "x"}], "forNodes": [{"name": "n"}]}


def test_auto_is_asked_for_by_an_annotation() -> None:
    zones = topology.Zones(shares={"x": 0.5, "y": 0.5})
    service = {"spec": {}, "metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}}}
    ends = [endpoint("x") for _ in range(4)]
    topology.add_hints(service, ends, zones)
    assert Counter(each["hints"]["forZones"][0]["name"] for each in ends) == {"x": 2, "y": 2}  # type: ignore[index]
    plain = [endpoint("x")]
    topology.add_hints({"spec": {}, "metadata": {}}, plain, zones)
    assert "hints" not in plain[0]
