"""delete and deletecollection.

An object goes at once unless something holds it: a grace period (pods that run), finalizers, or the way in which its dependents are to be treated, which
is a finalizer too and is worked off by the garbage collector. What is held is marked with a deletionTimestamp and goes with its last finalizer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kubeling.api import errors
from kubeling.api.meta import Object
from kubeling.apiserver import convert, render
from kubeling.apiserver.admission.chain import Attributes
from kubeling.apiserver.cache.entry import Entry
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import body
from kubeling.apiserver.handlers.common import is_dry_run, respond_object, store_of
from kubeling.apiserver.handlers.read import Selection, find
from kubeling.apiserver.registry import pipeline
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.store import Change
from kubeling.apiserver.request import Request
from kubeling.apiserver.storage.errors import StoreError

_ORPHAN, _FOREGROUND = "orphan", "foregroundDeletion"
#: Of a collection so many objects are deleted at a time.
_AT_ONCE = 16
_POLICIES = ("Background", "Foreground", "Orphan")
#: Kinds whose deletion answers with the object; the others' with a Status.
_RETURNED = frozenset(
    {"Pod", "Service", "ServiceAccount", "PersistentVolume", "PersistentVolumeClaim", "PodTemplate", "ResourceQuota"}
)


async def delete(context: Context, request: Request, served: Served) -> None:
    """DELETE of one object."""
    _ = request.output
    options = await body.read_options(request)
    check_options(options)
    obj, gone = await delete_object(context, request, served, request.info.namespace, request.info.name, options)
    if gone and served.resource.kind not in _RETURNED:
        await request.respond_json(_success(served, obj))
    else:
        await respond_object(request, served, convert.from_storage(served, obj))


async def deletecollection(context: Context, request: Request, served: Served) -> None:
    """DELETE of a collection: each object that is selected, by itself; no snapshot, no transaction."""
    _ = request.output
    options = await body.read_options(request)
    check_options(options)
    store = store_of(served)
    result = await find(request, served, store, Selection(request, served))
    deleted = await _delete_all(context, request, served, result.entries, options)
    objects = [convert.from_storage(served, each) for each in deleted]
    output, include = request.output, request.query.get("includeObject", "")
    await request.respond(
        render.many(output, served, objects, result.metadata(), request.clock.now(), include), 200, output.content_type
    )


async def _delete_all(
    context: Context, request: Request, served: Served, entries: list[Entry], options: dict[str, Any]
) -> list[Object]:
    """Several at a time, so that the store writes them together. The first error ends it; what was deleted by then is deleted."""
    waiting = iter(enumerate(entries))
    deleted: dict[int, Object] = {}
    failures: list[Exception] = []

    async def work() -> None:
        for index, entry in waiting:
            if failures:
                return
            try:
                deleted[index], _ = await delete_object(context, request, served, entry.namespace, entry.name, options)
            except errors.ApiError as error:
                if not errors.is_not_found(error):
                    failures.append(error)
            except StoreError as error:
                failures.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_AT_ONCE, len(entries))):
            group.create_task(work())
    if failures:
        raise failures[0]
    return [deleted[index] for index in sorted(deleted)]


async def delete_object(
    context: Context, request: Request, served: Served, namespace: str, name: str, options: dict[str, Any]
) -> tuple[Object, bool]:
    """Delete, or mark as being deleted. Returns the object in its last state, and whether it is gone. Raises ApiError."""
    store = store_of(served)
    strategy = served.rules.strategy
    dry_run = is_dry_run(request, options)
    last: dict[str, Object] = {}

    async def mutate(obj: Object) -> Change:
        obj = await convert.opened(served, obj)
        _check_preconditions(served, name, obj, options)
        sent = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", **options}
        attributes = Attributes("DELETE", served.resource, "", namespace, name, request.user, None, obj, dry_run, sent, request)
        await context.admission.admit(attributes)
        await context.admission.validate(attributes)
        last["obj"] = obj
        metadata = obj["metadata"]
        already = bool(metadata.get("deletionTimestamp"))
        if not already and strategy.on_delete is not None:
            strategy.on_delete(obj, context.clock.now())
        grace = strategy.grace_period(obj, options.get("gracePeriodSeconds"))
        finalizers = _finalizers(served, metadata.get("finalizers") or [], options)
        held = grace > 0 or finalizers or _is_namespace(served, obj)
        if not held:
            return await pipeline.removal(served, obj)
        if finalizers:
            metadata["finalizers"] = finalizers
        else:
            metadata.pop("finalizers", None)
        strategy.mark_deleting(obj, context.clock.now(), grace)
        if _is_namespace(served, obj) and not already:
            obj.setdefault("status", {})["phase"] = "Terminating"
        if already and pipeline.is_finished(served, obj):
            return await pipeline.removal(served, obj)
        return Change(await convert.closed(served, obj))

    result = await store.change(namespace, name, mutate, dry_run=dry_run)
    obj = last["obj"]
    if result.now is not None:
        obj["metadata"]["resourceVersion"] = str(result.now.revision)
    return obj, result.now is None


def _finalizers(served: Served, present: list[str], options: dict[str, Any]) -> list[str]:
    """The finalizers that the propagation policy asks for."""
    policy = options.get("propagationPolicy")
    orphan = options.get("orphanDependents")
    if policy is None and orphan is None:
        if _ORPHAN in present or _FOREGROUND in present:
            return present
        policy = served.rules.strategy.default_propagation
    elif policy is None:
        policy = "Orphan" if orphan else "Background"
    kept = [each for each in present if each not in (_ORPHAN, _FOREGROUND)]
    if policy == "Orphan":
        kept.append(_ORPHAN)
    elif policy == "Foreground":
        kept.append(_FOREGROUND)
    return kept


def _is_namespace(served: Served, obj: Object) -> bool:
    """Namespaces are held by their spec, too."""
    return served.resource.kind == "Namespace" and bool((obj.get("spec") or {}).get("finalizers"))


def _check_preconditions(served: Served, name: str, obj: Object, options: dict[str, Any]) -> None:
    wanted = options.get("preconditions") or {}
    resource, metadata = served.resource, obj["metadata"]
    uid, version = wanted.get("uid"), wanted.get("resourceVersion")
    if uid is not None and uid != metadata["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}"
        raise errors.conflict(resource.group, resource.plural, name, why)
    if version is not None and version != metadata["resourceVersion"]:
        why = f"Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: "
        raise errors.conflict(resource.group, resource.plural, name, why + metadata["resourceVersion"])


def check_options(options: dict[str, Any]) -> None:
    """The rules of DeleteOptions. Raises 422."""
    wrong: list[errors.FieldError] = []
    policy = options.get("propagationPolicy")
    if policy is not None and options.get("orphanDependents") is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        wrong.append(errors.invalid_value("propagationPolicy", policy, why))
    if policy is not None and policy not in _POLICIES:
        wrong.append(errors.unsupported_value("propagationPolicy", policy, ("Foreground", "Background", "Orphan", "nil")))
    if wrong:
        raise errors.invalid("DeleteOptions", "meta.k8s.io", "", wrong)


def _success(served: Served, obj: Object) -> dict[str, Any]:
    metadata, resource = obj["metadata"], served.resource
    details = {"name": metadata["name"], "group": resource.group, "kind": resource.plural, "uid": metadata["uid"]}
    if not resource.group:
        del details["group"]
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
