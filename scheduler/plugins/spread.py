"""Pod topology spread (KEP-895): pods of one selection evenly over zones, hosts, or whatever a node label names.

A pod without constraints of its own gets the profile's defaults (KEP-1258), by default the system's: by host with skew 3 and by zone with skew 5, soft,
over the pods of the Services and the controller that select it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kubeling.api import affinity, labels, taints
from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo, fingerprint
from kubeling.scheduler.plugin import Plugin, Rows
from kubeling.scheduler.types import MAX_SCORE, SKIP, Cycle, Depends, Rejection, Skip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kubeling.scheduler.table import Table

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
#: What upstream spreads by where neither the pod nor the profile says anything.
SYSTEM_DEFAULTS: tuple[Obj, ...] = (
    {"maxSkew": 3, "topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway"},
    {"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway"},
)

_NO_LABEL = "node(s) didn't match pod topology spread constraints (missing required label)"
_SKEWED = "node(s) didn't match pod topology spread constraints"
_MANY = 2**62
_WANTED = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True, slots=True)
class Constraint:
    """One of a pod's topologySpreadConstraints, with its selector parsed."""

    max_skew: int
    key: str
    selector: labels.Selector
    hard: bool
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False

    def counts_node(self, pod: PodInfo, node: NodeInfo) -> bool:
        """Whether the node takes part in the count (KEP-3094)."""
        if self.honor_affinity and not affinity.pod_matches_node(pod.pod, node.node):
            return False
        return not (self.honor_taints and taints.untolerated(node.taints, pod.spec.get("tolerations")))

    def count(self, pod: PodInfo, node: NodeInfo) -> int:
        """The selected pods on a node. An empty selector counts none, as upstream has it."""
        return sum(self.counts(pod, other) for other in node.pods.values())

    def counts(self, pod: PodInfo, other: PodInfo) -> bool:
        return (
            not self.selector.everything
            and other.namespace == pod.namespace
            and not other.is_terminating
            and self.selector.matches(other.labels)
        )


@dataclass(slots=True)
class _State:
    """Hard constraints with, for each, domain → selected pods; made when first needed."""

    hard: list[Constraint]
    make: Callable[[], list[dict[str, int]]]
    known: list[dict[str, int]] | None = None

    @property
    def counts(self) -> list[dict[str, int]]:
        if self.known is None:
            self.known = self.make()
        return self.known

    def clone(self) -> _State:
        return _State(self.hard, self.make, [dict(each) for each in self.counts])


