"""Pod topology spread (KEP-895): pods of one selection evenly over zones, hosts, or whatever a node label names.

A pod without constraints of its own gets the cluster's defaults (KEP-1258): by host with skew 3 and by zone with skew 5, soft, over the pods of the
Services and controllers that select it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kubeling.api import affinity, labels, taints
from kubeling.scheduler.framework import MAX_SCORE, Cycle, Plugin, Rejection
from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class Constraint:
    """One of a pod's topologySpreadConstraints, with its selector parsed."""

    max_skew: int
    key: str
    selector: labels.Selector
    hard: bool
    min_domains: int
    honor_affinity: bool
    honor_taints: bool

    def counts_node(self, pod: PodInfo, node: NodeInfo) -> bool:
        """Whether the node takes part in the count."""
        if self.honor_affinity and not affinity.pod_matches_node(pod.pod, node.node):
            return False
        return not (self.honor_taints and taints.untolerated(node.taints, pod.spec.get("tolerations")))

    def count(self, pod: PodInfo, node: NodeInfo) -> int:
        """The selected pods on a node."""
        return sum(
            1
            for other in node.pods.values()
            if other.namespace == pod.namespace and not other.is_terminating and self.selector.matches(other.labels)
        )


def constraints_of(pod: PodInfo, selectors_of: Callable[[Obj], Iterable[Obj]]) -> list[Constraint]:
    """The pod's own constraints, or the defaults where it has none and something selects it."""
    own = pod.spec.get("topologySpreadConstraints")
    if own:
        return [_parse(each, pod) for each in own]
    selectors = list(selectors_of(pod.pod))
    if not selectors:
        return []
    merged = labels.Selector(tuple(part for each in selectors for part in labels.from_selector(each).requirements))
    return [
        Constraint(3, HOSTNAME, merged, hard=False, min_domains=1, honor_affinity=True, honor_taints=False),
        Constraint(5, ZONE, merged, hard=False, min_domains=1, honor_affinity=True, honor_taints=False),
    ]


def _parse(each: dict[str, Any], pod: PodInfo) -> Constraint:
    selector = labels.from_selector(each.get("labelSelector"))
    pinned = {key: pod.labels[key] for key in each.get("matchLabelKeys") or [] if key in pod.labels}
    if pinned:
        selector = labels.Selector((*selector.requirements, *labels.from_labels(pinned).requirements))
    return Constraint(
        max_skew=int(each.get("maxSkew") or 1),
        key=each.get("topologyKey") or "",
        selector=selector,
        hard=(each.get("whenUnsatisfiable") or "DoNotSchedule") == "DoNotSchedule",
        min_domains=int(each.get("minDomains") or 1),
        honor_affinity=(each.get("nodeAffinityPolicy") or "Honor") == "Honor",
        honor_taints=(each.get("nodeTaintsPolicy") or "Ignore") == "Honor",
    )


class PodTopologySpread(Plugin):
    """Hard constraints filter, soft ones score."""

    name = "PodTopologySpread"

    def __init__(self, selectors_of: Callable[[Obj], Iterable[Obj]]) -> None:
        self._selectors_of = selectors_of

    def pre_filter(self, cycle: Cycle) -> None:
        constraints = constraints_of(cycle.pod, self._selectors_of)
        hard = [each for each in constraints if each.hard]
        counts = [_counts(each, cycle, cycle.nodes.values(), hard) for each in hard]
        cycle.state[self.name] = (constraints, list(zip(hard, counts, strict=True)))

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        for constraint, counts in cycle.state[self.name][1]:
            domain = node.labels.get(constraint.key)
            if domain is None:
                return Rejection.of(
                    "node(s) didn't match pod topology spread constraints (missing required label)", unresolvable=True
                )
            lowest = 0 if len(counts) < constraint.min_domains else min(counts.values(), default=0)
            itself = 1 if constraint.selector.matches(cycle.pod.labels) else 0
            if counts.get(domain, 0) + itself - lowest > constraint.max_skew:
                return Rejection.of("node(s) didn't match pod topology spread constraints")
        return None

    def pre_score(self, cycle: Cycle, nodes: Sequence[NodeInfo]) -> bool:
        constraints: list[Constraint] = cycle.state[self.name][0]
        soft = [each for each in constraints if not each.hard]
        explicit = bool(cycle.pod.spec.get("topologySpreadConstraints"))
        prepared = []
        for constraint in soft:
            counts = _counts(constraint, cycle, cycle.nodes.values(), soft if explicit else [constraint])
            domains = {node.labels[constraint.key] for node in nodes if constraint.key in node.labels}
            prepared.append((constraint, counts, math.log(len(domains) + 2)))
        cycle.state[self.name + "/soft"] = prepared
        return bool(prepared)

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        total = 0.0
        for constraint, counts, weight in cycle.state[self.name + "/soft"]:
            domain = node.labels.get(constraint.key)
            if domain is not None:
                total += counts.get(domain, 0) * weight + (constraint.max_skew - 1)
            elif cycle.pod.spec.get("topologySpreadConstraints"):
                return -1
        return round(total * 1000)

    def normalize(self, cycle: Cycle, scores: dict[str, int]) -> None:
        """Few pods are good: the emptiest domain gets 100. A node that lacks a label of the pod's own constraints (-1) gets 0."""
        valid = [score for score in scores.values() if score >= 0]
        lowest, highest = min(valid, default=0), max(valid, default=0)
        for name, score in scores.items():
            if score < 0:
                scores[name] = 0
            else:
                scores[name] = MAX_SCORE if highest == 0 else MAX_SCORE * (highest + lowest - score) // highest


def _counts(constraint: Constraint, cycle: Cycle, nodes: Iterable[NodeInfo], together: Sequence[Constraint]) -> dict[str, int]:
    """Domain → selected pods in it, over the nodes that carry all keys of `together` and take part."""
    counts: dict[str, int] = {}
    for node in nodes:
        if all(each.key in node.labels for each in together) and constraint.counts_node(cycle.pod, node):
            domain = node.labels.get(constraint.key)
            if domain is not None:
                counts[domain] = counts.get(domain, 0) + constraint.count(cycle.pod, node)
    return counts
