"""Plugins about amounts: does the pod fit into what is left, and which node is filled most evenly and least."""

from __future__ import annotations

from kubeling.api import pods
from kubeling.scheduler.framework import MAX_SCORE, ClusterChange, Cycle, Plugin, Rejection
from kubeling.scheduler.nodeinfo import NodeInfo, Obj


class NodeResourcesFit(Plugin):
    """Requests must fit into allocatable; scores by LeastAllocated (cpu and memory, equal weights)."""

    name = "NodeResourcesFit"

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        short: list[str] = []
        hopeless = False
        if len(node.pods) + 1 > node.allocatable.get("pods", 0):
            short.append("Too many pods")
        for name, amount in cycle.pod.requests.items():
            allocatable = node.allocatable.get(name, 0)
            if amount > 0 and amount > allocatable - node.requested.get(name, 0):
                short.append(f"Insufficient {name}")
                hopeless = hopeless or amount > allocatable
        return Rejection(tuple(short), hopeless) if short else None

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        total = 0
        for name, used, asked in zip(("cpu", "memory"), node.nonzero, cycle.pod.nonzero, strict=True):
            allocatable = node.allocatable.get(name, 0)
            if allocatable and used + asked <= allocatable:
                total += (allocatable - used - asked) * MAX_SCORE // allocatable
        return total // 2

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        if change.resource == "pods":
            # Room is made by a pod that had a node and is gone, has ended, or asks for less now.
            return change.action == "delete" or (change.action == "update" and change.new is not None and _shrank(change))
        if change.new is None:
            return False
        allocatable = (change.new.get("status") or {}).get("allocatable") or {}
        return all(amount <= pods.amount_of(name, allocatable.get(name, 0)) for name, amount in pods.requests_of(pod).items())


def _shrank(change: ClusterChange) -> bool:
    assert change.old is not None
    assert change.new is not None
    if pods.is_terminal(change.new) and not pods.is_terminal(change.old):
        return True
    before, after = pods.requests_of(change.old), pods.requests_of(change.new)
    return any(after.get(name, 0) < amount for name, amount in before.items())


class NodeResourcesBalancedAllocation(Plugin):
    """Prefers nodes on which cpu and memory would be used to the same degree."""

    name = "NodeResourcesBalancedAllocation"

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        fractions = []
        for name, amount in (("cpu", cycle.pod.requests.get("cpu", 0)), ("memory", cycle.pod.requests.get("memory", 0))):
            allocatable = node.allocatable.get(name, 0)
            if allocatable:
                fractions.append(min(1.0, (node.requested.get(name, 0) + amount) / allocatable))
        if len(fractions) < 2:
            return MAX_SCORE
        # The standard deviation of two values is half their distance.
        return int((1 - abs(fractions[0] - fractions[1]) / 2) * MAX_SCORE)
