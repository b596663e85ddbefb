"""Decisions a second of the algorithm alone: the real cache, framework and plugins, no apiserver and no queue.

One decision is what a cycle does: filter, score, choose, and count the pod in. The pods exist as parsed JSON before the clock starts; what the scheduler
works out of each (:class:`PodInfo`) is part of the decision. Churn goes by the clock, as it does upstream.
"""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass
from typing import Any

from kubeling.api import labels
from kubeling.bench.scheduler import workloads as w
from kubeling.scheduler.algorithm import decide
from kubeling.scheduler.cache import VECTOR_FROM, Cache
from kubeling.scheduler.config import Profile, build
from kubeling.scheduler.handle import Handle
from kubeling.scheduler.nodeinfo import PodInfo
from kubeling.scheduler.verdicts import FitError

Obj = dict[str, Any]


@dataclass(slots=True)
class Result:
    """What one workload came to. `unscheduled`: measured pods for which no node was found."""

    decisions: int
    seconds: float
    unscheduled: int
    slowest: float
    cpu_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Decisions a second by the clock."""
        return self.decisions / self.seconds

    @property
    def cpu_rate(self) -> float:
        """Decisions a second of processor time: the figure to compare by where others use the machine too."""
        return self.decisions / max(self.cpu_seconds, 1e-9)


class World:
    """A cluster in memory that carries out operations."""

    def __init__(self, *, vector: bool = True) -> None:
        self.spaces: dict[str, dict[str, str]] = {"default": {}}
        self.services: dict[str, dict[str, str]] = {}
        self.rand = random.Random(1)
        self.framework = build(
            Profile(),
            Handle(
                namespace_labels=lambda: self.spaces,
                default_selector=self._default_selector,
                get_claim=lambda _namespace, _name: None,
                get_volume=lambda _name: None,
                get_class=lambda _name: None,
                budgets=lambda _namespace: (),
                rand=self.rand.random,
            ),
        )
        self.cache = Cache(vector_from=VECTOR_FROM if vector else None, spaces=lambda: self.spaces)
        self._start = 0
        self._numbers = itertools.count()
        self._churn: list[tuple[w.Churn, float]] = []
        self._last: Obj | None = None

    def _default_selector(self, pod: Obj) -> labels.Selector | None:
        selector = self.services.get(pod["metadata"]["namespace"])
        return labels.from_labels(selector) if selector and selector.items() <= pod["metadata"]["labels"].items() else None

    def pod(self, template: str, namespace: str) -> Obj:
        made = w.TEMPLATES[template]()
        name = f"{template}-{next(self._numbers)}"
        made["metadata"] |= {"name": name, "namespace": namespace, "uid": name}
        return made

    def run(self, workload: w.Workload, budget: float) -> Result:
        """Carry out all operations; what is measured may take `budget` seconds and is cut short then."""
        result = Result(0, 0.0, 0, 0.0)
        for each in workload.operations:
            match each:
                case w.CreateNodes(count, zones, tainted, name):
                    for number in range(count):
                        zone = zones[number % len(zones)] if zones else ""
                        huge = {"pods": 90_000} if name else {}
                        made = w.node(name or f"node-{next(self._numbers)}", zone=zone, tainted=tainted, **huge)
                        self.cache.set_node(made)
                case w.CreateNamespaces(prefix, count, labelled):
                    for number in range(count):
                        self.spaces[f"{prefix}-{number}"] = {"team": "devops"} if labelled else {}
                case w.CreateService(namespace):
                    self.services[namespace] = {"app": "scheduler-perf"}
                case w.Churn():
                    self._churn.append((each, time.perf_counter() + each.seconds))
                case w.CreatePods(count, template, namespace, collect, spread_over):
                    names = [f"{namespace}-{number}" for number in range(spread_over)] or [namespace]
                    pods = [self.pod(template, names[number % len(names)]) for number in range(count)]
                    if collect:
                        result = self._measure(pods, budget)
                    else:
                        for pod in pods:
                            self.schedule(pod)
        return result

    def _measure(self, pods: list[Obj], budget: float) -> Result:
        began = before = time.perf_counter()
        cpu = time.process_time()
        slowest, unscheduled, done = 0.0, 0, 0
        for pod in pods:
            unscheduled += not self.schedule(pod)
            done += 1
            now = time.perf_counter()
            slowest, before = max(slowest, now - before), now
            for number, (churn, due) in enumerate(self._churn):
                if now >= due:
                    self._churn[number] = (churn, due + churn.seconds)
                    self._turn(churn)
            if now - began > budget:
                break
        return Result(done, time.perf_counter() - began, unscheduled, slowest, time.process_time() - cpu)

    def _turn(self, churn: w.Churn) -> None:
        if churn.node_and_service:
            if self._last is not None:
                self.cache.remove_node(self._last["metadata"]["name"])
            self._last = w.node(f"churn-{next(self._numbers)}")
            self.cache.set_node(self._last)
        self.schedule(self.pod(churn.template, "default"))

    def schedule(self, pod: Obj) -> bool:
        """One cycle; a pod that preempts is placed at once, its victims being gone."""
        info = PodInfo(pod)
        cycle = self.cache.cycle(info)
        try:
            found = decide(self.framework, cycle, start=self._start, rand=self.rand.random)
        except FitError as error:
            self.framework.cure(cycle, error)
            if error.nomination is None or not error.nomination.nominated:
                return False
            for victim in error.nomination.victims:
                self.cache.remove_pod(victim.uid)
            self.cache.assume(info, error.nomination.nominated)
            return True
        self._start = found.next_start
        self.cache.assume(info, found.node)
        return True
