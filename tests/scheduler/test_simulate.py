"""What would fit if the cluster were another: by the same plugins, changing nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kubeling.scheduler.cache import Cache
from kubeling.scheduler.simulate import BadQuestion, simulate
from tests.scheduler.worlds import make, random_node, random_pod

Obj = dict[str, Any]


def node(name: str, cpu: str = "2", **labels: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"}},
    }


def pod(name: str, cpu: str = "1", on: str = "", **spec: Any) -> Obj:
    requests = {"resources": {"requests": {"cpu": cpu}}}
    where = {"nodeName": on} if on else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", **requests}], **where, **spec},
    }


def cluster(*nodes: Obj, pods: tuple[Obj, ...] = ()) -> Cache:
    cache, _ = make(None, lambda: 0.0)
    for each in nodes:
        cache.set_node(each)
    for each in pods:
        cache.set_pod(each)
    return cache


async def ask(cache: Cache, **question: Any) -> Obj:
    _, framework = make(None, lambda: 0.0)
    return await simulate(cache, {"default-scheduler": framework}, question)


def where(answer: Obj) -> list[str]:
    return [each["node"] for each in answer["placements"]]


async def test_what_is_there_is_filled_before_anything_is_added() -> None:
    cache = cluster(node("a"), pods=(pod("x", on="a"),))
    answer = await ask(cache, pods=[pod("1"), pod("2"), pod("3"), pod("4")], grow={"node": node("new"), "max": 5})
    assert where(answer) == ["a", "new-0", "new-0", "new-1"]
    assert [each["kind"] for each in answer["placements"]] == ["there", "grown", "grown", "grown"]
    assert answer["grown"] == 2
    assert list(cache.nodes) == ["a"]
    assert list(cache.nodes["a"].pods) == ["uid-x"]


async def test_no_more_than_the_maximum() -> None:
    answer = await ask(cluster(node("a", "0")), pods=[pod(str(n), "2") for n in range(4)], grow={"node": node("new"), "max": 2})
    assert where(answer) == ["new-0", "new-1", "", ""]
    assert answer["grown"] == 2


async def test_a_pod_that_would_not_fit_a_new_node_either_adds_none_and_says_why() -> None:
    answer = await ask(cluster(node("a", "0")), pods=[pod("big", "3"), pod("1")], grow={"node": node("new"), "max": 2})
    assert where(answer) == ["", "new-0"]
    assert answer["placements"][0]["reasons"] == ["Insufficient cpu"]
    assert answer["grown"] == 1


async def test_pods_of_a_node_that_goes_are_placed_elsewhere_by_every_rule() -> None:
    apart = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}
            ]
        }
    }
    moved = pod("x", on="a", affinity=apart)
    cache = cluster(node("a"), node("b"), pods=(moved, pod("y", on="b")))
    assert where(await ask(cache, remove=["a"], pods=[moved])) == [""]
    assert where(await ask(cache, remove=["a"], add=[{"node": node("c")}], pods=[moved])) == ["c"]


async def test_what_every_new_node_runs_counts() -> None:
    grow = {"node": node("new"), "pods": [pod("daemon", "500m")], "max": 5}
    answer = await ask(cluster(node("a", "0")), pods=[pod("1"), pod("2")], grow=grow)
    assert where(answer) == ["new-0", "new-1"]


@pytest.mark.parametrize("seed", range(8))
async def test_what_is_remembered_of_pods_that_are_alike_changes_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rand = random.Random(seed)
    nodes = [random_node(rand, f"n{n}") for n in range(12)]
    placed = [random_pod(rand, f"x{n}") for n in range(20)]
    for each in placed:
        each["spec"]["nodeName"] = rand.choice(nodes)["metadata"]["name"]
    wanted: list[Obj] = []
    for owner in range(8):
        template = random_pod(rand, "template")
        for n in range(6):
            meta = {**template["metadata"], "name": f"{owner}-{n}", "uid": f"{owner}-{n}"}
            meta["ownerReferences"] = [{"kind": "ReplicaSet", "name": "o", "uid": str(owner), "controller": True}]
            wanted.append({**template, "metadata": meta})
    rand.shuffle(wanted)
    question = {"pods": wanted, "grow": {"node": random_node(rand, "new"), "max": 4}}
    quick = await ask(cluster(*nodes, pods=tuple(placed)), **question)
    monkeypatch.setattr("kubeling.scheduler.simulate._shape", lambda _info: b"")
    assert where(quick) == where(await ask(cluster(*nodes, pods=tuple(placed)), **question))
    assert any(where(quick))
    assert not all(where(quick))


async def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(BadQuestion):
        await ask(cluster(), pods=[{"metadata": {}}])
    with pytest.raises(BadQuestion):
        await ask(cluster(), grow={"node": node("x")})
    answer = await ask(cluster(node("a")), pods=[pod("1", schedulerName="other")])
    assert answer["placements"][0]["reasons"] == ["it is the scheduler other's"]
