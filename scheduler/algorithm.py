"""One decision: the best node for a pod as things stand. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kubeling.scheduler.framework import Feasible, Framework, Scores
from kubeling.scheduler.types import Cycle
from kubeling.scheduler.verdicts import FitError

#: Below this many nodes all are looked at; above, the search may stop when enough feasible ones are found (upstream's adaptive rule).
MIN_FEASIBLE = 100


@dataclass(slots=True)
class Decision:
    """The node, and how it came to that. `scores` is None where there was nothing to compare."""

    node: str
    feasible: Feasible
    scores: Scores | None
    next_start: int


def decide(framework: Framework, cycle: Cycle, *, start: int = 0, rand: Callable[[], float]) -> Decision:
    """Filter, score, choose. Raises FitError where no node fits; *post_filter* has not run then."""
    nodes = len(cycle.nodes)
    if nodes == 0:
        framework.prepare(cycle)
        raise FitError(0)
    if cycle.own in cycle.nodes:
        # Room was made for it there: no other node is looked at while it fits.
        try:
            only = framework.feasible(cycle, enough=1, only=cycle.own)
            return Decision(cycle.own, only, None, start)
        except FitError:
            cycle.state.clear()
            cycle.skip_filter.clear()
    start %= nodes
    found = framework.feasible(cycle, enough=enough(framework, cycle, nodes), start=start)
    next_start = (start + found.looked) % nodes
    if len(found) == 1:
        return Decision(found.node(0).name, found, None, next_start)
    scores = framework.scores(cycle, found)
    return Decision(found.node(scores.best(rand)).name, found, scores, next_start)


def enough(framework: Framework, cycle: Cycle, nodes: int) -> int:
    """How many feasible nodes are enough. All of them where looking at all costs next to nothing: on arrays, unless the profile says otherwise."""
    if nodes <= MIN_FEASIBLE:
        return max(nodes, 1)
    percentage = framework.percentage
    if not percentage:
        if cycle.table is not None and framework.vectorised:
            return nodes
        percentage = max(50 - nodes // 125, 5)
    return max(nodes * min(percentage, 100) // 100, MIN_FEASIBLE)
