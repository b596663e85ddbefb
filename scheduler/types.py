"""The vocabulary of the framework: verdicts, changes, and the cycle that carries one attempt."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo

if TYPE_CHECKING:
    from kubeling.scheduler.table import Table

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

    def by(self, plugin: str) -> Rejection:
        """The same, said by `plugin`; who said it first stays named."""
        return self if self.plugin else Rejection(self.reasons, self.unresolvable, plugin)


class Skip(enum.Enum):
    """What *pre_filter* and *pre_score* answer where the plugin has nothing to say about this pod: its filter or score is not called."""

    SKIP = "skip"


SKIP: Final = Skip.SKIP


class Depends(enum.IntEnum):
    """What a plugin's verdict or score on one node rests on besides the pod; what is remembered of it goes stale accordingly."""

    #: On the Node object.
    NODE = 0
    #: On the Node object and the pods on that node.
    PODS = 1
    #: On other nodes too: never remembered.
    CLUSTER = 2


@dataclass(frozen=True, slots=True)
class ClusterChange:
    """Something that may make pods schedulable: what kind of object, what happened, its old and new state."""

    resource: str
    action: Literal["add", "update", "delete"]
    old: Obj | None = None
    new: Obj | None = None


@dataclass(slots=True)
class Cycle:
    """One attempt to schedule one pod. Plugins keep what they worked out in `state`, under their own name.

    A state that *add_pod* and *remove_pod* change has a method `clone`. `table` is the vector form of `nodes`, where there is one.
    """

    pod: PodInfo
    nodes: Mapping[str, NodeInfo]
    table: Table | None = None
    #: Nodes where preemption promised room to pods, and what was promised there.
    nominated: Mapping[str, Mapping[str, PodInfo]] = field(default_factory=dict)
    #: Where this pod itself was promised room; "" where nowhere.
    own: str = ""
    state: dict[str, Any] = field(default_factory=dict)
    #: Plugins that have nothing to say, at *filter* and at *score*.
    skip_filter: set[str] = field(default_factory=set)
    skip_score: set[str] = field(default_factory=set)
    #: Its *pre_bind* may wait long: somebody else may have its place among the requests on their way meanwhile.
    slow: bool = False

    def fork(self) -> Cycle:
        """The same attempt with a state of its own, to try on it what would be if pods came or went."""
        copied = {name: value.clone() if hasattr(value, "clone") else value for name, value in self.state.items()}
        return Cycle(self.pod, self.nodes, self.table, self.nominated, self.own, copied, self.skip_filter, self.skip_score)

    def promised(self, node: str) -> list[PodInfo]:
        """The nominated pods that count on `node` for this pod: others, of at least its priority (upstream's rule)."""
        found = self.nominated.get(node)
        if not found:
            return []
        mine = self.pod
        return [each for each in found.values() if each.priority >= mine.priority and each.uid != mine.uid]


@dataclass(frozen=True, slots=True)
class PostFilterResult:
    """What post-filtering came to: a node to nominate ("" for none) with the pods to remove from it, and its words for the message.

    `keeps`: without a new nomination an earlier one stands.
    """

    message: str
    nominated: str = ""
    victims: tuple[PodInfo, ...] = ()
    keeps: bool = False


def histogram(counts: Iterable[tuple[Rejection, int]]) -> str:
    """`1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}`: each reason with its count, sorted as text."""
    total: dict[str, int] = {}
    for rejection, count in counts:
        for reason in rejection.reasons:
            total[reason] = total.get(reason, 0) + count
    return ", ".join(sorted(f"{count} {reason}" for reason, count in total.items()))
