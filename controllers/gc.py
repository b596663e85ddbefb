"""Garbage collector: what nobody owns any more goes.

Background: an object whose owners are all gone is deleted. Foreground: an owner with the finalizer `foregroundDeletion` stays until the dependents that
block it are gone. Orphan: with the finalizer `orphan` its dependents lose the reference to it before it goes.

The graph (:mod:`kubeling.controllers.gc_graph`) says what to look at; the decision is made on the live object and its live owners, and carried out
under the preconditions of the uid and resourceVersion that were judged. An owner counts as gone only when the API answers "not found" for that very
name, or has another uid there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kubeling.api.errors import ApiError, is_conflict, is_not_found
from kubeling.api.meta import finalizers_of, is_deleting, name_of, namespace_of, owner_references_of, resource_version_of, uid_of
from kubeling.api.resources import Resource
from kubeling.client.batch import parallel
from kubeling.client.controller import Reconciler, Request
from kubeling.client.informer import Change
from kubeling.controllers.context import Context, Obj
from kubeling.controllers.gc_graph import FOREGROUND, ORPHAN, Graph, Node, Work, without
from kubeling.controllers.inventory import inventory_of
from kubeling.daemon.log import get_logger

log = get_logger("garbage-collector")

Policy = Literal["Background", "Foreground", "Orphan"]
#: How long until an object is looked at again whose owner is of a kind that is not served.
_UNKNOWN_KIND_SECONDS = 30.0


class _UnknownKind(Exception):
    """An owner reference names a kind that the server does not know: it cannot be said whether the owner is there."""


@dataclass(slots=True)
class Owners:
    """An object's references, judged by the live API."""

    solid: list[dict[str, Any]] = field(default_factory=list)
    dangling: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)