class PodTopologySpread(Plugin):
    """Hard constraints filter, soft ones score.

    `default_selector` finds the selector of the Services and the controller of a pod; None where nothing selects it. `defaults` are the profile's
    constraints for pods without their own; with `system` they are upstream's own, for which nodes may lack labels.
    """

    name = "PodTopologySpread"
    filter_depends = Depends.CLUSTER
    score_depends = Depends.CLUSTER

    def __init__(
        self,
        default_selector: Callable[[Obj], labels.Selector | None],
        defaults: Sequence[Obj] = SYSTEM_DEFAULTS,
        system: bool = True,
    ) -> None:
        self._default_selector, self._defaults, self._system = default_selector, tuple(defaults), system

    def _constraints(self, pod: PodInfo, hard: bool) -> list[Constraint]:
        own = pod.spec.get("topologySpreadConstraints")
        if own:
            return [_parse(each, pod) for each in own if _is_hard(each) == hard]
        wanted = [each for each in self._defaults if _is_hard(each) == hard]
        selector = self._default_selector(pod.pod) if wanted else None
        if selector is None:
            return []
        return [replace(_parse(each, pod), selector=selector) for each in wanted]

    # -- filter --------------------------------------------------------------------------------------------------------------------

    def pre_filter(self, cycle: Cycle) -> Skip | None:
        hard = self._constraints(cycle.pod, hard=True)
        if not hard:
            return SKIP
        table = cycle.table
        if table is None:
            state = _State(hard, lambda: [_counts(each, cycle, hard) for each in hard])
        else:
            state = _State(hard, lambda: self._from_tallies(cycle, table, hard))
        cycle.state[self.name] = state
        return None

    def add_pod(self, cycle: Cycle, pod: PodInfo, node: NodeInfo) -> None:
        self._shift(cycle, pod, node, 1)

    def remove_pod(self, cycle: Cycle, pod: PodInfo, node: NodeInfo) -> None:
        self._shift(cycle, pod, node, -1)

    def _shift(self, cycle: Cycle, other: PodInfo, node: NodeInfo, sign: int) -> None:
        state: _State = cycle.state[self.name]
        if not all(each.key in node.labels for each in state.hard):
            return
        for constraint, counts in zip(state.hard, state.counts, strict=True):
            if constraint.counts(cycle.pod, other) and constraint.counts_node(cycle.pod, node):
                domain = node.labels[constraint.key]
                counts[domain] = counts.get(domain, 0) + sign

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        state: _State = cycle.state[self.name]
        for constraint, counts in zip(state.hard, state.counts, strict=True):
            domain = node.labels.get(constraint.key)
            if domain is None:
                return Rejection.of(_NO_LABEL, unresolvable=True)
            lowest = 0 if len(counts) < constraint.min_domains else min(counts.values(), default=0)
            itself = 1 if constraint.selector.matches(cycle.pod.labels) else 0
            if counts.get(domain, 0) + itself - lowest > constraint.max_skew:
                return Rejection.of(_SKEWED)
        return None

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        import numpy as np

        hard: list[Constraint] = cycle.state[self.name].hard
        skewed = np.int32(table.codes.of(Rejection((_SKEWED,), False, self.name)))
        unlabelled = np.int32(table.codes.of(Rejection((_NO_LABEL,), True, self.name)))
        codes = np.zeros(table.size, dtype=np.int32)
        for constraint in reversed(hard):  # The first constraint that rejects a node is the one that counts: it writes last.
            tally = self._tally(cycle, table, constraint, hard)
            ids = table.labels(constraint.key).ids[: table.size]
            domains = int(np.count_nonzero(tally.present))
            lowest = 0
            if domains and domains >= constraint.min_domains:
                lowest = int(tally.sums.min(where=tally.present, initial=_MANY))
            itself = 1 if constraint.selector.matches(cycle.pod.labels) else 0
            verdict = np.where(tally.sums > constraint.max_skew + lowest - itself, skewed, np.int32(0))
            verdict[-1] = unlabelled
            found = verdict[ids]
            codes = found if not codes.any() else np.where(found, found, codes)
        return codes[rows]

    def _tally(self, cycle: Cycle, table: Table, constraint: Constraint, together: Sequence[Constraint]) -> Any:
        mask, key = _mask(cycle, table, constraint, tuple(each.key for each in together))
        return table.pods.spread(self._counter(cycle, table, constraint), constraint.key, mask, key)

    @staticmethod
    def _counter(cycle: Cycle, table: Table, constraint: Constraint) -> Any:
        selector = labels.NOTHING if constraint.selector.everything else constraint.selector
        return table.pods.matching(cycle.pod.namespace, selector)

    def _from_tallies(self, cycle: Cycle, table: Table, hard: list[Constraint]) -> list[dict[str, int]]:
        found = []
        for constraint in hard:
            tally = self._tally(cycle, table, constraint, hard)
            sums, present = tally.sums.tolist(), tally.present.tolist()
            found.append({value: sums[at] for value, at in table.labels(constraint.key).values.items() if present[at]})
        return found

    # -- score ---------------------------------------------------------------------------------------------------------------------

    def _needs_all(self, cycle: Cycle) -> bool:
        """Whether a node that lacks one of the labels is left out: not for the system's defaults."""
        return bool(cycle.pod.spec.get("topologySpreadConstraints")) or not self._system

    def pre_score(self, cycle: Cycle, nodes: Sequence[NodeInfo]) -> Skip | None:
        soft = self._constraints(cycle.pod, hard=False)
        if not soft:
            return SKIP
        strict = self._needs_all(cycle)
        left_out = {node.name for node in nodes if strict and not all(each.key in node.labels for each in soft)}
        taking_part = [node for node in nodes if node.name not in left_out]
        prepared: list[Any] = []
        for constraint in soft:
            if constraint.key == HOSTNAME:
                prepared.append((constraint, {}, _weight(len(taking_part))))
                continue
            domains = {node.labels.get(constraint.key) for node in taking_part}
            counts = _counts(constraint, cycle, soft if strict else ())
            prepared.append((constraint, counts, _weight(len(domains))))
        cycle.state[self.name + "/soft"] = (prepared, left_out)
        return None

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        prepared, left_out = cycle.state[self.name + "/soft"]
        if node.name in left_out:
            return -1
        total = 0.0
        for constraint, counts, weight in prepared:
            domain = node.labels.get(constraint.key)
            if domain is not None:
                count = constraint.count(cycle.pod, node) if constraint.key == HOSTNAME else counts.get(domain, 0)
                total += count * weight + (constraint.max_skew - 1)
        return math.floor(total + 0.5)

    def normalize(self, cycle: Cycle, scores: dict[str, int]) -> None:
        """Few pods are good: the emptiest domain gets most. A node that was left out (-1) gets 0."""
        valid = [score for score in scores.values() if score >= 0]
        lowest, highest = min(valid, default=0), max(valid, default=0)
        for name, score in scores.items():
            if score < 0:
                scores[name] = 0
            else:
                scores[name] = MAX_SCORE * (highest + lowest - score) // highest if highest else MAX_SCORE

    def pre_score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> Skip | None:
        import numpy as np

        soft = self._constraints(cycle.pod, hard=False)
        if not soft:
            return SKIP
        strict = self._needs_all(cycle)
        left_out: NDArray[np.bool_] | None = None
        if strict:
            complete = _complete(table, tuple(each.key for each in soft))
            left_out = ~complete if not bool(complete.all()) else None
        assert not isinstance(rows, slice)
        taking_part = rows if left_out is None else rows[~left_out[rows]]
        prepared = []
        for constraint in soft:
            counter = self._counter(cycle, table, constraint)
            if constraint.key == HOSTNAME:
                prepared.append((constraint, counter.counts, None, _weight(len(taking_part))))
                continue
            column = table.labels(constraint.key)
            ids = column.ids[: table.size]
            seen = np.zeros(len(column.values) + 1, dtype=bool)
            seen[ids if len(taking_part) == table.size else ids[taking_part]] = True
            tally = self._tally(cycle, table, constraint, soft if strict else ())
            prepared.append((constraint, None, tally.sums, _weight(int(np.count_nonzero(seen)))))
        cycle.state[self.name + "/soft"] = (prepared, left_out)
        return None

    def score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int64]:
        import numpy as np

        prepared, left_out = cycle.state[self.name + "/soft"]
        total = np.zeros(table.size)
        for constraint, counts, sums, weight in prepared:
            ids = table.labels(constraint.key).ids[: table.size]
            if sums is None:
                part = counts[: table.size] * weight + (constraint.max_skew - 1)
                part[ids < 0] = 0
            else:
                by_domain = sums * weight + (constraint.max_skew - 1)
                by_domain[-1] = 0
                part = by_domain[ids]
            total += part
        found = np.floor(total + 0.5).astype(np.int64)
        if left_out is not None:
            found[left_out] = -1
        return found[rows]

    def normalize_rows(self, cycle: Cycle, scores: NDArray[np.int64]) -> NDArray[np.int64]:
        import numpy as np

        valid = scores >= 0
        whole = bool(valid.all())
        found = scores if whole else scores[valid]
        lowest, highest = (int(found.min()), int(found.max())) if len(found) else (0, 0)
        scaled = MAX_SCORE * (highest + lowest - scores) // highest if highest else np.full(len(scores), MAX_SCORE)
        return scaled if whole else np.where(valid, scaled, 0)


