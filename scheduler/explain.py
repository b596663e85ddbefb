"""Why is the pod there, or why nowhere? The table of nodes and plugins behind every decision.

A decision leaves behind what it worked out anyway: for each node the first plugin that rejected it with its reasons, and every plugin's score of the
nodes that were left. That is kept compactly (two bytes a node for the verdict, one for each score) for the latest pods, within a limit of memory. Of a pod
whose record is gone, what would be decided now is worked out when somebody asks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubeling.scheduler.algorithm import Decision, decide
from kubeling.scheduler.framework import Framework
from kubeling.scheduler.nodeinfo import Obj
from kubeling.scheduler.types import Cycle, Rejection
from kubeling.scheduler.verdicts import Codes, FitError, VectorVerdicts

#: All records together (bytes, roughly); the one that was written first goes first.
MAX_BYTES = 8 * 1024 * 1024
API_VERSION = "scheduling.kubeling.dev/v1alpha1"
KIND = "SchedulingExplanation"
#: Nodes in one answer where the asker says nothing else.
DEFAULT_LIMIT = 500


@dataclass(slots=True)
class Record:
    """One decision. In the vector form `verdicts` and the columns of `scores` are arrays by row of `names`; else a dict and lists by `feasible`."""

    key: str
    uid: str
    at: str
    node: str
    message: str
    names: list[str]
    verdicts: Any
    meaning: Codes | None
    feasible: Any
    scores: dict[str, Any]
    size: int

    def rejection(self, row: int, name: str) -> Rejection | None:
        if self.meaning is None:
            found: Rejection | None = self.verdicts.get(name)
            return found
        code = int(self.verdicts[row]) if self.verdicts is not None and row < len(self.verdicts) else 0
        return self.meaning[code] if code else None


def record(cycle: Cycle, outcome: Decision | FitError, at: str) -> Record:
    """What an attempt came to, made small."""
    verdicts = outcome.verdicts if isinstance(outcome, FitError) else outcome.feasible.verdicts
    scores = {} if isinstance(outcome, FitError) or outcome.scores is None else outcome.scores.by_plugin
    message = str(outcome) if isinstance(outcome, FitError) else ""
    node = "" if isinstance(outcome, FitError) else outcome.node
    pod = cycle.pod
    table = cycle.table
    if table is None or (verdicts is not None and not isinstance(verdicts, VectorVerdicts)):
        feasible = [] if isinstance(outcome, FitError) else [each.name for each in outcome.feasible.nodes]
        small = {name: bytes(column) for name, column in scores.items() if all(0 <= int(each) <= 255 for each in column)}
        names = list(cycle.nodes)
        known = dict(verdicts.items()) if verdicts is not None else {}
        return Record(pod.key, pod.uid, at, node, message, names, known, None, feasible, small, 200 * (len(names) + 1))
    import numpy as np

    codes = None if verdicts is None else verdicts.codes.astype(np.uint16)
    rows = None if isinstance(outcome, FitError) or outcome.feasible.whole else outcome.feasible.rows
    where = None if rows is None else rows.astype(np.uint32)
    columns = {name: np.clip(np.asarray(column), 0, 255).astype(np.uint8) for name, column in scores.items()}
    size = 500 + sum(each.nbytes for each in (codes, where, *columns.values()) if each is not None)
    return Record(pod.key, pod.uid, at, node, message, table.names, codes, table.codes, where, columns, size)


class Explanations:
    """The latest records, by pod."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def put(self, made: Record) -> None:
        """Keep `made` instead of what was known of the pod."""
        self.drop(made.uid)
        self._records[made.uid] = made
        self._bytes += made.size
        while self._bytes > MAX_BYTES and len(self._records) > 1:
            self._bytes -= self._records.popitem(last=False)[1].size

    def drop(self, uid: str) -> None:
        """The pod is gone."""
        known = self._records.pop(uid, None)
        if known is not None:
            self._bytes -= known.size

    def get(self, uid: str) -> Record | None:
        return self._records.get(uid)


def now(framework: Framework, cycle: Cycle, at: str, rand: Callable[[], float]) -> Record:
    """What would be decided at this moment."""
    try:
        return record(cycle, decide(framework, cycle, rand=rand), at)
    except FitError as error:
        return record(cycle, error, at)


def render(found: Record, framework: Framework, *, recorded: bool, limit: int = DEFAULT_LIMIT, only: str = "") -> Obj:
    """The answer as JSON: rejected and feasible nodes, best first; at most `limit`, or `only` one node."""
    filters = [plugin.name for plugin in framework.filters]
    weights = {name: framework.weights.get(name, 1) for name in found.scores}
    places: dict[str, int] = {}
    if found.meaning is None:
        places = {name: at for at, name in enumerate(found.feasible)}
    elif found.scores or found.node:
        rows = range(len(next(iter(found.scores.values()), ()))) if found.feasible is None else found.feasible.tolist()
        places = {found.names[row]: at for at, row in enumerate(rows)}
    rows_out: list[Obj] = []
    for row, name in enumerate(found.names):
        if only and name != only:
            continue
        rejection = found.rejection(row, name)
        if rejection is not None:
            rows_out.append({"node": name, "feasible": False, "rejectedBy": rejection.plugin, "reasons": list(rejection.reasons)})
            continue
        at = places.get(name)
        scores = {} if at is None else {plugin: int(column[at]) for plugin, column in found.scores.items()}
        total = sum(score * weights[plugin] for plugin, score in scores.items())
        rows_out.append({"node": name, "feasible": True, "chosen": name == found.node, "scores": scores, "total": total})
    rows_out.sort(key=lambda each: (not each["feasible"], not each.get("chosen"), -each.get("total", 0), each["node"]))
    namespace, _, pod = found.key.rpartition("/")
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": pod, "namespace": namespace, "uid": found.uid},
        "schedulerName": framework.scheduler_name,
        # Whether this is what was decided at `time`, or what would be decided then.
        "recorded": recorded,
        "time": found.at,
        "node": found.node,
        "message": found.message,
        "filters": filters,
        "weights": weights,
        "total": len(rows_out),
        "feasible": sum(1 for each in rows_out if each["feasible"]),
        "nodes": rows_out[:limit],
    }
