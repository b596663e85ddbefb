"""Namespace deletion: everything in it goes, of whatever kind, then the namespace.

Pods go first, so that nothing keeps running without what it relies on (Secrets, NetworkPolicies). What is left, and what keeps it, stands in the
namespace's conditions. Only when every kind that the server knows was listed and found empty is the finalizer `kubernetes` removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from kubeling.api.conditions import set_condition
from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import copy_json, finalizers_of, is_deleting, name_of, namespace_of, spec_of, status_of
from kubeling.api.pods import DEFAULT_GRACE_PERIOD
from kubeling.api.resources import NAMESPACES, PODS, Resource
from kubeling.client.batch import parallel
from kubeling.client.controller import Reconciler, Request
from kubeling.client.discovery import discover
from kubeling.client.informer import Change
from kubeling.client.metadata import MetadataClient
from kubeling.controllers.context import Context, Obj
from kubeling.controllers.inventory import inventory_of
from kubeling.daemon.log import get_logger

log = get_logger("namespace-controller")

FINALIZER = "kubernetes"
_AT_ONCE = 8
_LOOK_AGAIN = 5.0


@dataclass(slots=True)
class Findings:
    """What one pass over a namespace found."""

    left: Counter[str] = field(default_factory=Counter)
    finalizers: Counter[str] = field(default_factory=Counter)
    failed_groups: tuple[str, ...] = ()
    errors: list[str] = field(default_factory=list)
    #: Seconds until pods that are being stopped should be gone.
    grace: float = 0.0

    @property
    def empty(self) -> bool:
        return not self.left and not self.errors and not self.failed_groups


def conditions_for(namespace: Obj, found: Findings, now: datetime) -> list[Obj]:
    """The five deletion conditions, in upstream's words."""
    conditions: list[Obj] = copy_json(status_of(namespace).get("conditions") or [])

    def say(kind: str, bad: bool, reason: str, message: str, good_reason: str, good: str) -> None:
        status = "True" if bad else "False"
        set_condition(conditions, kind, status, now, reason=reason if bad else good_reason, message=message if bad else good)

    groups = ", ".join(found.failed_groups)
    say(
        "NamespaceDeletionDiscoveryFailure",
        bool(groups),
        "DiscoveryFailed",
        f"Discovery failed for some groups, {len(found.failed_groups)} failing: {groups}",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    )
    say(
        "NamespaceDeletionGroupVersionParsingFailure",
        False,
        "",
        "",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    )
    say(
        "NamespaceDeletionContentFailure",
        bool(found.errors),
        "ContentDeletionFailed",
        f"Failed to delete all resource types, {len(found.errors)} remaining: {', '.join(sorted(found.errors))}",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    )
    left = ", ".join(f"{kind} has {count} resource instances" for kind, count in sorted(found.left.items()))
    say(
        "NamespaceContentRemaining",
        bool(left),
        "SomeResourcesRemain",
        f"Some resources are remaining: {left}",
        "ContentRemoved",
        "All content successfully removed",
    )
    held = ", ".join(f"{finalizer} in {count} resource instances" for finalizer, count in sorted(found.finalizers.items()))
    say(
        "NamespaceFinalizersRemaining",
        bool(held),
        "SomeFinalizersRemain",
        f"Some content in the namespace has finalizers remaining: {held}",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    )
    return conditions


class NamespaceController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._namespaces = ctx.informers.informer(NAMESPACES)
        self._metadata = MetadataClient(ctx.client)
        self._inventory = inventory_of(ctx)
        self._inventory.add_handler(self._emptied)
        self._loop = Reconciler("namespace-controller", self.reconcile, workers=10, clock=ctx.clock)
        self._loop.watches(self._namespaces, lambda each: (Request("", name_of(each)),) if is_deleting(each) else ())
        self.run = self._loop.run

    def _emptied(self, resource: Resource, change: Change) -> None:
        """The last object of a kind is gone from a namespace that is being deleted: look at once."""
        name = namespace_of(change.obj)
        if change.new is not None or not name:
            return
        namespace = self._namespaces.store.get(name)
        if namespace is not None and is_deleting(namespace) and not self._inventory.holds(resource, name):
            self._loop.queue.add(Request("", name))

    async def reconcile(self, request: Request) -> float | None:
        """Delete what is in it; write what is left, or finalize it."""
        namespace = self._namespaces.store.get(request.name)
        if namespace is None or not is_deleting(namespace) or FINALIZER not in (spec_of(namespace).get("finalizers") or ()):
            return None
        found = await self._empty(request.name)
        now = self._ctx.clock.now()
        conditions = conditions_for(namespace, found, now)
        status = {**status_of(namespace), "phase": "Terminating", "conditions": conditions}
        if status != status_of(namespace):
            namespace = await self._client.update_status(NAMESPACES, {**namespace, "status": status})
        if not found.empty:
            log.debug("a namespace is not empty yet", namespace=request.name, left=dict(found.left), errors=found.errors)
            return max(_LOOK_AGAIN, found.grace / 2 + 1)
        rest = [each for each in spec_of(namespace).get("finalizers") or () if each != FINALIZER]
        try:
            await self._client.update(
                NAMESPACES, {**namespace, "spec": {**spec_of(namespace), "finalizers": rest}}, subresource="finalize"
            )
        except ApiError as error:
            if not is_not_found(error):
                raise
        return None

    async def _empty(self, namespace: str) -> Findings:
        """Delete everything, then list what is left; on the live API, by what it serves at this moment."""
        served = await discover(self._client)
        found = Findings(failed_groups=served.failed)
        kinds = [each for each in served.preferred() if each.namespaced and {"list", "delete"} <= set(each.verbs)]
        pods = [each for each in kinds if (each.group, each.plural) == (PODS.group, PODS.plural)]
        for each in pods:
            await self._clear(each, namespace, found)
        if found.left or found.errors:
            return found
        others = [each for each in kinds if each not in pods]
        await parallel(others, lambda each: self._clear(each, namespace, found), limit=_AT_ONCE)
        return found

    async def _clear(self, resource: Resource, namespace: str, found: Findings) -> None:
        try:
            before = await self._metadata.list(resource, namespace)
            if not before["items"]:
                return
            if "deletecollection" in resource.verbs:
                await self._client.delete_collection(resource, namespace)
            else:
                await parallel(before["items"], lambda each: self._delete(resource, each))
            after = await self._metadata.list(resource, namespace)
        except ApiError as error:
            if not is_not_found(error):  # Not served any more, since we asked.
                found.errors.append(f"{resource.qualified}: {error.message}")
            return
        if after["items"]:
            found.left[f"{resource.plural}.{resource.group}"] = len(after["items"])
            for each in after["items"]:
                found.finalizers.update(finalizers_of(each))
            if resource.plural == PODS.plural and not resource.group:
                found.grace = max(found.grace, DEFAULT_GRACE_PERIOD)

    async def _delete(self, resource: Resource, obj: Obj) -> None:
        try:
            await self._client.delete(resource, name_of(obj), namespace_of(obj), propagation_policy="Background")
        except ApiError as error:
            if not is_not_found(error):
                raise


def namespace(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller that empties namespaces."""
    return NamespaceController(ctx).run
