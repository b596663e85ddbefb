"""Inter-pod affinity and anti-affinity: near to or far from other pods, by any node label.

Three rules filter: the pod's own required affinity, its own required anti-affinity, and the required anti-affinity of pods that are placed already. A
topology *domain* is a label key with one of its values. The per-node form counts pods by domain in dicts; the vector form reads the tallies that
:mod:`kubeling.scheduler.tallies` keeps, and makes the dicts from them only where single nodes are asked (preemption, nominations).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kubeling.scheduler.nodeinfo import AffinityTerm, NodeInfo, PodInfo
from kubeling.scheduler.plugin import Plugin, Rows
from kubeling.scheduler.types import MAX_SCORE, SKIP, Cycle, Depends, Rejection, Skip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kubeling.scheduler.table import Table
    from kubeling.scheduler.tallies import Tally

Domain = tuple[str, str]
Spaces = Mapping[str, Mapping[str, str]]

_NOT_NEAR = "node(s) didn't match pod affinity rules"
_NOT_FAR = "node(s) didn't match pod anti-affinity rules"
_REPELLED = "node(s) didn't satisfy existing pods anti-affinity rules"


@dataclass(slots=True)
class _Counts:
    """Pods by domain: those that all of the pod's affinity terms select, those that an anti-affinity term selects, those that repel the pod."""

    near: dict[Domain, int] = field(default_factory=dict)
    far: dict[Domain, int] = field(default_factory=dict)
    repelling: dict[Domain, int] = field(default_factory=dict)


@dataclass(slots=True)
class _State:
    """`counts` is made when it is first needed."""

    make: Callable[[], _Counts]
    selects_itself: bool
    known: _Counts | None = None

    @property
    def counts(self) -> _Counts:
        if self.known is None:
            self.known = self.make()
        return self.known

    def clone(self) -> _State:
        found = self.counts
        return _State(self.make, self.selects_itself, _Counts(dict(found.near), dict(found.far), dict(found.repelling)))


