"""Plugins that look at a node by itself: its name, its labels, its taints, its ports and its images."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from kubeling.api import affinity, taints
from kubeling.api.meta import labels_of, spec_of
from kubeling.scheduler.nodeinfo import HostPort, NodeInfo, Obj, fingerprint
from kubeling.scheduler.plugin import Plugin, Rows, normalize_by_max, normalize_rows_by_max
from kubeling.scheduler.types import SKIP, ClusterChange, Cycle, Depends, Rejection, Skip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kubeling.scheduler.table import Table

_FULL = "requiredDuringSchedulingIgnoredDuringExecution"
_CORDON = {"key": taints.UNSCHEDULABLE, "effect": taints.NO_SCHEDULE}
_SOFT = "preferredDuringSchedulingIgnoredDuringExecution"


class NodeName(Plugin):
    """A pod that names its node in spec.nodeName without being bound fits there only."""

    name = "NodeName"
    cured_by = frozenset({"nodes"})
    filter_depends = Depends.NODE

    def pre_filter(self, cycle: Cycle) -> Skip | None:
        return None if cycle.pod.spec.get("nodeName") else SKIP

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        wanted = cycle.pod.spec.get("nodeName")
        if wanted and wanted != node.name:
            return Rejection.of("node(s) didn't match the requested node name", unresolvable=True)
        return None

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        import numpy as np

        code = table.codes.of(Rejection(("node(s) didn't match the requested node name",), True, self.name))
        found = np.full(table.size, code, dtype=np.int32)
        row = table.index.get(cycle.pod.spec.get("nodeName") or "")
        if row is not None:
            found[row] = 0
        return found[rows]

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        return change.new is not None and change.new["metadata"]["name"] == spec_of(pod).get("nodeName")


class NodeUnschedulable(Plugin):
    """Cordoned nodes take only pods that tolerate that."""

    name = "NodeUnschedulable"
    cured_by = frozenset({"nodes"})
    filter_depends = Depends.NODE

    def pre_filter(self, cycle: Cycle) -> Skip | None:
        return SKIP if taints.is_tolerated(cycle.pod.spec.get("tolerations"), _CORDON) else None

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        return Rejection.of("node(s) were unschedulable", unresolvable=True) if node.unschedulable else None

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        import numpy as np

        cordoned = table.unschedulable[: table.size]
        if not cordoned.any():
            return None
        code = table.codes.of(Rejection(("node(s) were unschedulable",), True, self.name))
        return np.where(cordoned, np.int32(code), np.int32(0))[rows]

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        return change.new is not None and not spec_of(change.new).get("unschedulable")


class TaintToleration(Plugin):
    """NoSchedule and NoExecute taints keep pods away, PreferNoSchedule ones cost score."""

    name = "TaintToleration"
    cured_by = frozenset({"nodes"})
    filter_depends = Depends.NODE
    score_depends = Depends.NODE

    def pre_filter(self, cycle: Cycle) -> Skip | None:
        return SKIP if cycle.table is not None and not cycle.table.any_taints else None

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        return self._refusal(node.taints, cycle.pod.spec.get("tolerations")) if node.taints else None

    def _refusal(self, found: list[Obj], tolerations: list[Obj] | None) -> Rejection | None:
        taint = taints.untolerated(found, tolerations)
        if taint is None:
            return None
        words = f"node(s) had untolerated taint {{{taint.get('key', '')}: {taint.get('value') or ''}}}"
        return Rejection((words,), True, self.name)

    def filter_key(self, cycle: Cycle) -> Hashable:
        return fingerprint(cycle.pod.spec.get("tolerations"))

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        import numpy as np

        held = cycle.pod.spec.get("tolerations")
        return table.by_taints(lambda found: table.codes.of(self._refusal(found, held)), np.int32)[rows]

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        return self._disliked(node.taints, cycle.pod.spec.get("tolerations")) if node.taints else 0

    @staticmethod
    def _disliked(found: list[Obj], tolerations: list[Obj] | None) -> int:
        soft = [each for each in found if each.get("effect") == taints.PREFER_NO_SCHEDULE]
        held = [each for each in tolerations or () if not each.get("effect") or each["effect"] == taints.PREFER_NO_SCHEDULE]
        return sum(1 for taint in soft if not taints.is_tolerated(held, taint))

    def score_key(self, cycle: Cycle) -> Hashable:
        return fingerprint(cycle.pod.spec.get("tolerations"))

    def score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int64]:
        held = cycle.pod.spec.get("tolerations")
        return table.by_taints(lambda found: self._disliked(found, held))[rows]

    def normalize(self, cycle: Cycle, scores: dict[str, int]) -> None:
        normalize_by_max(scores, reverse=True)

    def normalize_rows(self, cycle: Cycle, scores: NDArray[np.int64]) -> NDArray[np.int64]:
        return normalize_rows_by_max(scores, reverse=True)

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        return change.new is not None and not taints.untolerated(
            spec_of(change.new).get("taints"), spec_of(pod).get("tolerations")
        )


class NodeAffinity(Plugin):
    """nodeSelector and node affinity; `added` is the profile's own, which every pod has to meet besides its own (addedAffinity)."""

    name = "NodeAffinity"
    cured_by = frozenset({"nodes"})
    filter_depends = Depends.NODE
    score_depends = Depends.NODE

    def __init__(self, added: Obj | None = None) -> None:
        self._added: Obj | None = (added or {}).get(_FULL)
        self._added_soft: list[Obj] = (added or {}).get(_SOFT) or []

    def pre_filter(self, cycle: Cycle) -> Rejection | frozenset[str] | Skip | None:
        wanted = _node_affinity(cycle.pod.spec).get(_FULL)
        if not cycle.pod.spec.get("nodeSelector") and wanted is None and self._added is None:
            return SKIP
        named = _named_nodes(wanted)
        if named is not None and not named:
            return Rejection.of("pod affinity terms conflict", unresolvable=True)
        return named

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        if self._added is not None and not affinity.matches_node_selector(self._added, node.node):
            return Rejection.of("node(s) didn't match scheduler-enforced node affinity", unresolvable=True)
        if affinity.pod_matches_node(cycle.pod.pod, node.node):
            return None
        return Rejection.of("node(s) didn't match Pod's node affinity/selector", unresolvable=True)

    def filter_key(self, cycle: Cycle) -> Hashable:
        spec = cycle.pod.spec
        return fingerprint([spec.get("nodeSelector"), _node_affinity(spec).get(_FULL)])

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        import numpy as np

        from kubeling.scheduler.plugins import selection

        own = table.codes.of(Rejection(("node(s) didn't match Pod's node affinity/selector",), True, self.name))
        found = np.where(selection.pod_matches(table, cycle.pod.spec), np.int32(0), np.int32(own))
        if self._added is not None:
            enforced = table.codes.of(Rejection(("node(s) didn't match scheduler-enforced node affinity",), True, self.name))
            found[~selection.matches_selector(table, self._added)] = enforced
        return found[rows]

    def pre_score(self, cycle: Cycle, nodes: Any) -> Skip | None:
        return None if self._added_soft or _node_affinity(cycle.pod.spec).get(_SOFT) else SKIP

    def pre_score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> Skip | None:
        return self.pre_score(cycle, ())

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        total = 0
        for each in (*self._added_soft, *(_node_affinity(cycle.pod.spec).get(_SOFT) or ())):
            term = each.get("preference") or {}
            if _is_empty(term) or affinity.matches_term(term, node.node):
                total += int(each.get("weight") or 0)
        return total

    def score_key(self, cycle: Cycle) -> Hashable:
        return fingerprint(_node_affinity(cycle.pod.spec).get(_SOFT))

    def score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int64]:
        import numpy as np

        from kubeling.scheduler.plugins import selection

        total = np.zeros(table.size, dtype=np.int64)
        for each in (*self._added_soft, *(_node_affinity(cycle.pod.spec).get(_SOFT) or ())):
            term, weight = each.get("preference") or {}, int(each.get("weight") or 0)
            if _is_empty(term):
                total += weight
            else:
                total[selection.matches_term(table, term)] += weight
        return total[rows]

    def normalize(self, cycle: Cycle, scores: dict[str, int]) -> None:
        normalize_by_max(scores)

    def normalize_rows(self, cycle: Cycle, scores: NDArray[np.int64]) -> NDArray[np.int64]:
        return normalize_rows_by_max(scores)

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        if change.new is None or not affinity.pod_matches_node(pod, change.new):
            return False
        return change.old is None or labels_of(change.old) != labels_of(change.new)


