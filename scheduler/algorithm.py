"""One decision: the best node for a pod as things stand. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kubeling.scheduler.framework import Feasible, Framework, Scores
from kubeling.scheduler.types import Cycle, Rejection
from kubeling.scheduler.verdicts import FitError, PlainVerdicts

#: Below this many nodes all are looked at; above, the search may stop when enough feasible ones are found (upstream's adaptive rule).
MIN_FEASIBLE = 100


@dataclass(slots=True)
class Decision:
    """The node, and how it came to that. `scores` is None where there was nothing to compare."""

    node: str
    feasible: Feasible
    scores: Scores | None
    next_start: int


def decide(
    framework: Framework,
    cycle: Cycle,
    *,
    start: int = 0,
    rand: Callable[[], float],
    allowed: tuple[frozenset[str], dict[str, Rejection]] | None = None,
    bonus: Mapping[str, int] | None = None,
) -> Decision:
    """Filter, score, choose. Raises FitError where no node fits; *post_filter* has not run then.

    `allowed`: the nodes that extenders left over, with their reasons for others; `bonus`: what they add to the scores.
    """
    nodes = len(cycle.nodes)
    if nodes == 0:
        framework.prepare(cycle)
        raise FitError(0)
    if cycle.own in cycle.nodes and (allowed is None or cycle.own in allowed[0]):
        # Room was made for it there: no other node is looked at while it fits.
        try:
            only = framework.feasible(cycle, enough=1, only=cycle.own)
            return Decision(cycle.own, only, None, start)
        except FitError:
            cycle.state.clear()
            cycle.skip_filter.clear()
    start %= nodes
    found = framework.feasible(cycle, enough=nodes if allowed else enough(framework, cycle, nodes), start=start)
    next_start = (start + found.looked) % nodes
    if allowed is not None:
        kept = found.keep(allowed[0])
        if not len(kept):
            rejected = dict(found.verdicts.items()) if found.verdicts is not None else {}
            raise FitError(
                nodes, PlainVerdicts({name: each for name, each in {**allowed[1], **rejected}.items() if name in cycle.nodes})
            )
        found = kept
    if len(found) == 1:
        return Decision(found.node(0).name, found, None, next_start)
    scores = framework.scores(cycle, found)
    if bonus:
        scores.add([bonus.get(node.name, 0) for node in found.nodes])
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
