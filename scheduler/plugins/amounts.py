"""How much of a resource is asked, used and there, for the plugins that score by amounts; for one node and for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubeling.scheduler.nodeinfo import NodeInfo, PodInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kubeling.scheduler.table import Table

#: (utilization in %, score) points, in the order of utilization.
Shape = tuple[tuple[int, int], ...]
_NATIVE = frozenset({"cpu", "memory", "ephemeral-storage", "pods"})


def is_native(resource: str) -> bool:
    """Whether every node has it, so that it is scored even for pods that do not ask for it."""
    return resource in _NATIVE


def asked_of(pod: PodInfo, resource: str, *, nonzero: bool) -> int:
    """What the pod asks for. `nonzero`: with the defaults for containers that ask for no cpu or memory."""
    if nonzero and resource == "cpu":
        return pod.nonzero[0]
    if nonzero and resource == "memory":
        return pod.nonzero[1]
    return pod.requests.get(resource, 0)


def used_and_capacity(pod: PodInfo, node: NodeInfo, resource: str, *, nonzero: bool) -> tuple[int, int] | None:
    """What would be used with the pod, and what there is; None for an extended resource that the pod does not ask for."""
    asked = asked_of(pod, resource, nonzero=nonzero)
    if not asked and not is_native(resource):
        return None
    if nonzero and resource == "cpu":
        used = node.nonzero[0]
    elif nonzero and resource == "memory":
        used = node.nonzero[1]
    else:
        used = node.requested.get(resource, 0)
    return used + asked, node.allocatable.get(resource, 0)


def used_and_capacity_rows(
    pod: PodInfo, table: Table, resource: str, *, nonzero: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """:func:`used_and_capacity` for every node."""
    asked = asked_of(pod, resource, nonzero=nonzero)
    if not asked and not is_native(resource):
        return None
    if nonzero and resource == "cpu":
        used = table.nonzero_cpu[: table.size]
    elif nonzero and resource == "memory":
        used = table.nonzero_memory[: table.size]
    else:
        used = table.requested(resource)
    return used + asked, table.allocatable(resource)


def broken_line(shape: Shape, at: int) -> int:
    """The line through the points of `shape`, flat before the first and after the last; divided as Go does, towards zero."""
    for number, (x, y) in enumerate(shape):
        if at <= x:
            if number == 0:
                return y
            left, low = shape[number - 1]
            return low + int((y - low) * (at - left) / (x - left))
    return shape[-1][1] if shape else 0


def broken_line_rows(shape: Shape, at: NDArray[np.int64]) -> NDArray[np.int64]:
    """:func:`broken_line` for an array of percentages 0…100: looked up in a table."""
    import numpy as np

    table = np.array([broken_line(shape, percent) for percent in range(101)], dtype=np.int64)
    found: NDArray[np.int64] = table[at]
    return found
