"""What the plugins decide, and how a pod that fits nowhere is told why."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api.labels import Selector, from_labels
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.config import Profile, build
from kubeling.scheduler.handle import Handle
from kubeling.scheduler.nodeinfo import PodInfo
from kubeling.scheduler.types import ClusterChange
from kubeling.scheduler.verdicts import FitError

Obj = dict[str, Any]


def node(
    name: str, *, cpu: str = "4", memory: str = "8Gi", pods: int = 110, labels: dict[str, str] | None = None, **spec: Any
) -> Obj:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": str(pods)}},
    }


def pod(
    name: str,
    *,
    cpu: str = "100m",
    memory: str = "64Mi",
    labels: dict[str, str] | None = None,
    on: str = "",
    priority: int = 0,
    **spec: Any,
) -> Obj:
    containers = [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]
    placed = {"nodeName": on} if on else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels or {}},
        "spec": {"containers": containers, "priority": priority, **placed, **spec},
        "status": {},
    }


class World:
    """A cluster to decide in."""

    def __init__(self, *objects: Obj, budgets: list[Obj] | None = None, selector: Selector | None = None) -> None:
        self.cache = Cache()
        for obj in objects:
            if "allocatable" in obj["status"]:
                self.cache.set_node(obj)
            else:
                self.cache.set_pod(obj)
        self.framework = build(
            Profile(),
            Handle(
                namespace_labels=lambda: {"default": {"team": "a"}},
                default_selector=lambda _pod: selector,
                get_claim=lambda _namespace, _name: None,
                get_volume=lambda _name: None,
                get_class=lambda _name: None,
                budgets=lambda _namespace: budgets or [],
                rand=lambda: 0.0,
            ),
        )

    def feasible(self, obj: Obj) -> set[str]:
        cycle = self.cache.cycle(PodInfo(obj))
        try:
            return {each.name for each in self.framework.feasible(cycle, enough=1000).nodes}
        except FitError as error:
            raise self.framework.cure(cycle, error) from None

    def refusal(self, obj: Obj) -> FitError:
        with pytest.raises(FitError) as caught:
            self.feasible(obj)
        return caught.value

    def best(self, obj: Obj) -> str:
        cycle = self.cache.cycle(PodInfo(obj))
        found = self.framework.feasible(cycle, enough=1000)
        return found.node(self.framework.scores(cycle, found).best(lambda: 0.0)).name


def test_each_reason_is_named_with_its_count() -> None:
    tainted = {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}
    world = World(node("a", cpu="1"), node("b", cpu="1"), node("c", **tainted), node("d", unschedulable=True))
    error = world.refusal(pod("p", cpu="2"))
    assert str(error) == (
        "0/4 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were unschedulable, 2 Insufficient cpu. "
        "preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
    )


def test_no_nodes_at_all() -> None:
    assert str(World().refusal(pod("p"))) == "no nodes available to schedule pods"


def test_resources_count_what_is_assumed() -> None:
    world = World(node("a", cpu="1"))
    world.cache.assume(PodInfo(pod("q", cpu="800m")), "a")
    assert "1 Insufficient cpu" in str(world.refusal(pod("p", cpu="300m")))
    world.cache.forget("q")
    assert world.feasible(pod("p", cpu="300m")) == {"a"}


def test_forgetting_spares_a_pod_that_was_seen_bound() -> None:
    world = World(node("a", cpu="1"))
    world.cache.assume(PodInfo(pod("q", cpu="800m")), "a")
    world.cache.set_pod(pod("q", cpu="800m", on="a"))
    world.cache.forget("q")
    assert "Insufficient cpu" in str(world.refusal(pod("p", cpu="300m")))


def test_too_many_pods() -> None:
    assert "1 Too many pods" in str(World(node("a", pods=1), pod("q", on="a")).refusal(pod("p")))


def test_node_selector_and_affinity() -> None:
    world = World(node("a", labels={"disk": "ssd"}), node("b"))
    assert world.feasible(pod("p", nodeSelector={"disk": "ssd"})) == {"a"}
    term = {"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    assert world.feasible(pod("p", affinity=affinity)) == {"b"}
    preferred = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "preference": term}]}}
    assert world.best(pod("p", affinity=preferred)) == "b"


def test_host_ports_are_given_once() -> None:
    taken = pod("q", on="a")
    taken["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 8080}]
    wanting = pod("p")
    wanting["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1"}]
    assert World(node("a"), node("b"), taken).feasible(wanting) == {"b"}


def anti(key: str = "kubernetes.io/hostname") -> Obj:
    term = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": key}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def test_anti_affinity_works_both_ways() -> None:
    world = World(node("a"), node("b"), pod("q", on="a", labels={"app": "web"}))
    assert world.feasible(pod("p", affinity=anti())) == {"b"}
    world = World(node("a"), node("b"), pod("q", on="a", affinity=anti()))
    assert world.feasible(pod("p", labels={"app": "web"})) == {"b"}
    assert world.feasible(pod("p")) == {"a", "b"}


def test_the_first_of_a_group_may_want_its_own_kind() -> None:
    term = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone"}
    near = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    world = World(node("a", labels={"zone": "1"}), node("b", labels={"zone": "2"}), node("c"))
    assert world.feasible(pod("p", labels={"app": "web"}, affinity=near)) == {"a", "b"}
    world.cache.set_pod(pod("q", on="b", labels={"app": "web"}))
    assert world.feasible(pod("p", labels={"app": "web"}, affinity=near)) == {"b"}


def test_hard_spreading_keeps_the_skew() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    zones = [node("a", labels={"zone": "1"}), node("b", labels={"zone": "2"}), node("c")]
    world = World(*zones, pod("q", on="a", labels={"app": "web"}))
    wanting = pod("p", labels={"app": "web"}, topologySpreadConstraints=[constraint])
    assert world.feasible(wanting) == {"b"}
    world.cache.set_pod(pod("r", on="b", labels={"app": "web"}))
    assert world.feasible(wanting) == {"a", "b"}


def test_pods_of_one_service_spread_by_default() -> None:
    world = World(
        node("a"),
        node("b"),
        *(pod(f"q{n}", on="a", labels={"app": "web"}, cpu="0", memory="0") for n in range(3)),
        selector=from_labels({"app": "web"}),
    )
    assert world.best(pod("p", labels={"app": "web"})) == "b"


def test_preemption_removes_the_least_important() -> None:
    world = World(
        node("a", cpu="1"),
        node("b", cpu="1"),
        pod("low", cpu="900m", on="a", priority=1),
        pod("mid", cpu="900m", on="b", priority=5),
    )
    error = world.refusal(pod("p", cpu="500m", priority=10))
    assert error.nomination is not None
    assert (error.nomination.nominated, [victim.name for victim in error.nomination.victims]) == ("a", ["low"])


def test_preemption_gives_back_what_it_can_and_minds_budgets() -> None:
    budget = {
        "metadata": {"uid": "b"},
        "spec": {"selector": {"matchLabels": {"guarded": "yes"}}},
        "status": {"disruptionsAllowed": 0},
    }
    guarded = {"guarded": "yes"}
    world = World(
        node("a", cpu="1"),
        pod("guarded", cpu="400m", on="a", priority=1, labels=guarded),
        pod("free", cpu="400m", on="a", priority=1),
        budgets=[budget],
    )
    error = world.refusal(pod("p", cpu="500m", priority=10))
    assert error.nomination is not None
    assert [victim.name for victim in error.nomination.victims] == ["free"]


def test_never_preempting_says_so() -> None:
    world = World(node("a", cpu="1"), pod("low", cpu="900m", on="a"))
    assert "not eligible due to preemptionPolicy=Never" in str(
        world.refusal(pod("p", cpu="500m", priority=10, preemptionPolicy="Never"))
    )


def test_hints_wake_only_what_a_change_may_help() -> None:
    world = World()
    waiting = pod("p", cpu="2", nodeSelector={"disk": "ssd"})
    fits = frozenset({"NodeResourcesFit"})
    labels = frozenset({"NodeAffinity"})
    small, right = node("x", cpu="1"), node("x", cpu="4", labels={"disk": "ssd"})
    assert not world.framework.may_cure(ClusterChange("nodes", "add", None, small), waiting, fits)
    assert world.framework.may_cure(ClusterChange("nodes", "add", None, right), waiting, fits)
    assert not world.framework.may_cure(ClusterChange("nodes", "add", None, small), waiting, labels)
    assert world.framework.may_cure(ClusterChange("nodes", "add", None, right), waiting, labels)
    assert not world.framework.may_cure(ClusterChange("pods", "add", None, pod("q", on="x")), waiting, fits)
    assert world.framework.may_cure(ClusterChange("pods", "delete", pod("q", on="x"), None), waiting, fits)
