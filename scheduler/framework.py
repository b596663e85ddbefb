"""The scheduling framework (KEP-624): extension points, and how the plugins of a profile are run at them.

A plugin overrides the points at which it has something to say; the others cost nothing, since only overridden methods are called. Points before
*reserve* are synchronous and pure; *pre_bind* and *bind* are coroutines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo

MAX_SCORE = 100


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a pod does not fit. `unresolvable`: removing other pods from the node would not help."""

    reasons: tuple[str, ...]
    unresolvable: bool = False
    plugin: str = ""

    @staticmethod
    def of(*reasons: str, unresolvable: bool = False) -> Rejection:
        return Rejection(tuple(reasons), unresolvable)


@dataclass(frozen=True, slots=True)
class ClusterChange:
    """Something that may make pods schedulable: what kind of object, what happened, its old and new state."""

    resource: Literal["nodes", "pods", "services", "persistentvolumeclaims", "persistentvolumes", "storageclasses", "namespaces"]
    action: Literal["add", "update", "delete"]
    old: Obj | None = None
    new: Obj | None = None


@dataclass(slots=True)
class Cycle:
    """One attempt to schedule one pod. Plugins keep what they worked out in `state`, under their own name."""

    pod: PodInfo
    nodes: Mapping[str, NodeInfo]
    state: dict[str, Any] = field(default_factory=dict)


class Plugin:
    """Base of all plugins: every point, doing nothing."""

    name = ""
    #: The resources whose changes may cure this plugin's rejections; :meth:`hint` looks closer.
    cured_by: frozenset[str] = frozenset({"nodes", "pods"})

    def attached(self, framework: Framework) -> None:
        """Called once, with the framework that will run this plugin."""

    def pre_enqueue(self, pod: Obj) -> Rejection | None:
        """May the pod enter the active queue at all?"""

    def pre_filter(self, cycle: Cycle) -> Rejection | frozenset[str] | None:
        """Prepare; reject the pod outright, or name the only nodes that can be meant."""

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        """Does the pod fit on `node`?"""

    def post_filter(self, cycle: Cycle, rejections: Mapping[str, Rejection]) -> PostFilterResult | None:
        """No node fits: can something be done about it?"""

    def pre_score(self, cycle: Cycle, nodes: Sequence[NodeInfo]) -> bool | None:
        """Prepare scoring of the feasible `nodes`; False leaves this plugin's scores out."""

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        """How well does `node` suit? Any scale, if :meth:`normalize` brings it to 0…100."""
        return 0

    def normalize(self, cycle: Cycle, scores: dict[str, int]) -> None:
        """Bring `scores` (node → score) to 0…100, in place."""

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        """Could `change` cure our rejection of `pod`? When in doubt, True (KEP-4247)."""
        return True

    async def pre_bind(self, cycle: Cycle, node: str) -> None:
        """What must be done before the pod may start on `node`; raising gives the attempt up."""

    async def bind(self, cycle: Cycle, node: str) -> bool:
        """Bind; True if this plugin did it."""
        return False


@dataclass(frozen=True, slots=True)
class PostFilterResult:
    """What post-filtering came to: a node to nominate ("" for none) with the pods to remove from it, and its words for the message."""

    message: str
    nominated: str = ""
    victims: tuple[PodInfo, ...] = ()


@dataclass(slots=True)
class FitError(Exception):
    """No node is feasible. `str()` is the message that people see, in upstream's words."""

    nodes: int
    rejections: Mapping[str, Rejection] = field(default_factory=dict)
    prefilter: str = ""
    nomination: PostFilterResult | None = None

    def __str__(self) -> str:
        if self.nodes == 0:
            return "no nodes available to schedule pods"
        text = f"0/{self.nodes} nodes are available:"
        reasons = self.prefilter or histogram(self.rejections.values())
        if reasons:
            text += f" {reasons}."
        return f"{text} {self.nomination.message}" if self.nomination and self.nomination.message else text

    @property
    def plugins(self) -> frozenset[str]:
        """The plugins that rejected something: their hints decide when to try again."""
        return frozenset(each.plugin for each in self.rejections.values() if each.plugin)


def histogram(rejections: Iterable[Rejection]) -> str:
    """`1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}`: each reason with its count, sorted as text."""
    counts = Counter(reason for each in rejections for reason in each.reasons)
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))


