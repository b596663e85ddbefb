"""The framework on arrays: the same decisions as node by node, for thousands of nodes in a few array operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kubeling.scheduler.framework import Feasible, Framework, Scores, overrides
from kubeling.scheduler.plugin import Plugin
from kubeling.scheduler.types import SKIP, Cycle, Depends, Rejection
from kubeling.scheduler.verdicts import FitError, VectorVerdicts

if TYPE_CHECKING:
    from kubeling.scheduler.table import Table

Codes = NDArray[np.int32]
#: So few nodes are asked one by one.
FEW = 4


def feasible(
    framework: Framework, cycle: Cycle, candidates: frozenset[str] | None, absent: Rejection | None, enough: int, start: int
) -> Feasible:
    """See :meth:`Framework.feasible`."""
    table = cycle.table
    assert table is not None
    if candidates is not None:
        return _among(framework, cycle, table, candidates, absent, enough)
    codes = _all_codes(framework, cycle, table)
    if codes is None:
        rows: NDArray[Any] = np.arange(table.size)
    else:
        rows = np.flatnonzero(codes == 0)
    if not len(rows):
        verdicts = VectorVerdicts(np.zeros(0, np.int32) if codes is None else codes, table.codes, table.names, table.index)
        raise FitError(table.size, verdicts)
    if start:
        at = int(np.searchsorted(rows, start))
        rows = np.concatenate((rows[at:], rows[:at]))
    looked = table.size
    if len(rows) >= enough:
        rows = rows[:enough]
        looked = (int(rows[-1]) - start) % table.size + 1
    seen = None if codes is None else VectorVerdicts(codes, table.codes, table.names, table.index)
    return Feasible(looked, rows=rows, whole=start == 0 and len(rows) == table.size, infos=table.infos, verdicts=seen)


def _among(
    framework: Framework, cycle: Cycle, table: Table, candidates: frozenset[str], absent: Rejection | None, enough: int
) -> Feasible:
    """Only some nodes can be meant: the others are not even looked at."""
    rows = np.array(sorted(table.index[name] for name in candidates if name in table.index), dtype=np.intp)
    if len(rows) <= FEW:
        found = [table.codes.of(framework.check(cycle, table.infos[row])) for row in rows.tolist()]
        codes = np.array(found, dtype=np.int32)
    else:
        whole = _all_codes(framework, cycle, table)
        codes = np.zeros(len(rows), dtype=np.int32) if whole is None else whole[rows]
    everywhere = np.full(table.size, table.codes.of(absent), dtype=np.int32)
    everywhere[rows] = codes
    verdicts = VectorVerdicts(everywhere, table.codes, table.names, table.index)
    passed = rows[codes == 0]
    if not len(passed):
        raise FitError(table.size, verdicts)
    return Feasible(0, rows=passed, infos=table.infos, verdicts=verdicts)


def _all_codes(framework: Framework, cycle: Cycle, table: Table) -> Codes | None:
    """The first rejection of every node, 0 where none; None where nothing rejects anything."""
    codes: Codes | None = None
    for plugin in framework.filters:
        if plugin.name in cycle.skip_filter:
            continue
        found = _codes(framework, plugin, cycle, table, codes)
        if found is None:
            continue
        if codes is None:
            codes = found.copy()
        else:
            np.copyto(codes, found, where=codes == 0)
    return codes


def _codes(framework: Framework, plugin: Plugin, cycle: Cycle, table: Table, so_far: Codes | None) -> Codes | None:
    """One plugin's rejections of all nodes. The array may be one that is remembered: it is not to be changed."""
    depends = plugin.filter_depends
    key = None if depends is Depends.CLUSTER else plugin.filter_key(cycle)
    if key is None:
        if overrides(plugin, "filter_rows"):
            return _promised(framework, plugin, cycle, table, _rows_of(plugin, cycle, table))
        return _one_by_one(framework, plugin, cycle, table, so_far)
    everyone = bool(cycle.nominated) and depends is Depends.PODS

    def one(row: int) -> int:
        return table.codes.of(_judge(framework, plugin, cycle, table, row, everyone))

    def whole() -> Codes:
        if not overrides(plugin, "filter_rows"):
            return np.array([one(row) for row in range(table.size)], dtype=np.int32)
        found = _rows_of(plugin, cycle, table)
        if found is None:
            found = np.zeros(table.size, dtype=np.int32)
        if everyone:
            for name in cycle.nominated:
                if name in table.index:
                    found[table.index[name]] = one(table.index[name])
        return found

    known = ("filter", plugin.name, key, cycle.pod.priority if everyone else None)
    found = table.column(known, depends, whole, one)
    if everyone and cycle.own in table.index:
        found = found.copy()
        row = table.index[cycle.own]
        found[row] = table.codes.of(_judge(framework, plugin, cycle, table, row, False))
    return found


