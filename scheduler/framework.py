"""How the plugins of a profile are run, node by node or on arrays; both come to the same decisions.

Filters run in the profile's order and the first rejection of a node counts. Where pods of at least the same priority were promised room on a node
(*nominated*, by preemption), a pod must fit there both with and without them, since they may come or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kubeling.scheduler.nodeinfo import NodeInfo, Obj
from kubeling.scheduler.plugin import Plugin
from kubeling.scheduler.types import SKIP, ClusterChange, Cycle, Rejection
from kubeling.scheduler.verdicts import FitError, PlainVerdicts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[Any]

#: The extension points, by the names of methods. *QueueSort* is `sort_key`.
POINTS = (
    *("pre_enqueue", "sort_key", "pre_filter", "filter", "post_filter", "pre_score", "score"),
    *("reserve", "permit", "pre_bind", "bind", "post_bind"),
)


@dataclass(slots=True)
class Feasible:
    """The nodes that pass, in the order in which they were looked at; `rows` in the vector form. `looked`: how many were looked at."""

    looked: int
    found: list[NodeInfo] | None = None
    rows: Rows | None = None
    #: Whether `rows` is all rows in their own order, so that columns can be used as they are.
    whole: bool = False
    infos: Sequence[NodeInfo] = ()
    #: Why the others do not.
    verdicts: Any = None

    def __len__(self) -> int:
        if self.rows is not None:
            return len(self.rows)
        return len(self.found or ())

    @property
    def nodes(self) -> list[NodeInfo]:
        """As a list; the vector form makes it when first asked."""
        if self.found is None:
            assert self.rows is not None
            self.found = [self.infos[row] for row in self.rows.tolist()]
        return self.found

    def node(self, at: int) -> NodeInfo:
        """The `at`-th node."""
        return self.infos[int(self.rows[at])] if self.rows is not None else self.nodes[at]

    def keep(self, names: Iterable[str]) -> Feasible:
        """Only the nodes named: what extenders left over."""
        allowed = frozenset(names)
        if self.rows is None:
            return Feasible(self.looked, [each for each in self.nodes if each.name in allowed], verdicts=self.verdicts)
        import numpy as np

        kept = np.array([row for row in self.rows.tolist() if self.infos[row].name in allowed], dtype=np.intp)
        return Feasible(self.looked, rows=kept, infos=self.infos, verdicts=self.verdicts)


@dataclass(slots=True)
class Scores:
    """Weighted sums, and each plugin's normalized scores before weighting: lists or arrays in the order of the feasible nodes."""

    total: Any
    by_plugin: dict[str, Any] = field(default_factory=dict)

    def add(self, more: list[int]) -> None:
        """What others than plugins say."""
        self.by_plugin["extenders"] = more
        if isinstance(self.total, list):
            self.total = [so_far + each for so_far, each in zip(self.total, more, strict=True)]
        else:
            self.total = self.total + more

    def best(self, rand: Callable[[], float]) -> int:
        """The place of a node with the highest sum; chance decides among equals."""
        if isinstance(self.total, list):
            highest = max(self.total)
            places = [at for at, total in enumerate(self.total) if total == highest]
        else:
            import numpy as np

            places = np.flatnonzero(self.total == self.total.max())  # type: ignore[assignment]
        return int(places[int(rand() * len(places)) % len(places)])


