"""Default preemption: where no node fits, remove pods of lower priority from the node where that hurts least.

For each node whose rejection removing pods could cure: take all lower-priority pods away, see whether the pod fits, then give back as many as possible,
those under a disruption budget first and the most important before the others. The best node is the one with, in this order: fewest budget violations,
lowest highest-priority victim, lowest sum of priorities, fewest victims, latest start of the most important victim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kubeling.api import labels
from kubeling.scheduler.framework import Framework
from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo
from kubeling.scheduler.plugin import Plugin
from kubeling.scheduler.types import Cycle, PostFilterResult
from kubeling.scheduler.verdicts import Verdicts

_NO_VICTIMS = "No preemption victims found for incoming pod"
_NOT_HELPFUL = "Preemption is not helpful for scheduling"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that would do once `victims` (the most important first) are gone; `violations` of them break a budget."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int

    def cost(self) -> tuple[int, int, int, int]:
        return (self.violations, self.victims[0].priority, sum(pod.priority + 2**31 for pod in self.victims), len(self.victims))


class DefaultPreemption(Plugin):
    """At most `percent` % of the nodes, but no fewer than `minimum`, are tried (upstream's minCandidateNodesPercentage and -Absolute)."""

    name = "DefaultPreemption"

    def __init__(
        self, budgets: Callable[[str], Iterable[Obj]], rand: Callable[[], float], percent: int = 10, minimum: int = 100
    ) -> None:
        self._budgets, self._rand, self._percent, self._minimum = budgets, rand, percent, minimum
        self._framework: Framework | None = None

    def attached(self, framework: Framework) -> None:
        self._framework = framework

    def post_filter(self, cycle: Cycle, verdicts: Verdicts) -> PostFilterResult | None:
        if not cycle.nodes:
            return None
        refusal = self._not_eligible(cycle)
        if refusal:
            return PostFilterResult(f"preemption: {refusal}", keeps=True)
        promising = verdicts.curable()
        if not promising:
            return self._nothing(cycle, {_NOT_HELPFUL: len(cycle.nodes)})
        limit = min(max(self._minimum, len(cycle.nodes) * self._percent // 100), len(promising))
        offset = int(self._rand() * len(promising)) % len(promising)
        candidates: list[Candidate] = []
        clean = tried = 0
        for name in promising[offset:] + promising[:offset]:
            # Looking on is worth it only while no node was found that breaks no budget.
            if clean and len(candidates) >= limit:
                break
            tried += 1
            candidate = self._try(cycle, cycle.nodes[name])
            if candidate is not None:
                candidates.append(candidate)
                clean += not candidate.violations
        if not candidates:
            return self._nothing(cycle, {_NOT_HELPFUL: len(cycle.nodes) - len(promising), _NO_VICTIMS: tried})
        lowest = min(candidate.cost() for candidate in candidates)
        best = max((each for each in candidates if each.cost() == lowest), key=lambda each: started(each.victims[0]))
        return PostFilterResult("", best.node, best.victims)

    def _nothing(self, cycle: Cycle, why: dict[str, int]) -> PostFilterResult:
        counts = ", ".join(sorted(f"{count} {reason}" for reason, count in why.items() if count))
        return PostFilterResult(f"preemption: 0/{len(cycle.nodes)} nodes are available: {counts}.")

    def _not_eligible(self, cycle: Cycle) -> str:
        pod = cycle.pod
        if pod.spec.get("preemptionPolicy") == "Never":
            return "not eligible due to preemptionPolicy=Never."
        node = cycle.nodes.get(cycle.own)
        if node is not None and any(
            other.is_terminating and other.priority < pod.priority and _is_preempted(other) for other in node.pods.values()
        ):
            return "not eligible due to a terminating pod on the nominated node."
        return ""

    def _try(self, cycle: Cycle, node: NodeInfo) -> Candidate | None:
        framework = self._framework
        assert framework is not None
        lower = sorted(
            (pod for pod in node.pods.values() if pod.priority < cycle.pod.priority),
            key=lambda pod: (-pod.priority, started(pod)),
        )
        if not lower:
            return None
        trial, left = cycle.fork(), node.copy()

        def shift(pod: PodInfo, *, back: bool) -> None:
            if back:
                left.add(pod)
            else:
                left.remove(pod.uid)
            for plugin in framework.filters:
                if plugin.name not in cycle.skip_filter:
                    (plugin.add_pod if back else plugin.remove_pod)(trial, pod, node)

        for pod in lower:
            shift(pod, back=False)
        if framework.check(trial, left) is not None:
            return None
        violating = self._violating(lower)
        gone: set[str] = set()
        for pod in [each for each in lower if each.uid in violating] + [each for each in lower if each.uid not in violating]:
            shift(pod, back=True)
            if framework.check(trial, left) is not None:
                shift(pod, back=False)
                gone.add(pod.uid)
        victims = tuple(pod for pod in lower if pod.uid in gone)
        if not victims:
            return None
        return Candidate(node.name, victims, sum(1 for pod in victims if pod.uid in violating))

    def _violating(self, lower: Iterable[PodInfo]) -> set[str]:
        """The pods whose eviction would break a disruption budget, if all of them went in this order."""
        found: set[str] = set()
        allowed: dict[str, int] = {}
        for pod in lower:
            for budget in self._budgets(pod.namespace):
                selector = (budget.get("spec") or {}).get("selector")
                if not pod.labels or selector is None or not labels.from_selector(selector).matches(pod.labels):
                    continue
                status = budget.get("status") or {}
                if pod.name in (status.get("disruptedPods") or {}):
                    continue  # Its eviction was granted already.
                uid = budget["metadata"]["uid"]
                left = allowed.setdefault(uid, int(status.get("disruptionsAllowed") or 0))
                allowed[uid] = left - 1
                if left <= 0:
                    found.add(pod.uid)
        return found


def _is_preempted(pod: PodInfo) -> bool:
    """Whether it is on its way out because of a preemption."""
    conditions = (pod.pod.get("status") or {}).get("conditions") or ()
    return any(
        each.get("type") == "DisruptionTarget" and each.get("status") == "True" and each.get("reason") == "PreemptionByScheduler"
        for each in conditions
    )


def started(pod: PodInfo) -> str:
    """When it started, as sortable text; one that has not is the youngest."""
    return str((pod.pod.get("status") or {}).get("startTime") or "9999")