class Framework:
    """The plugins of one profile, each with its weight in scoring."""

    def __init__(self, plugins: Sequence[tuple[Plugin, int]], *, scheduler_name: str = "default-scheduler") -> None:
        self.scheduler_name = scheduler_name
        self.plugins = [plugin for plugin, _ in plugins]
        self._by_name = {plugin.name: plugin for plugin in self.plugins}
        self._weights = {plugin.name: weight for plugin, weight in plugins}
        self._pre_enqueue = self._at("pre_enqueue")
        self._pre_filter = self._at("pre_filter")
        self._filter = self._at("filter")
        self._post_filter = self._at("post_filter")
        self._score = self._at("score")
        self._pre_bind = self._at("pre_bind")
        self._bind = self._at("bind")
        for plugin in self.plugins:
            plugin.attached(self)

    def _at(self, point: str) -> list[Plugin]:
        return [plugin for plugin in self.plugins if getattr(type(plugin), point) is not getattr(Plugin, point)]

    def gate(self, pod: Obj) -> Rejection | None:
        """Run *pre_enqueue*."""
        return _first(self._pre_enqueue, lambda plugin: plugin.pre_enqueue(pod))

    def feasible(self, cycle: Cycle, *, enough: int, start: int = 0) -> tuple[list[NodeInfo], int]:
        """The nodes that pass all filters, at most `enough` of them, looking from the `start`-th on; and how many were looked at.

        Raises FitError where none does.
        """
        candidates, prefilter = self.prepare(cycle)
        rejections: dict[str, Rejection] = {}
        if prefilter is not None:
            rejections = dict.fromkeys(cycle.nodes, prefilter)
            raise self._unfit(cycle, FitError(len(cycle.nodes), rejections, prefilter=", ".join(prefilter.reasons)))
        names = list(cycle.nodes)
        found: list[NodeInfo] = []
        looked = 0
        for offset in range(len(names)):
            node = cycle.nodes[names[(start + offset) % len(names)]]
            looked += 1
            if candidates is not None and node.name not in candidates[0]:
                rejections[node.name] = Rejection((candidates[1],), unresolvable=True, plugin=candidates[2])
                continue
            rejection = self.check(cycle, node)
            if rejection is None:
                found.append(node)
                if len(found) >= enough:
                    break
            else:
                rejections[node.name] = rejection
        if not found:
            raise self._unfit(cycle, FitError(len(names), rejections))
        return found, looked

    def check(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        """Run *filter* on one node; the first rejection counts."""
        return _first(self._filter, lambda plugin: plugin.filter(cycle, node))

    def scores(self, cycle: Cycle, nodes: Sequence[NodeInfo]) -> dict[str, dict[str, int]]:
        """Plugin → node → weighted score of the feasible nodes."""
        table: dict[str, dict[str, int]] = {}
        for plugin in self._score:
            if plugin.pre_score(cycle, nodes) is False:
                continue
            scores = {node.name: plugin.score(cycle, node) for node in nodes}
            plugin.normalize(cycle, scores)
            weight = self._weights[plugin.name]
            table[plugin.name] = {name: score * weight for name, score in scores.items()}
        return table

    async def bind(self, cycle: Cycle, node: str) -> None:
        """Run *pre_bind* and *bind*."""
        for plugin in self._pre_bind:
            await plugin.pre_bind(cycle, node)
        for plugin in self._bind:
            if await plugin.bind(cycle, node):
                return

    def may_cure(self, change: ClusterChange, pod: Obj, plugins: frozenset[str]) -> bool:
        """Whether `change` may make the rejections of `plugins` go away."""
        if not plugins:
            return True
        return any(
            change.resource in plugin.cured_by and plugin.hint(change, pod)
            for plugin in (self._by_name[name] for name in plugins if name in self._by_name)
        )

    def prepare(self, cycle: Cycle) -> tuple[tuple[frozenset[str], str, str] | None, Rejection | None]:
        """Run *pre_filter*: (the nodes that can be meant, the reason for the others, the plugin that said so), and an outright rejection."""
        candidates: tuple[frozenset[str], str, str] | None = None
        for plugin in self._pre_filter:
            said = plugin.pre_filter(cycle)
            if isinstance(said, Rejection):
                return None, Rejection(said.reasons, said.unresolvable, plugin.name)
            if said is not None:
                both = said if candidates is None else candidates[0] & said
                candidates = (both, "node(s) didn't satisfy plugin(s) [" + plugin.name + "]", plugin.name)
        return candidates, None

    def _unfit(self, cycle: Cycle, error: FitError) -> FitError:
        for plugin in self._post_filter:
            result = plugin.post_filter(cycle, error.rejections)
            if result is not None:
                error.nomination = result
                if result.nominated:
                    break
        return error


def _first(plugins: Sequence[Plugin], ask: Callable[[Plugin], Rejection | None]) -> Rejection | None:
    for plugin in plugins:
        rejection = ask(plugin)
        if rejection is not None:
            return Rejection(rejection.reasons, rejection.unresolvable, plugin.name)
    return None


def normalize_by_max(scores: dict[str, int], *, reverse: bool = False) -> None:
    """Scale so that the highest becomes 100 (0 stays 0); `reverse` turns best and worst round."""
    highest = max(scores.values(), default=0)
    for name, score in scores.items():
        if highest == 0:
            scores[name] = MAX_SCORE if reverse else 0
            continue
        scaled = score * MAX_SCORE // highest
        scores[name] = MAX_SCORE - scaled if reverse else scaled
