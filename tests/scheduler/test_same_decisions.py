"""The vector form decides as the per-node form does: random clusters, random pods, random changes, from seeds.

Compared at every step: which nodes are feasible and in which order, why each other node is not, every plugin's score of every node, the choice, the
victims of preemption, and the message that people see.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from kubeling.scheduler.algorithm import decide
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.framework import Framework
from kubeling.scheduler.nodeinfo import PodInfo
from kubeling.scheduler.verdicts import FitError
from tests.scheduler.worlds import make, random_node, random_pod

Obj = dict[str, Any]


def outcome(cache: Cache, framework: Framework, pod: Obj, start: int, chance: float) -> dict[str, Any]:
    """All that a decision comes to, in one comparable shape."""
    cycle = cache.cycle(PodInfo(pod))
    try:
        found = decide(framework, cycle, start=start, rand=lambda: chance)
    except FitError as error:
        framework.cure(cycle, error)
        nomination = error.nomination
        return {
            "message": str(error),
            "plugins": error.plugins,
            "verdicts": dict(error.verdicts.items()),
            "nominated": nomination and (nomination.nominated, [victim.uid for victim in nomination.victims]),
        }
    names = [node.name for node in found.feasible.nodes]
    scores = found.scores
    return {
        "node": found.node,
        "feasible": names,
        "verdicts": {name: why for name, why in found.feasible.verdicts.items() if name not in names}
        if found.feasible.verdicts
        else {},
        "scores": {} if scores is None else {name: list(map(int, column)) for name, column in scores.by_plugin.items()},
        "total": None if scores is None else list(map(int, scores.total)),
        "next": found.next_start,
    }


class Twins:
    """The same cluster twice, once in each form."""

    def __init__(self, seed: int, percentage: int = 0) -> None:
        self.rand = random.Random(seed)
        budgets = [
            {
                "metadata": {"uid": "b", "name": "b"},
                "spec": {"selector": {"matchLabels": {"app": "db"}}},
                "status": {"disruptionsAllowed": 1},
            }
        ]
        self.sides = [make(side, lambda: 0.3, budgets) for side in (None, 1)]
        for _, framework in self.sides:
            framework.percentage = percentage
        self.placed: dict[str, str] = {}
        self.nodes: set[str] = set()
        self.count = 0
        self.start = 0

    def both(self, act: str, *args: Any) -> None:
        for cache, _ in self.sides:
            getattr(cache, act)(*copy.deepcopy(args))

    def change(self) -> None:
        rand, kind = self.rand, self.rand.random()
        if kind < 0.25 or len(self.nodes) < 4:
            name = f"n{rand.randrange(40)}"
            self.nodes.add(name)
            self.both("set_node", random_node(rand, name))
        elif kind < 0.3:
            name = rand.choice(sorted(self.nodes))
            self.nodes.discard(name)
            self.both("remove_node", name)
        elif kind < 0.45 and self.placed:
            uid = rand.choice(sorted(self.placed))
            del self.placed[uid]
            self.both("remove_pod", uid)
        elif kind < 0.6:
            self.count += 1
            pod = random_pod(rand, f"p{self.count}")
            pod["spec"]["nodeName"] = rand.choice(sorted(self.nodes))
            if rand.random() < 0.1:
                pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self.placed[pod["metadata"]["uid"]] = pod["spec"]["nodeName"]
            self.both("set_pod", pod)
        elif kind < 0.65:
            self.count += 1
            pod = random_pod(rand, f"p{self.count}")
            node = rand.choice(sorted(self.nodes))
            for cache, _ in self.sides:
                cache.nominate(pod["metadata"]["uid"], PodInfo(copy.deepcopy(pod)), node)
            if rand.random() < 0.5:
                self.compare(pod)
        else:
            self.count += 1
            self.compare(random_pod(rand, f"p{self.count}"))

    def compare(self, pod: Obj) -> None:
        chance = self.rand.random()
        plain, vector = (outcome(cache, framework, copy.deepcopy(pod), self.start, chance) for cache, framework in self.sides)
        if not any("next" in each for each in (plain, vector)):
            assert plain == vector
            return
        plain_verdicts, vector_verdicts = plain.pop("verdicts"), vector.pop("verdicts")
        assert plain == vector
        # Nodes that the per-node form did not look at any more have no verdict there.
        assert plain_verdicts == {name: vector_verdicts[name] for name in plain_verdicts}
        self.start = plain["next"]
        if self.rand.random() < 0.8:
            uid = pod["metadata"]["uid"]
            self.placed[uid] = plain["node"]
            for cache, _ in self.sides:
                cache.assume(PodInfo(copy.deepcopy(pod)), plain["node"])


@pytest.mark.parametrize("seed", range(40))
def test_both_forms_decide_alike(seed: int) -> None:
    twins = Twins(seed)
    for _ in range(120):
        twins.change()


@pytest.mark.parametrize("seed", range(3))
def test_both_forms_stop_at_the_same_number_of_nodes(seed: int) -> None:
    twins = Twins(1000 + seed, percentage=50)
    for number in range(260):
        twins.nodes.add(f"n{number}")
        twins.both("set_node", random_node(twins.rand, f"n{number}"))
    for _ in range(60):
        twins.change()
