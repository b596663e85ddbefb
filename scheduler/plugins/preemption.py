"""Default preemption: where no node fits, remove pods of lower priority from the node where that hurts least.

For each node whose rejection removing pods could cure: take all lower-priority pods away, see whether the pod fits, then give back as many as possible,
the most important first and those under a disruption budget before the others. The best node is the one with, in this order: fewest budget
violations, lowest highest-priority victim, lowest sum of priorities, fewest victims, latest start of the most important victim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kubeling.api import labels
from kubeling.scheduler.framework import Cycle, FitError, Framework, Plugin, PostFilterResult, Rejection
from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo

_NO_VICTIMS = "No preemption victims found for incoming pod"
_NOT_HELPFUL = "Preemption is not helpful for scheduling"
#: At most this part of the nodes, but no fewer than this many, are tried (upstream's defaults).
MIN_CANDIDATES = 100
CANDIDATE_PERCENT = 10


@dataclass(frozen=True, slots=True)
class _Candidate:
    node: str
    victims: tuple[PodInfo, ...]
    violations: int

    def cost(self) -> tuple[int, int, int, int]:
        return (self.violations, self.victims[0].priority, sum(pod.priority + 2**31 for pod in self.victims), len(self.victims))


class DefaultPreemption(Plugin):
    name = "DefaultPreemption"

    def __init__(self, budgets: Callable[[str], Iterable[Obj]], rand: Callable[[], float]) -> None:
        self._budgets, self._rand = budgets, rand
        self._framework: Framework | None = None

    def attached(self, framework: Framework) -> None:
        self._framework = framework

    def post_filter(self, cycle: Cycle, rejections: Mapping[str, Rejection]) -> PostFilterResult | None:
        if not cycle.nodes:
            return None
        if cycle.pod.spec.get("preemptionPolicy") == "Never":
            return PostFilterResult("preemption: not eligible due to preemptionPolicy=Never.")
        outcome: dict[str, Rejection] = {}
        promising = []
        for name in cycle.nodes:
            rejection = rejections.get(name)
            if rejection is None or rejection.unresolvable:
                outcome[name] = Rejection.of(_NOT_HELPFUL)
            else:
                promising.append(name)
        limit = max(MIN_CANDIDATES, len(cycle.nodes) * CANDIDATE_PERCENT // 100)
        offset = int(self._rand() * len(promising)) if promising else 0
        candidates: list[_Candidate] = []
        for name in promising[offset:] + promising[:offset]:
            if len(candidates) >= limit:
                break
            candidate = self._try(cycle, cycle.nodes[name])
            if candidate is None:
                outcome[name] = Rejection.of(_NO_VICTIMS)
            else:
                candidates.append(candidate)
        if not candidates:
            return PostFilterResult(f"preemption: {FitError(len(cycle.nodes), outcome)}")
        lowest = min(candidate.cost() for candidate in candidates)
        best = max((each for each in candidates if each.cost() == lowest), key=lambda each: _started(each.victims[0]))
        return PostFilterResult("", best.node, best.victims)

    def _try(self, cycle: Cycle, node: NodeInfo) -> _Candidate | None:
        framework = self._framework
        assert framework is not None
        lower = sorted(
            (pod for pod in node.pods.values() if pod.priority < cycle.pod.priority),
            key=lambda pod: (-pod.priority, _started(pod)),
        )
        if not lower:
            return None

        def fits(gone: set[str]) -> bool:
            trial = Cycle(cycle.pod, {**cycle.nodes, node.name: node.without(gone)})
            return framework.prepare(trial)[1] is None and framework.check(trial, trial.nodes[node.name]) is None

        gone = {pod.uid for pod in lower}
        if not fits(gone):
            return None
        violating = self._violating(lower)
        for pod in [each for each in lower if each.uid in violating] + [each for each in lower if each.uid not in violating]:
            if fits(gone - {pod.uid}):
                gone.discard(pod.uid)
        victims = tuple(pod for pod in lower if pod.uid in gone)
        if not victims:
            return None
        return _Candidate(node.name, victims, sum(1 for pod in victims if pod.uid in violating))

    def _violating(self, lower: Iterable[PodInfo]) -> set[str]:
        """The pods whose eviction would break a disruption budget, if all of them went in this order."""
        found: set[str] = set()
        allowed: dict[str, int] = {}
        for pod in lower:
            for budget in self._budgets(pod.namespace):
                selector = (budget.get("spec") or {}).get("selector")
                if selector is None or not labels.from_selector(selector).matches(pod.labels):
                    continue
                uid = budget["metadata"]["uid"]
                left = allowed.setdefault(uid, int((budget.get("status") or {}).get("disruptionsAllowed") or 0))
                allowed[uid] = left - 1
                if left <= 0:
                    found.add(pod.uid)
        return found


def _started(pod: PodInfo) -> str:
    """When it started, as sortable text; one that has not is the youngest."""
    return str((pod.pod.get("status") or {}).get("startTime") or "9999")