class GarbageCollector:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._events = ctx.recorder("garbage-collector-controller")
        self._graph = Graph()
        self._inventory = inventory_of(ctx)
        self._inventory.add_handler(self._observe)
        self._checks = Reconciler("garbage-collector", self.check, workers=20, clock=ctx.clock)
        self._orphans = Reconciler("garbage-collector orphans", self.orphan, workers=5, clock=ctx.clock)

    async def run(self) -> None:
        """Wait until every kind was listed (an incomplete graph lacks dependents), then work until cancelled."""
        await self._inventory.complete.wait()
        self._ctx.run_part("garbage-collector orphans", self._orphans.run)
        await self._checks.run()

    def _observe(self, resource: Resource, change: Change) -> None:
        self._enqueue(self._graph.observe(resource, change))

    def _enqueue(self, work: Work) -> None:
        for uid in work.check:
            self._checks.queue.add(Request("", uid))
        for uid in work.orphan:
            self._orphans.queue.add(Request("", uid))

    # -- deletion --------------------------------------------------------------------------------------------------------------------

    async def check(self, request: Request) -> float | None:
        """Delete the object if it has to go, or move its foreground deletion one step."""
        node = self._graph.nodes.get(request.name)
        if node is None or (node.deleting and not node.waiting):
            return None
        resource = node.resource or self._inventory.resource_of(node.api_version, node.kind)
        if resource is None:
            self._inventory.refresh()
            return _UNKNOWN_KIND_SECONDS if node.dependents else None
        if resource.namespaced and not node.namespace:
            # Named by cluster-scoped objects, which cannot have such an owner: each is told so when it is judged.
            self._enqueue(Work(check=set(node.dependents)))
            return None
        if not (node.virtual or node.waiting) and self._graph.is_abandoned(node) and await self._delete_as_seen(resource, node):
            return None
        live = await self._get(resource, node.name, node.namespace if resource.namespaced else "")
        if live is None or uid_of(live) != node.uid:
            self._enqueue(self._graph.vanished(node.uid))
            return None
        if node.virtual:
            return None  # It is there, and its informer will show it.
        if node.waiting:
            await self._foreground(resource, node, live)
            return None
        if not owner_references_of(live) or is_deleting(live):
            return None
        try:
            owners = await self._judge(node, live)
        except _UnknownKind:
            self._inventory.refresh()
            return _UNKNOWN_KIND_SECONDS
        await self._decide(resource, node, live, owners)
        return None

    async def _decide(self, resource: Resource, node: Node, live: Obj, owners: Owners) -> None:
        lost = [*owners.dangling, *owners.waiting]
        if owners.solid:
            if lost:
                await self._set_references(resource, live, without(owner_references_of(live), [each["uid"] for each in lost]))
            return
        if owners.waiting and node.dependents:
            for each in list(node.dependents.values()):
                if each.waiting:
                    # A ring in which each waits for the next: it is broken here.
                    await self._unblock(resource, live)
                    break
            await self._delete(resource, live, "Foreground")
            return
        await self._delete(resource, live, _policy(finalizers_of(live)))

    async def _delete_as_seen(self, resource: Resource, node: Node) -> bool:
        """Without asking first: the resourceVersion makes sure that it is what we saw. False where it has changed since."""
        seen = {"metadata": {"name": node.name, "namespace": node.namespace, "uid": node.uid, "resourceVersion": node.version}}
        try:
            await self._delete(resource, seen, _policy(node.finalizers))
        except ApiError as error:
            if is_conflict(error):
                return False
            raise
        return True

    async def _judge(self, node: Node, live: Obj) -> Owners:
        found = Owners()
        for reference in owner_references_of(live):
            if self._graph.absent.holds(reference, node.namespace):
                found.dangling.append(reference)
                continue
            resource = self._inventory.resource_of(reference.get("apiVersion", ""), reference.get("kind", ""))
            if resource is None:
                raise _UnknownKind
            if resource.namespaced and not node.namespace:
                self._complain(node, live, reference)
                found.solid.append(reference)
                continue
            owner = await self._get(resource, reference["name"], node.namespace if resource.namespaced else "")
            if owner is None or uid_of(owner) != reference.get("uid"):
                if self._lives_elsewhere(node, reference):
                    self._complain(node, live, reference)
                else:
                    self._graph.absent.add_at(reference, node.namespace)
                found.dangling.append(reference)
            elif is_deleting(owner) and FOREGROUND in finalizers_of(owner):
                found.waiting.append(reference)
            else:
                found.solid.append(reference)
        return found

    def _lives_elsewhere(self, node: Node, reference: dict[str, Any]) -> bool:
        owner = self._graph.nodes.get(reference.get("uid", ""))
        return owner is not None and not owner.virtual and owner.namespace not in ("", node.namespace)

    def _complain(self, node: Node, live: Obj, reference: dict[str, Any]) -> None:
        about = {**live, "apiVersion": node.api_version, "kind": node.kind}
        words = f"ownerRef [{reference.get('apiVersion')}/{reference.get('kind')}, namespace: {node.namespace}, name: {reference['name']}, "
        words += f'uid: {reference.get("uid")}] does not exist in namespace "{node.namespace}"'
        self._events.event(about, "Warning", "OwnerRefInvalidNamespace", words)

    async def _foreground(self, resource: Resource, node: Node, live: Obj) -> None:
        blocking = [each for each in node.dependents.values() if each.blocks(node.uid)]
        if not blocking:
            await self._remove_finalizer(resource, live, FOREGROUND)
            return
        for each in blocking:
            if not each.waiting:
                self._checks.queue.add(Request("", each.uid))

    async def _unblock(self, resource: Resource, live: Obj) -> None:
        freed = [
            {**each, "blockOwnerDeletion": False} if each.get("blockOwnerDeletion") else each
            for each in owner_references_of(live)
        ]
        if freed != owner_references_of(live):
            written = await self._set_references(resource, live, freed)
            if written is not None:
                live["metadata"] = written["metadata"]

    # -- orphaning -------------------------------------------------------------------------------------------------------------------

    async def orphan(self, request: Request) -> float | None:
        """Take the reference to it from each dependent, then let the owner go."""
        node = self._graph.nodes.get(request.name)
        if node is None or node.resource is None or not node.orphaning:
            return None

        async def release(dependent: Node) -> None:
            if dependent.resource is None:
                return
            live = await self._get(dependent.resource, dependent.name, dependent.namespace)
            if live is None or uid_of(live) != dependent.uid:
                return
            rest = without(owner_references_of(live), [node.uid])
            if rest != owner_references_of(live):
                await self._set_references(dependent.resource, live, rest)

        await parallel(list(node.dependents.values()), release)
        live = await self._get(node.resource, node.name, node.namespace)
        if live is not None and uid_of(live) == node.uid:
            await self._remove_finalizer(node.resource, live, ORPHAN)
        return None

    # -- requests --------------------------------------------------------------------------------------------------------------------

    async def _get(self, resource: Resource, name: str, namespace: str) -> Obj | None:
        """The live object; None only where the answer is that this very name is not there."""
        try:
            return await self._client.get(resource, name, namespace or None)
        except ApiError as error:
            if is_not_found(error) and (error.status.get("details") or {}).get("name") == name:
                return None
            raise

    async def _set_references(self, resource: Resource, live: Obj, references: Sequence[dict[str, Any]]) -> Obj | None:
        return await self._set(resource, live, {"ownerReferences": list(references) or None})

    async def _remove_finalizer(self, resource: Resource, live: Obj, finalizer: str) -> None:
        rest = [each for each in finalizers_of(live) if each != finalizer]
        if len(rest) != len(finalizers_of(live)):
            await self._set(resource, live, {"finalizers": rest or None})

    async def _set(self, resource: Resource, live: Obj, metadata: Obj) -> Obj | None:
        """Compare and set; None where the object is gone."""
        body = {"metadata": {"uid": uid_of(live), "resourceVersion": resource_version_of(live), **metadata}}
        try:
            return await self._client.patch(resource, name_of(live), body, namespace_of(live) or None)
        except ApiError as error:
            if is_not_found(error):
                return None
            raise

    async def _delete(self, resource: Resource, live: Obj, policy: Policy) -> None:
        log.debug("deleting", kind=resource.kind, object=f"{namespace_of(live)}/{name_of(live)}", policy=policy)
        try:
            await self._client.delete(
                resource,
                name_of(live),
                namespace_of(live) or None,
                propagation_policy=policy,
                uid=uid_of(live),
                resource_version=resource_version_of(live),
            )
        except ApiError as error:
            if not is_not_found(error):
                raise


def _policy(finalizers: Sequence[str]) -> Policy:
    return "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background"


def garbagecollector(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The collector of what nobody owns."""
    return GarbageCollector(ctx).run
