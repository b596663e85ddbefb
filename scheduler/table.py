"""The cluster as arrays: one row a node, one column a fact.

Rows stand in the order in which the nodes came, as in :attr:`Cache.nodes`, so that choices among equals are the same in both forms. Every change writes
one row and notes it in a log. What plugins work out for all nodes is remembered as a column with its place in that log; the next look asks again only
for the rows noted since. So a run of similar pods costs a few array operations a decision, whatever the cluster's size.

Label values are interned as small integers by key (-1: the node lacks the label); taint lists are interned whole, since most nodes share a few.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kubeling.scheduler.nodeinfo import NodeInfo, PodInfo, fingerprint
from kubeling.scheduler.tallies import PodIndex, close_up
from kubeling.scheduler.types import Depends
from kubeling.scheduler.verdicts import Codes

#: Columns that are remembered; the one that was not used for longest goes first.
MAX_COLUMNS = 256
#: More changed rows than this, and a column is worked out anew.
MAX_PATCH = 48
_MAX_LOG = 4096

Int = NDArray[np.int64]


class LabelColumn:
    """The values of one label key: `ids` by row, `values` by id."""

    __slots__ = ("ids", "values", "version")

    def __init__(self, capacity: int) -> None:
        self.ids = np.full(capacity, -1, dtype=np.int32)
        self.values: dict[str, int] = {}
        #: Raised when a row's value changes.
        self.version = 0

    def put(self, row: int, value: str | None) -> None:
        found = -1 if value is None else self.values.setdefault(value, len(self.values))
        if self.ids[row] != found:
            self.ids[row] = found
            self.version += 1


class _Log:
    """Rows in the order in which they changed; a reader that is too far behind is told to start anew."""

    __slots__ = ("base", "rows")

    def __init__(self) -> None:
        self.base, self.rows = 0, list[int]()

    @property
    def end(self) -> int:
        return self.base + len(self.rows)

    def note(self, row: int) -> None:
        self.rows.append(row)
        if len(self.rows) > _MAX_LOG:
            dropped = len(self.rows) // 2
            del self.rows[:dropped]
            self.base += dropped

    def since(self, position: int) -> set[int] | None:
        """The rows that changed after `position`; None where too many did."""
        if position < self.base or self.end - position > MAX_PATCH * 8:
            return None
        rows = set(self.rows[position - self.base :])
        return rows if len(rows) <= MAX_PATCH else None


class _Column:
    __slots__ = ("position", "values")

    def __init__(self) -> None:
        self.values: NDArray[Any] | None = None
        self.position = -1


class Table:
    """Built from `nodes`; the cache tells it of every later change. `spaces` gives the labels of all namespaces."""

    def __init__(self, nodes: Iterable[NodeInfo], spaces: Callable[[], Mapping[str, Mapping[str, str]]]) -> None:
        self.infos: list[NodeInfo] = list(nodes)
        self.codes = Codes()
        self.size = len(self.infos)
        self.names: list[str] = []
        self.index: dict[str, int] = {}
        self._capacity = max(64, self.size * 5 // 4)
        self.pods = PodIndex(self, spaces)
        self._fill()

    # -- what plugins read ---------------------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        return self._capacity

    def allocatable(self, resource: str) -> Int:
        """By row; zeros where no node has the resource."""
        return self._amounts(self._allocatable, resource)

    def requested(self, resource: str) -> Int:
        """The sum of the requests of the pods on each node."""
        return self._amounts(self._requested, resource)

    def labels(self, key: str) -> LabelColumn:
        """The column of one label key; made when it is first asked for, and kept up to date from then on."""
        column = self._labels.get(key)
        if column is None:
            column = self._labels[key] = LabelColumn(self._capacity)
            for row, info in enumerate(self.infos):
                column.put(row, info.labels.get(key))
        return column

    def by_taints(self, judge: Callable[[list[dict[str, Any]]], int], dtype: type = np.int64) -> NDArray[Any]:
        """`judge` applied to each node's taints, once for each distinct list."""
        return np.array([judge(each) for each in self._taint_lists], dtype=dtype)[self.taint_ids[: self.size]]

    @property
    def any_taints(self) -> bool:
        return len(self._taint_lists) > 1

    def column(
        self,
        key: Hashable,
        depends: Depends,
        whole: Callable[[], NDArray[Any]],
        one: Callable[[int], int | bool],
    ) -> NDArray[Any]:
        """What is remembered under `key`, brought up to date: by `one` for the rows that changed, or by `whole` for all of them. Do not change it."""
        log = self._node_log if depends is Depends.NODE else self._pod_log
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = _Column()
            if len(self._columns) > MAX_COLUMNS:
                self._columns.popitem(last=False)
        else:
            self._columns.move_to_end(key)
        changed = None if column.values is None or len(column.values) != self.size else log.since(column.position)
        if changed is None:
            column.values = whole()
        else:
            assert column.values is not None
            for row in changed:
                column.values[row] = one(row)
        column.position = log.end
        return column.values

    # -- changes -------------------------------------------------------------------------------------------------------------------

    def set_node(self, info: NodeInfo) -> None:
        """A node appeared or its object changed."""
        row = self.index.get(info.name)
        if row is None:
            row = self.size
            if row == self._capacity:
                self._grow()
            self.size += 1
            self.infos.append(info)
            self.names.append(info.name)
            self.index[info.name] = row
            self._write_node(row, info)
            self.pods.add_row(row, info)
        else:
            self._write_node(row, info)
        self._write_pods(row, info)
        self._node_log.note(row)
        self._pod_log.note(row)

    def remove_node(self, name: str) -> None:
        """A node is gone: later rows move up, and all that is remembered is forgotten."""
        row = self.index.get(name)
        if row is None:
            return
        self.infos = self.infos[:row] + self.infos[row + 1 :]
        self.names = self.names[:row] + self.names[row + 1 :]
        self.index = {each: at for at, each in enumerate(self.names)}
        self.size -= 1
        for array in (
            *(self._allocatable, self._requested, self.nonzero_cpu, self.nonzero_memory),
            *(self.pod_count, self.allowed_pods, self.taint_ids, self.unschedulable),
        ):
            close_up(array, row)
        for column in self._labels.values():
            close_up(column.ids, row)
            column.version += 1
        self.pods.remove_row(row)
        self._columns.clear()
        self._node_log, self._pod_log = _Log(), _Log()

    def pod_changed(self, info: NodeInfo, pod: PodInfo, sign: int) -> None:
        """`pod` was counted in (1) or out (-1) on a node."""
        row = self.index[info.name]
        self.pods.count(row, pod, sign)
        self._write_pods(row, info)
        self._pod_log.note(row)

    def touch(self, name: str) -> None:
        """What counts on a node changed in a way that the arrays do not show: nominations."""
        row = self.index.get(name)
        if row is not None:
            self._pod_log.note(row)

    def forget(self) -> None:
        """Something changed on which anything may rest: namespaces' labels, volumes, a plugin's own knowledge."""
        self._columns.clear()
        self.pods.clear()

    # -- inside --------------------------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        self.names = [info.name for info in self.infos]
        self.index = {name: row for row, name in enumerate(self.names)}
        self._columns: OrderedDict[Hashable, _Column] = OrderedDict()
        self._labels: dict[str, LabelColumn] = {}
        self._node_log, self._pod_log = _Log(), _Log()
        self._taint_lists: list[list[dict[str, Any]]] = [[]]
        self._taint_known: dict[bytes, int] = {b"": 0}
        self._resources: dict[str, int] = {"cpu": 0, "memory": 1}
        self._allocate()
        self.pods.clear()
        for row, info in enumerate(self.infos):
            self._write_node(row, info)
            self._write_pods(row, info)

    def _allocate(self) -> None:
        rows, kinds = self._capacity, len(self._resources)
        self._allocatable = np.zeros((kinds, rows), dtype=np.int64)
        self._requested = np.zeros((kinds, rows), dtype=np.int64)
        self.nonzero_cpu = np.zeros(rows, dtype=np.int64)
        self.nonzero_memory = np.zeros(rows, dtype=np.int64)
        self.pod_count = np.zeros(rows, dtype=np.int64)
        self.allowed_pods = np.zeros(rows, dtype=np.int64)
        self.taint_ids = np.zeros(rows, dtype=np.int32)
        self.unschedulable = np.zeros(rows, dtype=bool)

    def _grow(self) -> None:
        """Twice the room; remembered columns have their own length and stay."""
        self._capacity *= 2

        def wider(array: NDArray[Any]) -> NDArray[Any]:
            made = np.zeros((*array.shape[:-1], self._capacity), dtype=array.dtype)
            made[..., : array.shape[-1]] = array
            return made

        self._allocatable, self._requested = wider(self._allocatable), wider(self._requested)
        self.nonzero_cpu, self.nonzero_memory = wider(self.nonzero_cpu), wider(self.nonzero_memory)
        self.pod_count, self.allowed_pods = wider(self.pod_count), wider(self.allowed_pods)
        self.taint_ids, self.unschedulable = wider(self.taint_ids), wider(self.unschedulable)
        for column in self._labels.values():
            column.ids = wider(column.ids)
        self.pods.grow(self._capacity)

    def _amounts(self, array: Int, resource: str) -> Int:
        at = self._resources.get(resource)
        found: Int = np.zeros(self.size, dtype=np.int64) if at is None else array[at, : self.size]
        return found

    def _resource(self, name: str) -> int:
        at = self._resources.get(name)
        if at is None:
            at = self._resources[name] = len(self._resources)
            empty = np.zeros((1, self._capacity), dtype=np.int64)
            self._allocatable = np.vstack((self._allocatable, empty))
            self._requested = np.vstack((self._requested, empty))
        return at

    def _write_node(self, row: int, info: NodeInfo) -> None:
        self._allocatable[:, row] = 0
        for name, amount in info.allocatable.items():
            at = self._resource(name)
            self._allocatable[at, row] = amount
        self.allowed_pods[row] = info.allocatable.get("pods", 0)
        self.unschedulable[row] = info.unschedulable
        key = fingerprint(info.taints)
        at = self._taint_known.setdefault(key, len(self._taint_lists))
        if at == len(self._taint_lists):
            self._taint_lists.append(info.taints)
        self.taint_ids[row] = at
        for label, column in self._labels.items():
            column.put(row, info.labels.get(label))

    def _write_pods(self, row: int, info: NodeInfo) -> None:
        for name, amount in info.requested.items():
            at = self._resource(name)
            self._requested[at, row] = amount
        self.nonzero_cpu[row], self.nonzero_memory[row] = info.nonzero
        self.pod_count[row] = len(info.pods)