class InterPodAffinity(Plugin):
    """`hard_weight`: what a placed pod's required affinity towards the incoming pod counts in scoring (hardPodAffinityWeight).

    `spaces` gives the labels of all namespaces, for namespace selectors.
    """

    name = "InterPodAffinity"
    cured_by = frozenset({"nodes", "pods", "namespaces"})
    filter_depends = Depends.CLUSTER
    score_depends = Depends.CLUSTER

    def __init__(self, spaces: Callable[[], Spaces], hard_weight: int = 1, ignore_preferred_of_existing: bool = False) -> None:
        self._spaces, self._hard_weight, self._ignore = spaces, hard_weight, ignore_preferred_of_existing

    # -- filter --------------------------------------------------------------------------------------------------------------------

    def pre_filter(self, cycle: Cycle) -> Skip | None:
        pod, spaces = cycle.pod, self._spaces()
        itself = bool(pod.affinity) and all(pod.selected_by(term, spaces) for term in pod.affinity)
        table = cycle.table
        if table is not None:
            state = _State(lambda: self._from_tallies(cycle, table), itself)
            repels = any(kind == "far" and bool(tally.sums.any()) for kind, _, _, tally in table.pods.terms_about(pod))
        else:
            state = _State(lambda: self._from_nodes(cycle, spaces), itself)
            repels = bool(state.counts.repelling)
        cycle.state[self.name] = state
        return None if pod.affinity or pod.anti_affinity or repels else SKIP

    def _from_nodes(self, cycle: Cycle, spaces: Spaces) -> _Counts:
        counts, pod = _Counts(), cycle.pod
        for node in cycle.nodes.values():
            for other in node.with_anti_affinity.values():
                _repel(counts, pod, other, node, spaces, 1)
            if pod.affinity or pod.anti_affinity:
                for other in node.pods.values():
                    _attract(counts, pod, other, node, spaces, 1)
        return counts

    def _from_tallies(self, cycle: Cycle, table: Table) -> _Counts:
        counts, pod = _Counts(), cycle.pod

        def add(into: dict[Domain, int], key: str, tally: Tally) -> None:
            sums = tally.sums.tolist()
            for value, at in table.labels(key).values.items():
                if sums[at]:
                    into[key, value] = into.get((key, value), 0) + sums[at]

        for kind, key, _, tally in table.pods.terms_about(pod):
            if kind == "far":
                add(counts.repelling, key, tally)
        for term in pod.affinity:
            add(counts.near, term.key, table.pods.selected(pod.affinity, term.key))
        for term in pod.anti_affinity:
            add(counts.far, term.key, table.pods.selected((term,), term.key))
        return counts

    def add_pod(self, cycle: Cycle, pod: PodInfo, node: NodeInfo) -> None:
        self._shift(cycle, pod, node, 1)

    def remove_pod(self, cycle: Cycle, pod: PodInfo, node: NodeInfo) -> None:
        self._shift(cycle, pod, node, -1)

    def _shift(self, cycle: Cycle, other: PodInfo, node: NodeInfo, sign: int) -> None:
        counts, spaces = cycle.state[self.name].counts, self._spaces()
        _repel(counts, cycle.pod, other, node, spaces, sign)
        _attract(counts, cycle.pod, other, node, spaces, sign)

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        state: _State = cycle.state[self.name]
        counts, pod = state.counts, cycle.pod
        present = True
        for term in pod.affinity:
            if term.key not in node.labels:
                return Rejection.of(_NOT_NEAR, unresolvable=True)
            present = present and counts.near.get((term.key, node.labels[term.key]), 0) > 0
        # The first pod of a group that wants to be with its own kind would otherwise never start.
        if not present and not (state.selects_itself and not any(count > 0 for count in counts.near.values())):
            return Rejection.of(_NOT_NEAR, unresolvable=True)
        for term in pod.anti_affinity:
            if term.key in node.labels and counts.far.get((term.key, node.labels[term.key]), 0) > 0:
                return Rejection.of(_NOT_FAR)
        if any(count > 0 and node.labels.get(key) == value for (key, value), count in counts.repelling.items()):
            return Rejection.of(_REPELLED)
        return None

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        import numpy as np

        pod, index, size = cycle.pod, table.pods, table.size
        codes: NDArray[np.int32] | None = None
        repelling = np.zeros(size, dtype=bool)
        for kind, key, _, tally in index.terms_about(pod):
            if kind == "far":
                repelling |= (tally.sums > 0)[table.labels(key).ids[:size]]
        codes = np.where(repelling, np.int32(table.codes.of(Rejection((_REPELLED,), False, self.name))), np.int32(0))
        if pod.anti_affinity:
            near = np.zeros(size, dtype=bool)
            for term in pod.anti_affinity:
                near |= (index.selected((term,), term.key).sums > 0)[table.labels(term.key).ids[:size]]
            codes[near] = table.codes.of(Rejection((_NOT_FAR,), False, self.name))
        if pod.affinity:
            tallies = [(term.key, index.selected(pod.affinity, term.key)) for term in pod.affinity]
            first = cycle.state[self.name].selects_itself and not any(bool((tally.sums > 0).any()) for _, tally in tallies)
            lonely = np.zeros(size, dtype=bool)
            for key, tally in tallies:
                ids = table.labels(key).ids[:size]
                lonely |= ids < 0 if first else (tally.sums <= 0)[ids]
            codes[lonely] = table.codes.of(Rejection((_NOT_NEAR,), True, self.name))
        return codes[rows]

    # -- score ---------------------------------------------------------------------------------------------------------------------

    def pre_score(self, cycle: Cycle, nodes: Sequence[NodeInfo]) -> Skip | None:
        pod, spaces = cycle.pod, self._spaces()
        wants = bool(pod.preferred_affinity or pod.preferred_anti_affinity)
        if self._ignore and not wants:
            return SKIP
        weights: dict[str, dict[str, int]] = {}
        for node in cycle.nodes.values():
            for other in node.pods.values() if wants else node.with_affinity.values():
                self._weigh(weights, node, pod, other, spaces)
        cycle.state[self.name + "/scores"] = weights
        return None if weights else SKIP

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        weights: dict[str, dict[str, int]] = cycle.state[self.name + "/scores"]
        return sum(by_value.get(node.labels[key], 0) for key, by_value in weights.items() if key in node.labels)

    def normalize(self, cycle: Cycle, scores: dict[str, int]) -> None:
        lowest, highest = min(scores.values(), default=0), max(scores.values(), default=0)
        for name, score in scores.items():
            scores[name] = int(MAX_SCORE * ((score - lowest) / (highest - lowest))) if highest > lowest else 0

    def pre_score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> Skip | None:
        pod, index = cycle.pod, table.pods
        wants = bool(pod.preferred_affinity or pod.preferred_anti_affinity)
        if self._ignore and not wants:
            return SKIP
        parts: dict[str, list[tuple[int, Tally]]] = {}
        for term, weight in pod.preferred_affinity:
            parts.setdefault(term.key, []).append((weight, index.selected((term,), term.key)))
        for term, weight in pod.preferred_anti_affinity:
            parts.setdefault(term.key, []).append((-weight, index.selected((term,), term.key)))
        for kind, key, weight, tally in index.terms_about(pod):
            if kind == "soft":
                parts.setdefault(key, []).append((weight, tally))
            elif kind == "near" and self._hard_weight:
                parts.setdefault(key, []).append((self._hard_weight, tally))
        matched = {key: found for key, found in parts.items() if any(bool(tally.sums.any()) for _, tally in found)}
        cycle.state[self.name + "/rows"] = matched
        return None if matched else SKIP

    def score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int64]:
        import numpy as np

        total = np.zeros(table.size, dtype=np.int64)
        for key, found in cycle.state[self.name + "/rows"].items():
            by_value = sum(tally.sums * weight for weight, tally in found)
            total += by_value[table.labels(key).ids[: table.size]]
        return total[rows]

    def normalize_rows(self, cycle: Cycle, scores: NDArray[np.int64]) -> NDArray[np.int64]:
        import numpy as np

        lowest, highest = int(scores.min()), int(scores.max())
        if highest <= lowest:
            return np.zeros(len(scores), dtype=np.int64)
        return (MAX_SCORE * ((scores - lowest) / (highest - lowest))).astype(np.int64)

    def _weigh(self, weights: dict[str, dict[str, int]], node: NodeInfo, pod: PodInfo, other: PodInfo, spaces: Spaces) -> None:
        def add(term: AffinityTerm, selected: PodInfo, weight: int) -> None:
            value = node.labels.get(term.key)
            if value is not None and selected.selected_by(term, spaces):
                by_value = weights.setdefault(term.key, {})
                by_value[value] = by_value.get(value, 0) + weight

        for term, weight in pod.preferred_affinity:
            add(term, other, weight)
        for term, weight in pod.preferred_anti_affinity:
            add(term, other, -weight)
        for term in other.affinity if self._hard_weight else ():
            add(term, pod, self._hard_weight)
        for term, weight in other.preferred_affinity:
            add(term, pod, weight)
        for term, weight in other.preferred_anti_affinity:
            add(term, pod, -weight)

    def hint(self, change: Any, pod: Any) -> bool:
        """A node's change matters only where its labels changed; a pod's, always: it may attract or have repelled."""
        if change.resource != "nodes" or change.action != "update":
            return True
        return bool((change.old["metadata"].get("labels") or {}) != (change.new["metadata"].get("labels") or {}))


def _shifted(counts: dict[Domain, int], key: str, node: NodeInfo, sign: int) -> None:
    domain = (key, node.labels[key])
    left = counts.get(domain, 0) + sign
    if left:
        counts[domain] = left
    else:
        counts.pop(domain, None)


def _repel(counts: _Counts, pod: PodInfo, other: PodInfo, node: NodeInfo, spaces: Spaces, sign: int) -> None:
    for term in other.anti_affinity:
        if term.key in node.labels and pod.selected_by(term, spaces):
            _shifted(counts.repelling, term.key, node, sign)


def _attract(counts: _Counts, pod: PodInfo, other: PodInfo, node: NodeInfo, spaces: Spaces, sign: int) -> None:
    if pod.affinity and all(other.selected_by(term, spaces) for term in pod.affinity):
        for term in pod.affinity:
            if term.key in node.labels:
                _shifted(counts.near, term.key, node, sign)
    for term in pod.anti_affinity:
        if term.key in node.labels and other.selected_by(term, spaces):
            _shifted(counts.far, term.key, node, sign)
