"""ImageLocality: nodes that hold the pod's images already, weighted by how many nodes do, so that one node does not collect everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubeling.scheduler.nodeinfo import NodeInfo
from kubeling.scheduler.plugin import Plugin, Rows
from kubeling.scheduler.types import Cycle, Depends, Skip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kubeling.scheduler.table import Table

_MB = 1024 * 1024
LOWEST = 23 * _MB
HIGHEST_PER_CONTAINER = 1000 * _MB


@dataclass(frozen=True, slots=True)
class _State:
    """The pod's images, how many containers and volumes want one, and which part of all nodes holds each."""

    images: tuple[str, ...]
    spread: dict[str, float]


class ImageLocality(Plugin):
    name = "ImageLocality"
    score_depends = Depends.CLUSTER

    def pre_score(self, cycle: Cycle, nodes: Any) -> Skip | None:
        images = tuple(normal(name) for name in _wanted(cycle))
        total = len(cycle.nodes)
        held = {name: sum(1 for node in cycle.nodes.values() if name in node.images) for name in set(images)}
        cycle.state[self.name] = _State(images, {name: count / total for name, count in held.items()})
        return None

    def pre_score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> Skip | None:
        import numpy as np

        images = tuple(normal(name) for name in _wanted(cycle))
        total = len(cycle.nodes)
        held = {name: int(np.count_nonzero(_sizes(table, name) >= 0)) for name in set(images)}
        cycle.state[self.name] = _State(images, {name: count / total for name, count in held.items()})
        return None

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        state: _State = cycle.state[self.name]
        size = sum(int(node.images[name] * state.spread[name]) for name in state.images if name in node.images)
        highest = HIGHEST_PER_CONTAINER * len(state.images)
        bounded = min(max(size, LOWEST), max(highest, LOWEST))
        return 100 * (bounded - LOWEST) // max(highest - LOWEST, 1)

    def score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int64]:
        import numpy as np

        state: _State = cycle.state[self.name]
        if not any(state.spread.values()):
            return np.zeros(table.size, dtype=np.int64)[rows]
        size = np.zeros(table.size, dtype=np.int64)
        for name in state.images:
            if state.spread[name]:
                size += (np.maximum(_sizes(table, name), 0) * state.spread[name]).astype(np.int64)
        highest = HIGHEST_PER_CONTAINER * len(state.images)
        bounded = np.minimum(np.maximum(size, LOWEST), max(highest, LOWEST))
        return (100 * (bounded - LOWEST) // max(highest - LOWEST, 1))[rows]


def _sizes(table: Table, image: str) -> NDArray[np.int64]:
    """The bytes of an image on every node, -1 where the node does not hold it."""
    import numpy as np

    def one(row: int) -> int:
        return table.infos[row].images.get(image, -1)

    def whole() -> NDArray[np.int64]:
        return np.array([info.images.get(image, -1) for info in table.infos], dtype=np.int64)

    return table.column(("image", image), Depends.NODE, whole, one)


def _wanted(cycle: Cycle) -> Iterator[str]:
    spec = cycle.pod.spec
    for each in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        yield each.get("image") or ""
    for volume in cycle.pod.volumes:
        if volume.get("image"):
            yield volume["image"].get("reference") or ""


def normal(image: str) -> str:
    """With the tag that is meant where none is given, as nodes report it."""
    return image if image.rfind(":") > image.rfind("/") else f"{image}:latest"
