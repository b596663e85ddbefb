"""Inter-pod affinity and anti-affinity: near to or far from other pods, by any node label.

Three rules filter: the pod's own required affinity, its own required anti-affinity, and the required anti-affinity of pods that are placed already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kubeling.api.affinity import pod_term_selects
from kubeling.scheduler.framework import MAX_SCORE, Cycle, Plugin, Rejection
from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo

Domain = tuple[str, str]

#: What a placed pod's required affinity towards the incoming pod counts in scoring (upstream's hardPodAffinityWeight).
HARD_WEIGHT = 1


class InterPodAffinity(Plugin):
    name = "InterPodAffinity"
    cured_by = frozenset({"nodes", "pods", "namespaces"})

    def __init__(self, namespace_labels: Callable[[], Mapping[str, Mapping[str, str]]]) -> None:
        self._namespace_labels = namespace_labels

    def pre_filter(self, cycle: Cycle) -> None:
        pod, spaces = cycle.pod, self._namespace_labels()
        repelled: set[Domain] = set()
        near: set[tuple[int, Domain]] = set()
        far: set[tuple[int, Domain]] = set()
        matched_anywhere = False
        for node in cycle.nodes.values():
            for other in node.with_anti_affinity.values():
                repelled.update(
                    (key, node.labels[key])
                    for term in other.anti_affinity
                    if (key := term.get("topologyKey", "")) in node.labels and pod_term_selects(term, other.pod, pod.pod, spaces)
                )
            if not pod.affinity and not pod.anti_affinity:
                continue
            for other in node.pods.values():
                if pod.affinity and all(pod_term_selects(term, pod.pod, other.pod, spaces) for term in pod.affinity):
                    for number, term in enumerate(pod.affinity):
                        if (key := term.get("topologyKey", "")) in node.labels:
                            matched_anywhere = True
                            near.add((number, (key, node.labels[key])))
                for number, term in enumerate(pod.anti_affinity):
                    if (key := term.get("topologyKey", "")) in node.labels and pod_term_selects(term, pod.pod, other.pod, spaces):
                        far.add((number, (key, node.labels[key])))
        # The first pod of a group that wants to be with its own kind would otherwise never start.
        first = (
            not matched_anywhere
            and bool(pod.affinity)
            and all(pod_term_selects(term, pod.pod, pod.pod, spaces) for term in pod.affinity)
        )
        cycle.state[self.name] = (repelled, near, far, first)

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        repelled, near, far, first = cycle.state[self.name]
        pod = cycle.pod
        for number, term in enumerate(pod.affinity):
            key = term.get("topologyKey", "")
            if key not in node.labels or (not first and (number, (key, node.labels[key])) not in near):
                return Rejection.of("node(s) didn't match pod affinity rules", unresolvable=True)
        for number, term in enumerate(pod.anti_affinity):
            key = term.get("topologyKey", "")
            if key in node.labels and (number, (key, node.labels[key])) in far:
                return Rejection.of("node(s) didn't match pod anti-affinity rules")
        if any(node.labels.get(key) == value for key, value in repelled):
            return Rejection.of("node(s) didn't satisfy existing pods anti-affinity rules")
        return None

    def pre_score(self, cycle: Cycle, nodes: Sequence[NodeInfo]) -> bool:
        pod, spaces = cycle.pod, self._namespace_labels()
        wants = bool(pod.preferred_affinity or pod.preferred_anti_affinity)
        weights: dict[Domain, int] = {}
        for node in cycle.nodes.values():
            for other in node.pods.values() if wants else node.with_affinity.values():
                self._weigh(weights, node, pod, other, spaces)
        cycle.state[self.name + "/scores"] = weights
        return bool(weights)

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        weights: dict[Domain, int] = cycle.state[self.name + "/scores"]
        return sum(weight for (key, value), weight in weights.items() if node.labels.get(key) == value)

    def normalize(self, cycle: Cycle, scores: dict[str, int]) -> None:
        lowest, highest = min(scores.values(), default=0), max(scores.values(), default=0)
        for name, score in scores.items():
            scores[name] = MAX_SCORE * (score - lowest) // (highest - lowest) if highest > lowest else 0

    @staticmethod
    def _weigh(
        weights: dict[Domain, int], node: NodeInfo, pod: PodInfo, other: PodInfo, spaces: Mapping[str, Mapping[str, str]]
    ) -> None:
        def add(term: Obj, owner: PodInfo, selected: PodInfo, weight: int) -> None:
            key = term.get("topologyKey", "")
            if key in node.labels and pod_term_selects(term, owner.pod, selected.pod, spaces):
                domain = (key, node.labels[key])
                weights[domain] = weights.get(domain, 0) + weight

        for each in pod.preferred_affinity:
            add(each.get("podAffinityTerm") or {}, pod, other, int(each.get("weight") or 0))
        for each in pod.preferred_anti_affinity:
            add(each.get("podAffinityTerm") or {}, pod, other, -int(each.get("weight") or 0))
        for term in other.affinity:
            add(term, other, pod, HARD_WEIGHT)
        for each in other.preferred_affinity:
            add(each.get("podAffinityTerm") or {}, other, pod, int(each.get("weight") or 0))
        for each in other.preferred_anti_affinity:
            add(each.get("podAffinityTerm") or {}, other, pod, -int(each.get("weight") or 0))
