"""What a scheduler plugin is (KEP-624): a class that overrides the extension points at which it has something to say.

Points that are not overridden cost nothing, since only overridden methods are called. Everything up to *permit* is synchronous and pure: it runs inside
a cycle, in which the cluster's state stands still. *pre_bind*, *bind* and *post_bind* are coroutines.

*filter* and *score* have two forms. The per-node form is asked node by node. The vector form (`filter_rows`, `score_rows`) answers for all nodes at once
from the arrays of :class:`~kubeling.scheduler.table.Table`; it is optional, must come to the same answers, and is used in clusters that are large enough.
Where a plugin names a key (`filter_key`, `score_key`: the part of the pod that the answer rests on) answers are remembered, and only nodes that changed
since are asked again, in the per-node form. A plugin with the per-node form alone works in clusters of any size.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo
from kubeling.scheduler.types import ClusterChange, Cycle, Depends, PostFilterResult, Rejection, Skip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kubeling.scheduler.framework import Framework
    from kubeling.scheduler.queue import QueuedPod
    from kubeling.scheduler.table import Table
    from kubeling.scheduler.verdicts import Verdicts

#: Which rows of the table are meant: all of them as a slice, or an array of their numbers.
Rows: TypeAlias = "NDArray[np.intp] | slice"


class Plugin:
    """Base of all plugins: every point, doing nothing."""

    name = ""
    #: The changes that may cure this plugin's rejections: a resource ("nodes") or one thing that happens to it ("pods/delete"); :meth:`hint` looks closer.
    cured_by: frozenset[str] = frozenset({"nodes", "pods"})
    #: What the answers of *filter* and *score* rest on.
    filter_depends: Depends = Depends.CLUSTER
    score_depends: Depends = Depends.CLUSTER

    def attached(self, framework: Framework) -> None:
        """Called once, with the framework that will run this plugin."""

    # -- the queue -----------------------------------------------------------------------------------------------------------------

    def pre_enqueue(self, pod: Obj) -> Rejection | None:
        """May the pod enter the active queue at all?"""

    def sort_key(self, queued: QueuedPod) -> Any:
        """*QueueSort*: pods with smaller keys are tried first. Exactly one plugin of a profile sorts."""

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        """Could `change` cure our rejection of `pod`? When in doubt, True (KEP-4247)."""
        return True

    # -- filtering -----------------------------------------------------------------------------------------------------------------

    def pre_filter(self, cycle: Cycle) -> Rejection | frozenset[str] | Skip | None:
        """Prepare; reject the pod outright, name the only nodes that can be meant, or say that there is nothing to filter."""

    def add_pod(self, cycle: Cycle, pod: PodInfo, node: NodeInfo) -> None:
        """Change our state as if `pod` were on `node` as well (*PreFilterExtensions*)."""

    def remove_pod(self, cycle: Cycle, pod: PodInfo, node: NodeInfo) -> None:
        """Change our state as if `pod` were gone from `node`."""

    def filter(self, cycle: Cycle, node: NodeInfo) -> Rejection | None:
        """Does the pod fit on `node`?"""

    def filter_key(self, cycle: Cycle) -> Hashable | None:
        """What of the pod *filter* looks at; None remembers nothing. Unused where `filter_depends` is CLUSTER."""

    def filter_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int32] | None:
        """*filter* for these rows of the table: codes from `table.codes`, 0 where the pod fits; None where it fits everywhere."""

    def post_filter(self, cycle: Cycle, verdicts: Verdicts) -> PostFilterResult | None:
        """No node fits: can something be done about it?"""

    # -- scoring -------------------------------------------------------------------------------------------------------------------

    def pre_score(self, cycle: Cycle, nodes: Sequence[NodeInfo]) -> Skip | None:
        """Prepare scoring of the feasible `nodes`. In the vector form :meth:`pre_score_rows` is called instead, where there is one."""

    def pre_score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> Skip | None:
        """*pre_score* for the feasible `rows`."""

    def score(self, cycle: Cycle, node: NodeInfo) -> int:
        """How well does `node` suit? Any scale, if :meth:`normalize` brings it to 0…100."""
        return 0

    def score_key(self, cycle: Cycle) -> Hashable | None:
        """What of the pod *score* looks at; None remembers nothing. Unused where `score_depends` is CLUSTER."""

    def score_rows(self, cycle: Cycle, table: Table, rows: Rows) -> NDArray[np.int64]:
        """*score* for these rows of the table."""
        raise TypeError(f"{self.name} has no vector form")

    def normalize(self, cycle: Cycle, scores: dict[str, int]) -> None:
        """Bring `scores` (node → score) to 0…100, in place."""

    def normalize_rows(self, cycle: Cycle, scores: NDArray[np.int64]) -> NDArray[np.int64]:
        """*normalize* for an array in the order of the feasible rows; must not change `scores` itself."""
        return scores

    # -- binding -------------------------------------------------------------------------------------------------------------------

    def reserve(self, cycle: Cycle, node: str) -> Rejection | None:
        """Set aside what the pod will need on `node`."""

    def unreserve(self, cycle: Cycle, node: str) -> None:
        """Give back what :meth:`reserve` took. Called also where it took nothing: must not fail, and may be called twice."""

    def permit(self, cycle: Cycle, node: str) -> Rejection | float | None:
        """Let the pod be bound (None), refuse it, or let it wait for at most so many seconds."""

    async def pre_bind(self, cycle: Cycle, node: str) -> None:
        """What must be done before the pod may start on `node`; raising gives the attempt up."""

    async def bind(self, cycle: Cycle, node: str) -> bool:
        """Bind; True if this plugin did it. The first that does ends the matter."""
        return False

    async def post_bind(self, cycle: Cycle, node: str) -> None:
        """The pod is bound."""


def normalize_by_max(scores: dict[str, int], *, reverse: bool = False) -> None:
    """Scale so that the highest becomes 100 (0 stays 0); `reverse` turns best and worst round."""
    highest = max(scores.values(), default=0)
    for name, score in scores.items():
        scaled = score * 100 // highest if highest else 0
        scores[name] = 100 - scaled if reverse else scaled


def normalize_rows_by_max(scores: NDArray[np.int64], *, reverse: bool = False) -> NDArray[np.int64]:
    """:func:`normalize_by_max` for an array."""
    highest = int(scores.max()) if len(scores) else 0
    scaled = scores * 100 // highest if highest else scores * 0
    return 100 - scaled if reverse else scaled