def _node_affinity(spec: Obj) -> Obj:
    return (spec.get("affinity") or {}).get("nodeAffinity") or {}


def _is_empty(term: Obj) -> bool:
    return not (term.get("matchExpressions") or term.get("matchFields"))


def _named_nodes(wanted: Obj | None) -> frozenset[str] | None:
    """The only nodes that can match, where every term names nodes by metadata.name; None where some term does not."""
    terms = (wanted or {}).get("nodeSelectorTerms") or ()
    if not terms:
        return None
    found: frozenset[str] = frozenset()
    for term in terms:
        named: frozenset[str] | None = None
        for each in term.get("matchFields") or ():
            if each.get("key") == "metadata.name" and each.get("operator") == "In":
                values = frozenset(each.get("values") or ())
                named = values if named is None else named & values
        if named is None:
            return None
        found |= named
    return found


class NodePorts(Plugin):
    """Host ports are given away once."""

    name = "NodePorts"
    cured_by = frozenset({"nodes", "pods/delete"})
    filter_depends = Depends.PODS

    def pre_filter(self, cycle: Cycle) -> Skip | None:
        return None if cycle.pod.host_ports else SKIP

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        if any(_conflicts(wanted, taken) for wanted in cycle.pod.host_ports for taken in node.host_ports):
            return Rejection.of("node(s) didn't have free ports for the requested pod ports")
        return None

    def filter_key(self, cycle: Cycle) -> Hashable:
        return tuple(cycle.pod.host_ports)

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        import numpy as np

        code = table.codes.of(Rejection(("node(s) didn't have free ports for the requested pod ports",), False, self.name))
        found = np.zeros(table.size, dtype=np.int32)
        for row, info in enumerate(table.infos):
            if info.host_ports and self.filter(cycle, info) is not None:
                found[row] = code
        return found[rows]

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        return change.action != "delete" if change.resource == "nodes" else bool(change.old)


def _conflicts(left: HostPort, right: HostPort) -> bool:
    """The same port and protocol on the same address, or on all addresses on either side."""
    return left[1:] == right[1:] and (left[0] == right[0] or "0.0.0.0" in (left[0], right[0]))
