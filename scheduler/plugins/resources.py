"""NodeResourcesFit: does the pod fit into what is left, and how full should its node be? Three strategies, as upstream defines them."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal

from kubeling.api import pods
from kubeling.scheduler.nodeinfo import NodeInfo, Obj
from kubeling.scheduler.plugin import Plugin, Rows
from kubeling.scheduler.plugins.amounts import (
    Shape,
    asked_of,
    broken_line,
    broken_line_rows,
    is_native,
    used_and_capacity,
    used_and_capacity_rows,
)
from kubeling.scheduler.types import ClusterChange, Cycle, Depends, Rejection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kubeling.scheduler.table import Table

Strategy = Literal["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"]
CPU_AND_MEMORY = (("cpu", 1), ("memory", 1))


class NodeResourcesFit(Plugin):
    """`resources`: (name, weight) of what is scored; `shape`: (utilization in %, score 0…10) points for RequestedToCapacityRatio."""

    name = "NodeResourcesFit"
    cured_by = frozenset({"nodes", "pods/delete", "pods/update"})
    filter_depends = Depends.PODS
    score_depends = Depends.PODS

    def __init__(
        self,
        strategy: Strategy = "LeastAllocated",
        resources: tuple[tuple[str, int], ...] = CPU_AND_MEMORY,
        shape: Shape = (),
        ignored: frozenset[str] = frozenset(),
        ignored_groups: frozenset[str] = frozenset(),
    ) -> None:
        self._strategy, self._resources = strategy, resources
        self._shape: Shape = tuple((at, score * 10) for at, score in shape)
        self._ignored, self._ignored_groups = ignored, ignored_groups

    # -- filter --------------------------------------------------------------------------------------------------------------------

    def _asked(self, cycle: Cycle) -> list[tuple[str, int]]:
        """What counts, in the order in which reasons are given: cpu, memory, ephemeral-storage, then the others by name."""
        requests = cycle.pod.requests
        first = [(name, requests[name]) for name in ("cpu", "memory", "ephemeral-storage") if requests.get(name)]
        rest = [
            (name, amount)
            for name, amount in sorted(requests.items())
            if amount and not is_native(name) and name not in self._ignored and name.partition("/")[0] not in self._ignored_groups
        ]
        return first + rest

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        short: list[str] = []
        hopeless = False
        if len(node.pods) + 1 > node.allocatable.get("pods", 0):
            short.append("Too many pods")
        for name, amount in self._asked(cycle):
            allocatable = node.allocatable.get(name, 0)
            if amount > allocatable - node.requested.get(name, 0):
                short.append(f"Insufficient {name}")
                hopeless = hopeless or amount > allocatable
        return Rejection(tuple(short), hopeless) if short else None

    def filter_key(self, cycle: Cycle) -> Hashable:
        return cycle.pod.requests_key

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        import numpy as np

        asked = self._asked(cycle)
        size = table.size
        lacks = (table.pod_count[:size] + 1 > table.allowed_pods[:size]).astype(np.int64)
        hopeless = np.zeros(size, dtype=bool)
        for at, (name, amount) in enumerate(asked):
            allocatable = table.allocatable(name)
            lacks |= (amount > allocatable - table.requested(name)).astype(np.int64) << (at + 1)
            hopeless |= amount > allocatable
        lacks |= hopeless.astype(np.int64) << (len(asked) + 1)
        kinds, which = np.unique(lacks, return_inverse=True)
        words = ["Too many pods", *(f"Insufficient {name}" for name, _ in asked)]

        def code(bits: int) -> int:
            short = tuple(word for at, word in enumerate(words) if bits >> at & 1)
            return table.codes.of(Rejection(short, bool(bits >> len(words) & 1), self.name)) if short else 0

        return np.array([code(bits) for bits in kinds.tolist()], dtype=np.int32)[which][rows]

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        if change.resource == "pods":
            # Room is made by a pod that had a node and is gone, has ended, or asks for less now.
            return change.action == "delete" or (change.action == "update" and change.new is not None and _shrank(change))
        if change.new is None:
            return False
        allocatable = (change.new.get("status") or {}).get("allocatable") or {}
        return all(amount <= pods.amount_of(name, allocatable.get(name, 0)) for name, amount in pods.requests_of(pod).items())

    # -- score ---------------------------------------------------------------------------------------------------------------------

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        total = weights = 0
        for name, weight in self._resources:
            pair = used_and_capacity(cycle.pod, node, name, nonzero=True)
            if pair is None or not pair[1]:
                continue
            used, capacity = pair
            match self._strategy:
                case "LeastAllocated":
                    score = (capacity - used) * 100 // capacity if used <= capacity else 0
                case "MostAllocated":
                    score = min(used, capacity) * 100 // capacity
                case "RequestedToCapacityRatio":
                    score = broken_line(self._shape, used * 100 // capacity if used <= capacity else 100)
                    if score <= 0:
                        continue
            total += score * weight
            weights += weight
        if not weights:
            return 0
        if self._strategy == "RequestedToCapacityRatio":
            return int(total / weights + 0.5)
        return total // weights

    def score_key(self, cycle: Cycle) -> Hashable:
        return cycle.pod.requests_key

    def score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int64]:
        import numpy as np

        total = np.zeros(table.size, dtype=np.int64)
        weights = np.zeros(table.size, dtype=np.int64)
        for name, weight in self._resources:
            pair = used_and_capacity_rows(cycle.pod, table, name, nonzero=True)
            if pair is None:
                continue
            used, capacity = pair
            counts = capacity > 0
            divisor = np.maximum(capacity, 1)
            match self._strategy:
                case "LeastAllocated":
                    score = np.where(used <= capacity, (capacity - used) * 100 // divisor, 0)
                case "MostAllocated":
                    score = np.minimum(used, capacity) * 100 // divisor
                case "RequestedToCapacityRatio":
                    score = broken_line_rows(self._shape, np.where(used <= capacity, used * 100 // divisor, 100))
                    counts &= score > 0
            total += np.where(counts, score * weight, 0)
            weights += np.where(counts, weight, 0)
        if self._strategy == "RequestedToCapacityRatio":
            return (total / np.maximum(weights, 1) + 0.5).astype(np.int64)[rows]
        return (total // np.maximum(weights, 1))[rows]


def _shrank(change: ClusterChange) -> bool:
    assert change.old is not None
    assert change.new is not None
    if pods.is_terminal(change.new) and not pods.is_terminal(change.old):
        return True
    before, after = pods.requests_of(change.old), pods.requests_of(change.new)
    return any(after.get(name, 0) < amount for name, amount in before.items())


class NodeResourcesBalancedAllocation(Plugin):
    """Prefers nodes on which all resources would be used to the same degree. Says nothing about pods that ask for nothing."""

    name = "NodeResourcesBalancedAllocation"
    score_depends = Depends.PODS

    def __init__(self, resources: tuple[tuple[str, int], ...] = CPU_AND_MEMORY) -> None:
        self._resources = tuple(name for name, _ in resources)

    def pre_score(self, cycle: Cycle, nodes: Any) -> Any:
        from kubeling.scheduler.types import SKIP

        return None if any(asked_of(cycle.pod, name, nonzero=False) for name in self._resources) else SKIP

    def pre_score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> Any:
        return self.pre_score(cycle, ())

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        fractions: list[float] = []
        for name in self._resources:
            pair = used_and_capacity(cycle.pod, node, name, nonzero=False)
            if pair is not None and pair[1]:
                fractions.append(min(1.0, pair[0] / pair[1]))
        if len(fractions) == 2:
            return int((1 - abs((fractions[0] - fractions[1]) / 2)) * 100)
        if len(fractions) < 2:
            return 100
        total = 0.0
        for each in fractions:
            total += each
        mean, squares = total / len(fractions), 0.0
        for each in fractions:
            squares += (each - mean) * (each - mean)
        return int((1 - math.sqrt(squares / len(fractions))) * 100)

    def score_key(self, cycle: Cycle) -> Hashable:
        return cycle.pod.requests_key

    def score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int64]:
        import numpy as np

        pairs = [used_and_capacity_rows(cycle.pod, table, name, nonzero=False) for name in self._resources]
        found = [(used, capacity) for used, capacity in (pair for pair in pairs if pair is not None)]
        present = [capacity > 0 for _, capacity in found]
        parts = [np.minimum(1.0, used / np.maximum(capacity, 1)) for used, capacity in found]
        count = np.zeros(table.size, dtype=np.int64)
        total, squares = np.zeros(table.size), np.zeros(table.size)
        for has, part in zip(present, parts, strict=True):
            count += has
            total += np.where(has, part, 0.0)
        mean = total / np.maximum(count, 1)
        for has, part in zip(present, parts, strict=True):
            squares += np.where(has, (part - mean) * (part - mean), 0.0)
        many = ((1 - np.sqrt(squares / np.maximum(count, 1))) * 100).astype(np.int64)
        # Of two values the deviation is half their distance; the sign of the second makes the sum their difference.
        first, difference = np.zeros(table.size, dtype=bool), np.zeros(table.size)
        for has, part in zip(present, parts, strict=True):
            difference = np.where(has, np.where(first, difference - part, part), difference)
            first |= has
        two = ((1 - np.abs(difference / 2)) * 100).astype(np.int64)
        return np.where(count < 2, 100, np.where(count == 2, two, many))[rows]
