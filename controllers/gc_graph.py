"""Who owns whom: the garbage collector's picture of the cluster, by uid. No I/O; :meth:`Graph.observe` says what has to be looked at.

An owner that is referred to and was not seen is in the graph as *virtual*: it may not exist, may not have been listed yet, or may never have been.
The collector asks the live API about it. The picture lags behind the server, so nothing is deleted for what the picture shows alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeling.api.meta import finalizers_of, is_deleting, name_of, namespace_of, owner_references_of, resource_version_of, uid_of
from kubeling.api.resources import Resource
from kubeling.client.informer import Change
from kubeling.controllers.context import Obj

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_REMEMBERED_ABSENT = 10_000


@dataclass(slots=True, eq=False)
class Node:
    """An object. A virtual one has the coordinates that the first reference to it gave."""

    uid: str
    api_version: str
    kind: str
    namespace: str
    name: str
    resource: Resource | None = None
    owners: tuple[dict[str, Any], ...] = ()
    dependents: dict[str, Node] = field(default_factory=dict)
    #: The resourceVersion in which it was last seen.
    version: str = ""
    finalizers: tuple[str, ...] = ()
    deleting: bool = False
    #: Waits for its dependents (foreground deletion).
    waiting: bool = False
    orphaning: bool = False

    @property
    def virtual(self) -> bool:
        return self.resource is None

    def blocks(self, owner_uid: str) -> bool:
        """Whether it holds up that owner's foreground deletion."""
        return any(each.get("uid") == owner_uid and each.get("blockOwnerDeletion") for each in self.owners)


@dataclass(slots=True)
class Work:
    """Uids to look at: whether they are to be deleted, and whose dependents are to be let go."""

    check: set[str] = field(default_factory=set)
    orphan: set[str] = field(default_factory=set)


class Absent:
    """Owners that are known not to exist, remembered so that a thousand dependents cost one question.

    A uid whose deletion was seen is gone for good, since uids are never used again. A reference whose coordinates lead nowhere is absent *there* only:
    the uid may well live in another namespace.
    """

    def __init__(self, limit: int = _REMEMBERED_ABSENT) -> None:
        self._known: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._limit = limit

    def holds(self, reference: Mapping[str, Any], namespace: str) -> bool:
        """Whether the owner that a reference from `namespace` names is known to be gone."""
        return (reference.get("uid", ""),) in self._known or _coordinates(reference, namespace) in self._known

    def add(self, uid: str) -> None:
        """Its deletion was seen."""
        self._put((uid,))

    def add_at(self, reference: Mapping[str, Any], namespace: str) -> None:
        """There is nothing where the reference points to, or something else."""
        self._put(_coordinates(reference, namespace))

    def _put(self, entry: tuple[str, ...]) -> None:
        self._known[entry] = None
        while len(self._known) > self._limit:
            self._known.popitem(last=False)


def _coordinates(reference: Mapping[str, Any], namespace: str) -> tuple[str, ...]:
    return (
        reference.get("uid", ""),
        reference.get("apiVersion", ""),
        reference.get("kind", ""),
        namespace,
        reference.get("name", ""),
    )


