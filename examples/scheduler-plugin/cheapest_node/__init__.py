"""A scheduler plugin of one's own: prefer nodes that cost less, by the node label `example.com/price`, and keep pods off those above their limit.

It shows both forms of a filter and a score. The per-node form alone would do; the vector form answers for all nodes at once in large clusters, and the
keys let answers be remembered until a node changes.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from kubeling.scheduler.handle import Handle
from kubeling.scheduler.nodeinfo import NodeInfo
from kubeling.scheduler.plugin import Plugin, Rows
from kubeling.scheduler.types import Cycle, Depends, Rejection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kubeling.scheduler.table import Table

PRICE = "example.com/price"
MAX_PRICE = "example.com/max-price"


def price_of(text: str | None) -> int:
    """The label's number; a node without one costs nothing."""
    return int(text) if text and text.isdigit() else 0


class CheapestNode(Plugin):
    name = "CheapestNode"
    cured_by = frozenset({"nodes"})
    filter_depends = Depends.NODE
    score_depends = Depends.NODE

    def __init__(self, highest: int) -> None:
        self._highest = highest

    def _limit(self, cycle: Cycle) -> int:
        wanted = (cycle.pod.pod["metadata"].get("annotations") or {}).get(MAX_PRICE)
        return price_of(wanted) if wanted else self._highest

    def filter_key(self, cycle: Cycle) -> Hashable:
        return self._limit(cycle)

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        if price_of(node.labels.get(PRICE)) > self._limit(cycle):
            return Rejection.of("node(s) cost too much", unresolvable=True)
        return None

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32]:
        import numpy as np

        code = table.codes.of(Rejection(("node(s) cost too much",), True, self.name))
        return np.where(self._prices(table) > self._limit(cycle), np.int32(code), np.int32(0))[rows]

    def score_key(self, cycle: Cycle) -> Hashable:
        return ""  # Every pod likes the same nodes.

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        return 100 - min(100, 100 * price_of(node.labels.get(PRICE)) // self._highest)

    def score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int64]:
        import numpy as np

        return (100 - np.minimum(100, 100 * self._prices(table) // self._highest))[rows]

    @staticmethod
    def _prices(table: Table) -> NDArray[np.int64]:
        """Of every node: worked out once for each value of the label, and once for its absence (the id -1)."""
        import numpy as np

        column = table.labels(PRICE)
        return np.array([*(price_of(value) for value in column.values), 0], dtype=np.int64)[column.ids[: table.size]]


def make(args: dict[str, Any], _handle: Handle) -> Plugin:
    """What the entry point names. `args` stand under `pluginConfig` in the scheduler's configuration."""
    return CheapestNode(int(args.get("highestPrice") or 1000))
