"""Plugins that look at a node by itself: its name, its labels, its taints, its ports and its images."""

from __future__ import annotations

from collections.abc import Sequence

from kubeling.api import affinity, taints
from kubeling.api.pods import all_containers
from kubeling.scheduler.framework import ClusterChange, Cycle, Plugin, Rejection, normalize_by_max
from kubeling.scheduler.nodeinfo import HostPort, NodeInfo, Obj

_MB = 1024 * 1024


class NodeName(Plugin):
    """A pod that names its node in spec.nodeName without being bound fits there only."""

    name = "NodeName"
    cured_by = frozenset({"nodes"})

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        wanted = cycle.pod.spec.get("nodeName")
        if wanted and wanted != node.name:
            return Rejection.of("node(s) didn't match the requested node name", unresolvable=True)
        return None


class NodeUnschedulable(Plugin):
    """Cordoned nodes take only pods that tolerate that."""

    name = "NodeUnschedulable"
    cured_by = frozenset({"nodes"})

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        if not (node.node.get("spec") or {}).get("unschedulable"):
            return None
        taint = {"key": taints.UNSCHEDULABLE, "effect": taints.NO_SCHEDULE}
        if taints.is_tolerated(cycle.pod.spec.get("tolerations"), taint):
            return None
        return Rejection.of("node(s) were unschedulable", unresolvable=True)

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        return change.new is not None and not (change.new.get("spec") or {}).get("unschedulable")


class TaintToleration(Plugin):
    """NoSchedule and NoExecute taints keep pods away, PreferNoSchedule ones cost score."""

    name = "TaintToleration"
    cured_by = frozenset({"nodes"})

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        taint = taints.untolerated(node.taints, cycle.pod.spec.get("tolerations"))
        if taint is None:
            return None
        words = f"node(s) had untolerated taint {{{taint.get('key', '')}: {taint.get('value') or ''}}}"
        return Rejection.of(words, unresolvable=True)

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        held = [
            each
            for each in cycle.pod.spec.get("tolerations") or []
            if not each.get("effect") or each["effect"] == taints.PREFER_NO_SCHEDULE
        ]
        return sum(
            1
            for taint in node.taints
            if taint.get("effect") == taints.PREFER_NO_SCHEDULE and not taints.is_tolerated(held, taint)
        )

    def normalize(self, cycle: Cycle, scores: dict[str, int]) -> None:
        normalize_by_max(scores, reverse=True)


class NodeAffinity(Plugin):
    """nodeSelector and node affinity."""

    name = "NodeAffinity"
    cured_by = frozenset({"nodes"})

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        if affinity.pod_matches_node(cycle.pod.pod, node.node):
            return None
        return Rejection.of("node(s) didn't match Pod's node affinity/selector", unresolvable=True)

    def pre_score(self, cycle: Cycle, nodes: Sequence[NodeInfo]) -> bool:
        wanted = (cycle.pod.spec.get("affinity") or {}).get("nodeAffinity") or {}
        return bool(wanted.get("preferredDuringSchedulingIgnoredDuringExecution"))

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        return affinity.preferred_weight(cycle.pod.pod, node.node)

    def normalize(self, cycle: Cycle, scores: dict[str, int]) -> None:
        normalize_by_max(scores)

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        return change.new is not None and affinity.pod_matches_node(pod, change.new)


class NodePorts(Plugin):
    """Host ports are given away once."""

    name = "NodePorts"

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        if any(_conflicts(wanted, taken) for wanted in cycle.pod.host_ports for taken in node.host_ports):
            return Rejection.of("node(s) didn't have free ports for the requested pod ports")
        return None


def _conflicts(left: HostPort, right: HostPort) -> bool:
    """The same port and protocol on the same address, or on all addresses on either side."""
    return left[1:] == right[1:] and (left[0] == right[0] or "0.0.0.0" in (left[0], right[0]))


class ImageLocality(Plugin):
    """Nodes that hold the pod's images already, weighted by how many nodes do, so that one node does not collect everything."""

    name = "ImageLocality"
    _lowest = 23 * _MB
    _highest_per_container = 1000 * _MB

    def pre_score(self, cycle: Cycle, nodes: Sequence[NodeInfo]) -> bool:
        images = [name for _, _, container in _containers(cycle) if (name := _normal(container.get("image") or ""))]
        holders = {name: sum(1 for node in cycle.nodes.values() if name in node.images) for name in set(images)}
        cycle.state[self.name] = (images, holders, len(cycle.nodes))
        return any(holders.values())

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        images, holders, total = cycle.state[self.name]
        size = sum(node.images.get(name, 0) * holders[name] // max(total, 1) for name in images)
        highest = self._highest_per_container * len(images)
        bounded = min(max(size, self._lowest), highest)
        return int(100 * (bounded - self._lowest) // max(highest - self._lowest, 1))


def _containers(cycle: Cycle) -> list[tuple[str, int, Obj]]:
    return list(all_containers(cycle.pod.spec))


def _normal(image: str) -> str:
    """With the tag that is meant where none is given, as nodes report it."""
    tail = image.rpartition("/")[2]
    return image if not image or ":" in tail or "@" in tail else f"{image}:latest"