class Framework:
    """The plugins of one profile, each with its weight in scoring.

    `points`: extension point → the plugins that run there, in order; without it each runs wherever it overrides something.
    """

    def __init__(
        self,
        plugins: Sequence[tuple[Plugin, int]],
        *,
        points: Mapping[str, Sequence[Plugin]] | None = None,
        scheduler_name: str = "default-scheduler",
        percentage: int = 0,
    ) -> None:
        self.scheduler_name = scheduler_name
        self.percentage = percentage
        self.plugins = [plugin for plugin, _ in plugins]
        self.weights = {plugin.name: weight for plugin, weight in plugins}
        self._by_name = {plugin.name: plugin for plugin in self.plugins}
        self._points = {
            point: [plugin for plugin in (self.plugins if points is None else points.get(point, ())) if overrides(plugin, point)]
            for point in POINTS
        }
        self.filters = self._points["filter"]
        self.scorers = self._points["score"]
        #: Whether every filter and score has a vector form: then all nodes are looked at, since that costs next to nothing.
        self.vectorised = all(overrides(each, "filter_rows") for each in self.filters) and all(
            overrides(each, "score_rows") for each in self.scorers
        )
        for plugin in self.plugins:
            plugin.attached(self)

    def at(self, point: str) -> list[Plugin]:
        """The plugins of an extension point."""
        return self._points[point]

    # -- the queue -----------------------------------------------------------------------------------------------------------------

    def gate(self, pod: Obj) -> Rejection | None:
        """Run *pre_enqueue*."""
        for plugin in self._points["pre_enqueue"]:
            rejection = plugin.pre_enqueue(pod)
            if rejection is not None:
                return rejection.by(plugin.name)
        return None

    def may_cure(self, change: ClusterChange, pod: Obj, plugins: frozenset[str]) -> bool:
        """Whether `change` may make the rejections of `plugins` go away."""
        if not plugins:
            return True
        finer = f"{change.resource}/{change.action}"
        for name in plugins:
            plugin = self._by_name.get(name)
            if plugin is None:
                return True  # An extender, or a plugin of another time: nobody knows.
            if (change.resource in plugin.cured_by or finer in plugin.cured_by) and plugin.hint(change, pod):
                return True
        return False

    # -- filtering -----------------------------------------------------------------------------------------------------------------

    def prepare(self, cycle: Cycle) -> tuple[frozenset[str] | None, Rejection | None]:
        """Run *pre_filter*: the nodes that can be meant (None: all) with the reason for the others, or, without nodes, an outright rejection."""
        candidates: frozenset[str] | None = None
        narrowing: list[str] = []
        for plugin in self._points["pre_filter"]:
            said = plugin.pre_filter(cycle)
            if said is None:
                continue
            if said is SKIP:
                cycle.skip_filter.add(plugin.name)
            elif isinstance(said, Rejection):
                return None, said.by(plugin.name)
            else:
                narrowing.append(plugin.name)
                candidates = said if candidates is None else candidates & said
                if not candidates:
                    words = f"node(s) didn't satisfy plugin {narrowing[0]}"
                    if len(narrowing) > 1:
                        words = f"node(s) didn't satisfy plugin(s) [{' '.join(narrowing)}] simultaneously"
                    return None, Rejection((words,), True, plugin.name)
        if candidates is None:
            return None, None
        return candidates, Rejection((f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(narrowing))}]",), True, narrowing[0])

    def feasible(self, cycle: Cycle, *, enough: int, start: int = 0, only: str = "") -> Feasible:
        """The nodes that pass all filters, at most `enough` of them, looking from the `start`-th on; `only` one where a node is named.

        Raises FitError where none does; *post_filter* is the caller's.
        """
        candidates, reason = self.prepare(cycle)
        if candidates is None and reason is not None:
            raise FitError(len(cycle.nodes), PlainVerdicts(dict.fromkeys(cycle.nodes, reason)), reason)
        if only:
            candidates = frozenset({only}) if candidates is None else candidates & {only}
            reason = reason or Rejection.of("node(s) not looked at", unresolvable=True)
        if cycle.table is not None:
            from kubeling.scheduler import vector

            return vector.feasible(self, cycle, candidates, reason, enough, start)
        return self._feasible(cycle, candidates, reason, enough, start)

    def _feasible(
        self, cycle: Cycle, candidates: frozenset[str] | None, absent: Rejection | None, enough: int, start: int
    ) -> Feasible:
        names = list(cycle.nodes)
        if candidates is None:
            order = names[start:] + names[:start]
        else:
            order, enough = [name for name in names if name in candidates], len(names)
        verdicts = PlainVerdicts()
        found: list[NodeInfo] = []
        looked = 0
        for looked, name in enumerate(order, 1):  # noqa: B007 (how far it came is told to the caller)
            rejection = self.check(cycle, cycle.nodes[name])
            if rejection is None:
                found.append(cycle.nodes[name])
                if len(found) >= enough:
                    break
            else:
                verdicts[name] = rejection
        if candidates is not None:
            assert absent is not None
            looked = 0
            verdicts = PlainVerdicts(
                {name: verdicts.get(name, absent) for name in names if name in verdicts or name not in candidates}
            )
        elif not found:
            verdicts = PlainVerdicts({name: verdicts[name] for name in names})
        if not found:
            raise FitError(len(names), verdicts)
        return Feasible(looked, found, verdicts=verdicts)

    def check(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        """Run *filter* on one node; the first rejection counts."""
        promised = cycle.promised(node.name) if cycle.nominated else []
        trial = self.with_promised(cycle, node, promised) if promised else None
        for plugin in self.filters:
            if plugin.name not in cycle.skip_filter or trial is not None:
                rejection = self.judge(plugin, cycle, node, trial)
                if rejection is not None:
                    return rejection
        return None

    def with_promised(self, cycle: Cycle, node: NodeInfo, promised: Iterable[Any]) -> tuple[Cycle, NodeInfo]:
        """The cycle and the node as they would be if the pods that were promised room were there."""
        trial, fuller = cycle.fork(), node.copy()
        for pod in promised:
            fuller.add(pod)
            for plugin in self.filters:
                if plugin.name not in cycle.skip_filter:
                    plugin.add_pod(trial, pod, node)
        return trial, fuller

    def judge(self, plugin: Plugin, cycle: Cycle, node: NodeInfo, trial: tuple[Cycle, NodeInfo] | None) -> Rejection | None:
        """One plugin's *filter* on one node, with (`trial`) and without the pods that were promised room there."""
        if plugin.name in cycle.skip_filter:
            return None
        rejection = plugin.filter(*trial) if trial is not None else None
        if rejection is None:
            rejection = plugin.filter(cycle, node)
        return None if rejection is None else rejection.by(plugin.name)

    def cure(self, cycle: Cycle, error: FitError) -> FitError:
        """Run *post_filter*: the first that nominates a node ends it."""
        for plugin in self._points["post_filter"]:
            result = plugin.post_filter(cycle, error.verdicts)
            if result is not None:
                error.nomination = result
                if result.nominated:
                    break
        return error

    def unreserve(self, cycle: Cycle, node: str) -> None:
        """Run *unreserve* at all that reserve, in reverse; and at those that hold pods at *permit*, which may have others to tell."""
        told = list(dict.fromkeys((*self._points["reserve"], *(each for each in self._points["permit"]))))
        for plugin in reversed(told):
            plugin.unreserve(cycle, node)

    # -- scoring -------------------------------------------------------------------------------------------------------------------

    def scores(self, cycle: Cycle, feasible: Feasible) -> Scores:
        """Run *pre_score*, *score* and *normalize* on the feasible nodes."""
        if cycle.table is not None:
            from kubeling.scheduler import vector

            return vector.scores(self, cycle, feasible)
        nodes = feasible.nodes
        for plugin in self._points["pre_score"]:
            if plugin.pre_score(cycle, nodes) is SKIP:
                cycle.skip_score.add(plugin.name)
        total = [0] * len(nodes)
        by_plugin: dict[str, Any] = {}
        for plugin in self.scorers:
            if plugin.name in cycle.skip_score:
                continue
            scores = {node.name: plugin.score(cycle, node) for node in nodes}
            plugin.normalize(cycle, scores)
            weight = self.weights[plugin.name]
            column = by_plugin[plugin.name] = [scores[node.name] for node in nodes]
            total = [so_far + weight * more for so_far, more in zip(total, column, strict=True)]
        return Scores(total, by_plugin)


def overrides(plugin: Plugin, point: str) -> bool:
    """Whether the plugin has something to say at this method."""
    return getattr(type(plugin), point) is not getattr(Plugin, point)
