"""Pods counted by node and by topology domain, kept up to date as pods come and go: what affinity and spreading ask of the cluster.

A *counter* holds one number a node: the pods there that a query selects, or the affinity terms of one kind that the pods there carry. A *tally* sums a
counter over the nodes of each topology domain (the values of one label key), optionally over some nodes only. Counters and tallies are made when first
asked for, and then changed with every pod; the next pod of the same template finds them ready.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kubeling.api.labels import Selector
from kubeling.scheduler.nodeinfo import AffinityTerm, Group, NodeInfo, PodInfo

if TYPE_CHECKING:
    from kubeling.scheduler.table import Table

#: Queries that are remembered. The terms that placed pods carry are always counted.
MAX_QUERIES = 256
_MAX_GROUPS = 20_000

#: A kind of term that placed pods carry, the term, and its weight.
Owned = tuple[str, AffinityTerm, int]


class Tally:
    """Sums of a counter by domain. The last entry of `sums` stays 0, so that the id -1 of nodes without the label finds it."""

    __slots__ = ("_counter", "_ids", "_mask", "_seen", "key", "present", "sums", "table")

    def __init__(self, table: Table, counter: Counter, key: str) -> None:
        self.table, self._counter, self.key = table, counter, key
        self._seen = -1
        self._mask: NDArray[np.bool_] | None = None
        self.sums: NDArray[np.int64] = np.zeros(1, dtype=np.int64)
        #: Which domains have a node that takes part.
        self.present: NDArray[np.bool_] = np.zeros(1, dtype=bool)

    def fresh(self, mask: NDArray[np.bool_] | None = None) -> Tally:
        """Bring up to date with changed labels, and with the nodes that take part."""
        column, size = self.table.labels(self.key), self.table.size
        same = mask is None or (self._mask is not None and len(self._mask) == size and bool((self._mask == mask).all()))
        if self._seen != column.version or not same or (mask is None) != (self._mask is None):
            self._seen, self._mask = column.version, None if mask is None else mask.copy()
            ids, counts = column.ids[:size], self._counter.counts[:size]
            takes = ids >= 0 if mask is None else (ids >= 0) & mask
            domains = len(column.values)
            self.sums = np.zeros(domains + 1, dtype=np.int64)
            self.sums[:domains] = np.bincount(ids[takes], weights=counts[takes], minlength=domains)[:domains].astype(np.int64)
            self.present = np.zeros(domains + 1, dtype=bool)
            self.present[ids[takes]] = True
        return self

    def expire(self) -> None:
        """Sum anew at the next look."""
        self._seen = -1

    def count(self, row: int, change: int) -> None:
        """The counter changed at `row`. A row that is not known yet is found by the next :meth:`fresh`."""
        column = self.table.labels(self.key)
        if self._seen != column.version:
            return
        found = column.ids[row]
        if found >= 0 and (self._mask is None or (row < len(self._mask) and self._mask[row])):
            self.sums[found] += change


class Counter:
    """One number a node, and the tallies over it."""

    __slots__ = ("counts", "of_pod", "tallies")

    def __init__(self, capacity: int, of_pod: Callable[[PodInfo], int]) -> None:
        self.counts: NDArray[np.int32] = np.zeros(capacity, dtype=np.int32)
        #: How often a pod counts.
        self.of_pod = of_pod
        self.tallies: OrderedDict[Hashable, Tally] = OrderedDict()

    def add(self, row: int, change: int) -> None:
        self.counts[row] += change
        for tally in self.tallies.values():
            tally.count(row, change)


class PodIndex:
    """All counters of one table."""

    def __init__(self, table: Table, spaces: Callable[[], Mapping[str, Mapping[str, str]]]) -> None:
        self._table, self._spaces = table, spaces
        self.clear()

    def clear(self) -> None:
        """Forget everything; it is counted anew when asked for."""
        self._queries: OrderedDict[Hashable, Counter] = OrderedDict()
        #: Query counters by what pods they select, found once for each namespace and set of labels.
        self._selecting: dict[tuple[Group, bool], list[Counter]] = {}
        self._owned: dict[Owned, Counter] | None = None
        self._selected: dict[Group, list[tuple[str, str, int, Counter]]] = {}

    # -- what plugins ask ----------------------------------------------------------------------------------------------------------

    def selected(self, terms: tuple[AffinityTerm, ...], key: str) -> Tally:
        """The pods that all of `terms` select, by the domains of label `key`."""
        counter = self._query(terms, lambda pod: int(all(pod.selected_by(term, self._spaces()) for term in terms)))
        return self._tally(counter, key, key).fresh()

    def matching(self, namespace: str, selector: Selector) -> Counter:
        """The pods of a namespace that a label selector matches and that are not on their way out."""

        def of_pod(pod: PodInfo) -> int:
            return int(pod.namespace == namespace and not pod.is_terminating and selector.matches(pod.labels))

        return self._query((namespace, selector), of_pod)

    def spread(self, counter: Counter, key: str, mask: NDArray[np.bool_], mask_key: Hashable) -> Tally:
        """`counter` by the domains of label `key`, over the nodes of `mask` alone."""
        return self._tally(counter, key, (key, mask_key)).fresh(mask)

    def terms_about(self, pod: PodInfo) -> list[tuple[str, str, int, Tally]]:
        """The affinity terms of placed pods that select `pod`: (kind, topology key, weight, where their owners are)."""
        owned = self._terms()
        found = self._selected.get(pod.group)
        if found is None:
            if len(self._selected) > _MAX_GROUPS:
                self._selected.clear()
            spaces = self._spaces()
            found = [
                (kind, term.key, weight, counter)
                for (kind, term, weight), counter in owned.items()
                if pod.selected_by(term, spaces)
            ]
            self._selected[pod.group] = found
        return [(kind, key, weight, self._tally(counter, key, key).fresh()) for kind, key, weight, counter in found]

    # -- changes -------------------------------------------------------------------------------------------------------------------

    def count(self, row: int, pod: PodInfo, sign: int) -> None:
        """`pod` came to (1) or left (-1) the node of `row`."""
        if self._queries:
            group = (pod.group, pod.is_terminating)
            found = self._selecting.get(group)
            if found is None:
                if len(self._selecting) > _MAX_GROUPS:
                    self._selecting.clear()
                found = self._selecting[group] = [each for each in self._queries.values() if each.of_pod(pod)]
            for counter in found:
                counter.add(row, sign)
        if self._owned is not None and pod.has_affinity:
            self._count_terms(self._owned, row, pod, sign)

    def add_row(self, row: int, info: NodeInfo) -> None:
        """A node appeared, perhaps with pods on it already."""
        for pod in info.pods.values():
            self.count(row, pod, 1)

    def remove_row(self, row: int) -> None:
        """A node is gone, with its pods; later rows move up."""
        for counter in (*self._queries.values(), *(self._owned or {}).values()):
            close_up(counter.counts, row)
            for tally in counter.tallies.values():
                tally.expire()

    def grow(self, capacity: int) -> None:
        for counter in (*self._queries.values(), *(self._owned or {}).values()):
            counter.counts = np.concatenate((counter.counts, np.zeros(capacity - len(counter.counts), dtype=np.int32)))

    # -- inside --------------------------------------------------------------------------------------------------------------------

    def _query(self, key: Hashable, of_pod: Callable[[PodInfo], int]) -> Counter:
        counter = self._queries.get(key)
        if counter is not None:
            self._queries.move_to_end(key)
            return counter
        counter = Counter(self._table.capacity, of_pod)
        known: dict[tuple[Group, bool], int] = {}
        for row, info in enumerate(self._table.infos):
            total = 0
            for pod in info.pods.values():
                group = (pod.group, pod.is_terminating)
                if group not in known:
                    known[group] = of_pod(pod)
                total += known[group]
            counter.counts[row] = total
        self._queries[key] = counter
        if len(self._queries) > MAX_QUERIES:
            self._queries.popitem(last=False)
        self._selecting.clear()
        return counter

    def _tally(self, counter: Counter, key: str, name: Hashable) -> Tally:
        tally = counter.tallies.get(name)
        if tally is None:
            tally = counter.tallies[name] = Tally(self._table, counter, key)
            if len(counter.tallies) > MAX_QUERIES:
                counter.tallies.popitem(last=False)
        return tally

    def _terms(self) -> dict[Owned, Counter]:
        if self._owned is None:
            self._owned = {}
            for row, info in enumerate(self._table.infos):
                for pod in info.with_affinity.values():
                    self._count_terms(self._owned, row, pod, 1)
        return self._owned

    def _count_terms(self, owned: dict[Owned, Counter], row: int, pod: PodInfo, sign: int) -> None:
        for each in terms_of(pod):
            counter = owned.get(each)
            if counter is None:
                counter = owned[each] = Counter(self._table.capacity, _never)
                self._selected.clear()
            counter.add(row, sign)
            if sign < 0 and not counter.counts.any():
                del owned[each]
                self._selected.clear()


def _never(_pod: PodInfo) -> int:
    return 0


def terms_of(pod: PodInfo) -> list[Any]:
    """(kind, term, weight) of every affinity term of a pod. Kinds: "far" required anti-affinity, "near" required affinity, "soft" preferences."""
    found: list[Owned] = [("far", term, 0) for term in pod.anti_affinity]
    found += [("near", term, 0) for term in pod.affinity]
    found += [("soft", term, weight) for term, weight in pod.preferred_affinity]
    found += [("soft", term, -weight) for term, weight in pod.preferred_anti_affinity]
    return found


def close_up(array: NDArray[Any], row: int) -> None:
    """Take one row out of an array: those behind it move up, the last is empty."""
    array[..., row:-1] = array[..., row + 1 :].copy()
    array[..., -1] = 0