def _weight(domains: int) -> float:
    return math.log(domains + 2)


def _is_hard(each: Obj) -> bool:
    return (each.get("whenUnsatisfiable") or "DoNotSchedule") == "DoNotSchedule"


def _parse(each: Obj, pod: PodInfo) -> Constraint:
    selector = labels.from_selector(each.get("labelSelector"))
    pinned = {key: pod.labels[key] for key in each.get("matchLabelKeys") or [] if key in pod.labels}
    if pinned and not selector.nothing:
        selector = labels.Selector((*selector.requirements, *labels.from_labels(pinned).requirements))
    return Constraint(
        max_skew=int(each.get("maxSkew") or 1),
        key=each.get("topologyKey") or "",
        selector=selector,
        hard=_is_hard(each),
        min_domains=int(each.get("minDomains") or 1),
        honor_affinity=(each.get("nodeAffinityPolicy") or "Honor") == "Honor",
        honor_taints=(each.get("nodeTaintsPolicy") or "Ignore") == "Honor",
    )


def _counts(constraint: Constraint, cycle: Cycle, together: Sequence[Constraint]) -> dict[str, int]:
    """Domain → selected pods in it, over the nodes that carry all keys of `together` and take part."""
    counts: dict[str, int] = {}
    for node in cycle.nodes.values():
        if all(each.key in node.labels for each in together) and constraint.counts_node(cycle.pod, node):
            domain = node.labels.get(constraint.key)
            if domain is not None:
                counts[domain] = counts.get(domain, 0) + constraint.count(cycle.pod, node)
    return counts


def _complete(table: Table, keys: tuple[str, ...]) -> NDArray[np.bool_]:
    """The nodes that carry all of these labels."""
    import numpy as np

    def one(row: int) -> bool:
        return all(key in table.infos[row].labels for key in keys)

    def whole() -> NDArray[np.bool_]:
        found = np.ones(table.size, dtype=bool)
        for key in keys:
            found &= table.labels(key).ids[: table.size] >= 0
        return found

    return table.column(("complete", keys), Depends.NODE, whole, one)


def _mask(cycle: Cycle, table: Table, constraint: Constraint, keys: tuple[str, ...]) -> tuple[NDArray[np.bool_], Hashable]:
    """The nodes that take part in a constraint's count, and a name for that choice."""
    import numpy as np

    from kubeling.scheduler.plugins import selection

    pod, spec = cycle.pod, cycle.pod.spec
    wanted = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_WANTED)
    demands = fingerprint([spec.get("nodeSelector"), wanted]) if constraint.honor_affinity else b""
    held = fingerprint(["t", spec.get("tolerations")]) if constraint.honor_taints else b""

    def one(row: int) -> bool:
        info = table.infos[row]
        return all(key in info.labels for key in keys) and constraint.counts_node(pod, info)

    def whole() -> NDArray[np.bool_]:
        found = _complete(table, keys).copy()
        if constraint.honor_affinity:
            found &= selection.pod_matches(table, spec)
        if constraint.honor_taints:
            found &= table.by_taints(lambda each: int(taints.untolerated(each, spec.get("tolerations")) is None), np.bool_)
        return found

    return table.column(("mask", keys, demands, held), Depends.NODE, whole, one), (keys, demands, held)