def _rows_of(plugin: Plugin, cycle: Cycle, table: Table) -> Codes | None:
    return plugin.filter_rows(cycle, table, slice(0, table.size))


def _judge(framework: Framework, plugin: Plugin, cycle: Cycle, table: Table, row: int, everyone: bool) -> Rejection | None:
    """One node in the per-node form. `everyone`: the pod's own nomination counts as well, as it does for any other pod."""
    info = table.infos[row]
    promised = cycle.promised(info.name) if cycle.nominated else []
    if everyone and cycle.nominated.get(info.name):
        promised = [each for each in cycle.nominated[info.name].values() if each.priority >= cycle.pod.priority]
    trial = framework.with_promised(cycle, info, promised) if promised else None
    return framework.judge(plugin, cycle, info, trial)


def _promised(framework: Framework, plugin: Plugin, cycle: Cycle, table: Table, found: Codes | None) -> Codes | None:
    """Correct the rows where pods were promised room."""
    if not cycle.nominated or plugin.filter_depends is Depends.NODE:
        return found
    rows = [table.index[name] for name in cycle.nominated if name in table.index and cycle.promised(name)]
    if not rows:
        return found
    corrected = np.zeros(table.size, dtype=np.int32) if found is None else found.copy()
    for row in rows:
        corrected[row] = table.codes.of(_judge(framework, plugin, cycle, table, row, False))
    return corrected


def _one_by_one(framework: Framework, plugin: Plugin, cycle: Cycle, table: Table, so_far: Codes | None) -> Codes:
    """A plugin that has only the per-node form: the nodes that are still in question are asked."""
    found = np.zeros(table.size, dtype=np.int32)
    rows = range(table.size) if so_far is None else np.flatnonzero(so_far == 0).tolist()
    for row in rows:
        found[row] = table.codes.of(_judge(framework, plugin, cycle, table, row, False))
    return found


def scores(framework: Framework, cycle: Cycle, found: Feasible) -> Scores:
    """See :meth:`Framework.scores`."""
    table = cycle.table
    assert table is not None
    assert found.rows is not None
    for plugin in framework.at("pre_score"):
        if overrides(plugin, "pre_score_rows"):
            said = plugin.pre_score_rows(cycle, table, found.rows)
        else:
            said = plugin.pre_score(cycle, found.nodes)
        if said is SKIP:
            cycle.skip_score.add(plugin.name)
    total = np.zeros(len(found.rows), dtype=np.int64)
    by_plugin: dict[str, Any] = {}
    for plugin in framework.scorers:
        if plugin.name in cycle.skip_score:
            continue
        column = by_plugin[plugin.name] = _normalized(plugin, cycle, found, _raw(plugin, cycle, table, found))
        weight = framework.weights[plugin.name]
        total += column if weight == 1 else column * weight
    return Scores(total, by_plugin)


def _raw(plugin: Plugin, cycle: Cycle, table: Table, found: Feasible) -> NDArray[np.int64]:
    assert found.rows is not None
    depends = plugin.score_depends
    key = None if depends is Depends.CLUSTER else plugin.score_key(cycle)
    if key is None:
        if overrides(plugin, "score_rows"):
            return plugin.score_rows(cycle, table, found.rows)
        return np.array([plugin.score(cycle, node) for node in found.nodes], dtype=np.int64)

    def one(row: int) -> int:
        return plugin.score(cycle, table.infos[row])

    def whole() -> NDArray[np.int64]:
        if overrides(plugin, "score_rows"):
            return plugin.score_rows(cycle, table, slice(0, table.size))
        return np.array([one(row) for row in range(table.size)], dtype=np.int64)

    column = table.column(("score", plugin.name, key), depends, whole, one)
    return column if found.whole else column[found.rows]


def _normalized(plugin: Plugin, cycle: Cycle, found: Feasible, raw: NDArray[np.int64]) -> NDArray[np.int64]:
    if overrides(plugin, "normalize_rows") or not overrides(plugin, "normalize"):
        return plugin.normalize_rows(cycle, raw)
    names = [node.name for node in found.nodes]
    by_node = dict(zip(names, raw.tolist(), strict=True))
    plugin.normalize(cycle, by_node)
    return np.array([by_node[name] for name in names], dtype=np.int64)
