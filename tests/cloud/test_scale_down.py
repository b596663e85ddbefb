"""Which nodes may go, and why the others may not."""

from __future__ import annotations

from kubeling.cloud.autoscaler import nodes, scale_down
from kubeling.cloud.autoscaler.picture import Picture
from kubeling.cloud.autoscaler.removable import utilization
from kubeling.cloud.autoscaler.scale_down import ScaleDown
from kubeling.cloud.autoscaler.settings import Settings
from tests.cloud.clouds import budget, group, node, of_picture, picture, pod


async def plan(look: Picture, settings: Settings | None = None, going: tuple[str, ...] = ()) -> ScaleDown:
    return await scale_down.plan(look, of_picture(look), settings or Settings(), frozenset(going))


def names(found: ScaleDown) -> list[str]:
    return [each.name for each in found.unneeded]


def three(*pods: object, minimum: int = 0, **more: object) -> Picture:
    members = [node(f"g-{n}", group="g") for n in range(3)]
    return picture(members, [group("g", 5, "g-0", "g-1", "g-2", minimum=minimum)], pods, **more)  # type: ignore[arg-type]


async def test_empty_ones_first_then_the_least_used() -> None:
    found = await plan(three(pod("a", "900m", on="g-0"), pod("b", "100m", on="g-1"), minimum=1))
    assert names(found) == ["g-2", "g-1"]
    assert found.needed == {"g-0": "NodeGroupMinSizeReached"}


async def test_a_node_in_use_stays() -> None:
    found = await plan(three(pod("a", "1", on="g-0"), pod("b", "1", on="g-1")))
    assert names(found) == ["g-2"]
    assert found.needed == {"g-0": "NotUnderutilized", "g-1": "NotUnderutilized"}


async def test_pods_must_fit_elsewhere_also_with_the_others_gone() -> None:
    pods = [pod(f"a{n}", "900m", on=f"g-{n}") for n in range(3)]
    found = await plan(three(*pods))
    # The pods of one fit on the two others; those of two do not fit on the third.
    assert names(found) == ["g-0"]
    assert found.needed == {"g-1": "NoPlaceToMovePods", "g-2": "NoPlaceToMovePods"}


async def test_what_is_going_is_no_place_and_counts() -> None:
    found = await plan(three(pod("a", "900m", on="g-0"), pod("b", "900m", on="g-1"), minimum=2), going=("g-2",))
    assert names(found) == []
    assert set(found.needed.values()) == {"NodeGroupMinSizeReached"}


async def test_what_pods_say() -> None:
    safe, unsafe = "cluster-autoscaler.kubernetes.io/safe-to-evict", {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    volumes = [{"name": "v", "emptyDir": {}}]
    spare = node("spare", "8")
    cases = {
        "NotSafeToEvictAnnotation": pod("p", "10m", on="g-0", annotations=unsafe),
        "NotReplicated": pod("p", "10m", on="g-0", owner=""),
        "UnmovableKubeSystemPod": pod("p", "10m", on="g-0", namespace="kube-system"),
        "LocalStorageRequested": pod("p", "10m", on="g-0", volumes=volumes),
    }
    for reason, each in cases.items():
        look = picture([node("g-0", group="g"), spare], [group("g", 5, "g-0")], [each])
        assert (await plan(look)).needed["g-0"].startswith(f"{reason}: {each['metadata']['namespace']}/p")
        each["metadata"]["annotations"] = {safe: "true"}
        assert names(await plan(look)) == ["g-0"]
    stays = [pod("d", "10m", on="g-0", owner="DaemonSet")]
    stays += [pod("m", "10m", on="g-0", owner="", annotations={"kubernetes.io/config.mirror": "x"})]
    found = await plan(picture([node("g-0", group="g")], [group("g", 5, "g-0")], stays))
    assert names(found) == ["g-0"]
    assert found.unneeded[0].movable == ()


async def test_budgets() -> None:
    pods = [pod("a", "100m", on="g-0"), pod("b", "100m", on="g-0")]
    spare = node("spare", "8")
    for allowed, expected in ((2, ["g-0"]), (1, [])):
        look = picture([node("g-0", group="g"), spare], [group("g", 5, "g-0")], pods, budgets={"default": [budget(allowed)]})
        found = await plan(look)
        assert names(found) == expected
    assert found.needed == {"g-0": "NotEnoughPdb: default/b"}


async def test_annotations_and_marks_of_nodes() -> None:
    kept = node("g-0", group="g")
    kept["metadata"]["annotations"] = {nodes.SCALE_DOWN_DISABLED: "true"}
    found = await plan(picture([kept], [group("g", 5, "g-0")]))
    assert found.needed == {"g-0": "ScaleDownDisabledAnnotation"}
    found = await plan(picture([node("g-0", group="g")], [group("g", 5, "g-0", created=9_999.0)]))
    assert names(found) == ["g-0"]
    found = await plan(picture([node("g-0", group="g", ready=False)], [group("g", 5, "g-0", created=9_999.0)]))
    assert found.needed == {"g-0": "NotReadyYet"}
    marked = {"spec": {"taints": nodes.marked(node("n"), nodes.CANDIDATE, "PreferNoSchedule", 12.7)}}
    assert nodes.mark_of(marked, nodes.CANDIDATE) == 12.0
    assert nodes.marked(marked, nodes.CANDIDATE, "", None) == []


async def test_a_machine_of_another_cloud_or_another_life_is_not_ours() -> None:
    """A Node that has the name of a machine, but another provider id, is what was there before."""
    old = node("g-0", group="g")
    old["spec"]["providerID"] = "test://before"
    found = await plan(picture([old], [group("g", 5, "g-0")]))
    assert (found.unneeded, found.needed) == ([], {})
    look = picture([], [group("g", 5, "g-0", created=0.0)])
    assert [machine.node for _, machine in look.lost(Settings())] == ["g-0"]


def test_how_much_is_used() -> None:
    there = [pod("a", "500m"), pod("d", "500m", owner="DaemonSet"), {**pod("over", "2"), "status": {"phase": "Succeeded"}}]
    assert utilization(node("n"), there, Settings()) == 0.5
    assert utilization(node("n"), there, Settings(ignore_daemonsets=True)) == 0.25