class Graph:
    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.absent = Absent()

    def observe(self, resource: Resource, change: Change) -> Work:
        """Take in what an informer saw."""
        work = Work()
        if change.new is None:
            self._gone(uid_of(change.obj), work, for_good=True)
        else:
            self._seen(resource, change.new, work)
        return work

    def vanished(self, uid: str) -> Work:
        """The live API says that there is no such object where the graph has it. Of a virtual one that proves nothing but that."""
        work = Work()
        node = self.nodes.get(uid)
        self._gone(uid, work, for_good=node is not None and not node.virtual)
        return work

    def is_abandoned(self, node: Node) -> bool:
        """Whether every owner that it was last seen with is known to be gone."""
        return bool(node.owners) and all(self.absent.holds(each, node.namespace) for each in node.owners)

    def _seen(self, resource: Resource, obj: Obj, work: Work) -> None:
        uid = uid_of(obj)
        node = self.nodes.get(uid)
        if node is None:
            node = self.nodes[uid] = Node(uid, resource.group_version, resource.kind, namespace_of(obj), name_of(obj))
        elif node.virtual and not _is_at(node, resource, obj):
            # References gave it other coordinates than it has: those who wrote them have to be judged anew.
            work.check.update(node.dependents)
            node.api_version, node.kind = resource.group_version, resource.kind
            node.namespace, node.name = namespace_of(obj), name_of(obj)
        node.resource = resource
        self._link(node, owner_references_of(obj), work)
        self._transitions(node, obj, work)

    def _link(self, node: Node, owners: Sequence[dict[str, Any]], work: Work) -> None:
        before = {each.get("uid", ""): each for each in node.owners}
        after = {each.get("uid", ""): each for each in owners}
        node.owners = tuple(owners)
        for uid in before.keys() - after.keys():
            owner = self.nodes.get(uid)
            if owner is not None:
                owner.dependents.pop(node.uid, None)
                if owner.waiting:
                    work.check.add(uid)
                self._drop_unused(owner)
        for uid in after.keys() & before.keys():
            released = before[uid].get("blockOwnerDeletion") and not after[uid].get("blockOwnerDeletion")
            if released and (owner := self.nodes.get(uid)) is not None and owner.waiting:
                work.check.add(uid)
        for uid in after.keys() - before.keys():
            self._add_owner(node, uid, after[uid], work)

    def _add_owner(self, node: Node, uid: str, reference: dict[str, Any], work: Work) -> None:
        owner = self.nodes.get(uid)
        if owner is None:
            owner = Node(
                uid, reference.get("apiVersion", ""), reference.get("kind", ""), node.namespace, reference.get("name", "")
            )
            self.nodes[uid] = owner
            work.check.add(uid)
        elif (not owner.virtual and not _refers_to(reference, node, owner)) or owner.deleting:
            work.check.add(node.uid)
        owner.dependents[node.uid] = node
        if self.absent.holds(reference, node.namespace):
            work.check.add(node.uid)

    def _transitions(self, node: Node, obj: Obj, work: Work) -> None:
        finalizers = finalizers_of(obj)
        node.version, node.finalizers = resource_version_of(obj), tuple(finalizers)
        node.deleting = is_deleting(obj)
        waiting = node.deleting and FOREGROUND in finalizers
        orphaning = node.deleting and ORPHAN in finalizers
        if orphaning and not node.orphaning:
            work.orphan.add(node.uid)
        if waiting and not node.waiting:
            work.check.update(node.dependents)
            work.check.add(node.uid)
        node.waiting, node.orphaning = waiting, orphaning

    def _gone(self, uid: str, work: Work, *, for_good: bool) -> None:
        if for_good:
            self.absent.add(uid)
        node = self.nodes.pop(uid, None)
        if node is None:
            return
        for each in node.owners:
            owner = self.nodes.get(each.get("uid", ""))
            if owner is not None:
                owner.dependents.pop(uid, None)
                if owner.waiting:
                    work.check.add(owner.uid)
                self._drop_unused(owner)
        work.check.update(node.dependents)
        if node.dependents:
            # Until they have gone too: somebody may look up who their owner was.
            ghost = Node(node.uid, node.api_version, node.kind, node.namespace, node.name)
            ghost.dependents = node.dependents
            self.nodes[uid] = ghost

    def _drop_unused(self, owner: Node) -> None:
        """A virtual owner to whom nobody refers any more."""
        if owner.virtual and not owner.dependents:
            self.nodes.pop(owner.uid, None)


def _is_at(node: Node, resource: Resource, obj: Obj) -> bool:
    group = node.api_version.rpartition("/")[0]
    return (group, node.kind, node.namespace if resource.namespaced else "", node.name) == (
        resource.group,
        resource.kind,
        namespace_of(obj),
        name_of(obj),
    )


def _refers_to(reference: dict[str, Any], dependent: Node, owner: Node) -> bool:
    """Whether a reference names the owner's coordinates rightly: kind, name, and the same namespace where the owner has one."""
    group = (reference.get("apiVersion") or "").rpartition("/")[0]
    return (
        group == owner.api_version.rpartition("/")[0]
        and reference.get("kind") == owner.kind
        and reference.get("name") == owner.name
        and owner.namespace in ("", dependent.namespace)
    )


def without(references: Iterable[dict[str, Any]], uids: Iterable[str]) -> list[dict[str, Any]]:
    """The references but those to these owners."""
    dropped = frozenset(uids)
    return [each for each in references if each.get("uid") not in dropped]
