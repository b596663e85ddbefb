"""Which group grows, by how much, and what is said of pods that none helps."""

from __future__ import annotations

from typing import Any

from kubeling.cloud.autoscaler import scale_up
from kubeling.cloud.autoscaler.expander import Option, choose, waste
from kubeling.cloud.autoscaler.picture import Picture
from kubeling.cloud.autoscaler.scale_up import ScaleUp
from kubeling.cloud.autoscaler.settings import Settings
from kubeling.cloud.provider import NodeGroup
from tests.cloud.clouds import group, node, of_picture, picture, pod

NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


async def plan(look: Picture, settings: Settings | None = None, backed_off: tuple[str, ...] = ()) -> ScaleUp:
    def is_backed_off(each: NodeGroup) -> bool:
        return each.name in backed_off

    return await scale_up.plan(look, look.waiting, of_picture(look), settings or Settings(), is_backed_off, lambda: 0.0)


def said(found: ScaleUp) -> dict[str, str]:
    return {each["metadata"]["name"]: scale_up.refusal(reasons) for each, reasons in found.hopeless}


async def test_as_many_as_it_takes() -> None:
    found = await plan(picture([node("a", "1")], [group("g", 5)], [pod(str(n)) for n in range(6)]))
    assert found.chosen is not None
    assert (found.chosen.group.name, found.chosen.count, len(found.chosen.pods)) == ("g", 3, 5)
    assert scale_up.events(found.chosen) == "pod triggered scale-up: [{g 0->3 (max: 5)}]"
    assert found.hopeless == []


async def test_never_more_than_the_maximum() -> None:
    look = picture(
        [node("g-0", "2", group="g")], [group("g", 2, "g-0")], [pod("there", "2", on="g-0"), *(pod(str(n)) for n in range(6))]
    )
    found = await plan(look)
    assert found.chosen is not None
    assert found.chosen.count == 1
    look = picture([node("g-0", "2", group="g")], [group("g", 1, "g-0")], [pod("there", "2", on="g-0"), pod("more")])
    found = await plan(look)
    assert found.chosen is None
    assert said(found) == {"more": "pod didn't trigger scale-up: 1 max node group size reached"}


async def test_the_whole_cluster_has_a_limit_too() -> None:
    look = picture([node("a", "0")], [group("g", 9)], [pod(str(n), "2") for n in range(4)])
    found = await plan(look, Settings(max_nodes_total=3))
    assert found.chosen is not None
    assert found.chosen.count == 2
    found = await plan(look, Settings(max_nodes_total=1))
    assert found.chosen is None
    assert set(said(found).values()) == {"pod didn't trigger scale-up: 1 max total nodes in cluster reached"}


async def test_what_would_fit_no_template_brings_nothing() -> None:
    tainted = group("t", 5)
    tainted.template["spec"]["taints"] = [{"key": "only", "value": "x", "effect": "NoSchedule"}]
    found = await plan(picture([], [group("g", 5), group("h", 5, cpu="3"), tainted], [pod("big", "4")]))
    assert found.chosen is None
    expected = "pod didn't trigger scale-up: 2 Insufficient cpu, 1 node(s) had untolerated taint {only: x}"
    assert said(found) == {"big": expected}


async def test_what_is_on_its_way_is_waited_for() -> None:
    """Registered or not: no second machine for the same pods."""
    coming = group("g", 5, "g-0", "g-1", created=9_990.0)
    born = node("g-0", group="g", ready=False, taints=[NOT_READY])
    look = picture([born], [coming], [pod(str(n)) for n in range(4)])
    found = await plan(look)
    assert (found.chosen, found.coming, found.hopeless) == (None, True, [])
    found = await plan(picture([born], [coming], [pod(str(n)) for n in range(5)]))
    assert found.chosen is not None
    assert found.chosen.count == 1


async def test_what_has_fallen_silent_is_not_waited_for() -> None:
    silent = node("g-0", group="g", ready=False)
    silent["status"]["conditions"][0]["status"] = "Unknown"
    found = await plan(picture([silent], [group("g", 5, "g-0", created=9_990.0)], [pod("1")]))
    # As the scheduler sees it, it still fits there; the taint of the node lifecycle controller says that it does not.
    assert found.coming
    silent["spec"]["taints"] = [{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]
    found = await plan(picture([silent], [group("g", 5, "g-0", created=9_990.0)], [pod("1")]))
    assert found.chosen is not None


async def test_a_node_that_has_just_come_is_described_as_we_see_it() -> None:
    """The scheduler may still see it as not ready; the pods that it will put there bring no second one."""
    look = picture([node("g-0", group="g")], [group("g", 5, "g-0", created=9_999.0)], [pod("1"), pod("2")])
    assert look.supposed(Settings()).remove == ["g-0"]
    found = await plan(look)
    assert found.chosen is None
    assert found.coming


async def test_what_daemons_take_is_not_to_be_had() -> None:
    daemon = {
        "metadata": {"name": "d", "namespace": "kube-system", "uid": "d"},
        "spec": {"template": {"metadata": {}, "spec": pod("x", "500m")["spec"]}},
    }
    found = await plan(picture([], [group("g", 9)], [pod("1"), pod("2")], daemon_sets=(daemon,)))
    assert found.chosen is not None
    assert found.chosen.count == 2


async def test_a_group_whose_cloud_failed_is_left_alone() -> None:
    look = picture([], [group("g", 5), group("h", 5)], [pod("1")])
    found = await plan(look, backed_off=("g",))
    assert found.chosen is not None
    assert found.chosen.group.name == "h"
    found = await plan(look, backed_off=("g", "h"))
    assert said(found) == {"1": "pod didn't trigger scale-up: 2 in backoff after failed scale-up"}


def option(name: str, count: int, cpu: str, *pods: Any) -> Option:
    return Option(group(name, 9, cpu=cpu), count, pods, node("t", cpu))


def test_expanders() -> None:
    small, big = (
        option("small", 2, "2", pod("1", "2"), pod("2", "2")),
        option("big", 1, "8", pod("1", "2"), pod("2", "2"), pod("3")),
    )
    assert waste(small) < waste(big)
    names = {
        each: choose([small, big], (each,), lambda: 0.0, {"big": 5, "small": 1}).group.name  # type: ignore[union-attr]
        for each in ("least-waste", "most-pods", "least-nodes", "priority", "random")
    }
    expected = {"least-waste": "small", "most-pods": "big", "least-nodes": "big", "priority": "big", "random": "small"}
    assert names == expected
    alike = [option("a", 1, "2", pod("1")), option("b", 1, "2", pod("1"))]
    assert choose(alike, ("least-waste",), lambda: 0.9, {}) == alike[1]
    assert choose([], ("random",), lambda: 0.0, {}) is None
