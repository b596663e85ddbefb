"""create, update and patch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kubeling.api import errors
from kubeling.api.meta import Object, copy_json
from kubeling.apiserver import convert
from kubeling.apiserver.authz.authorizer import Attributes, refusal
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import body
from kubeling.apiserver.handlers.common import is_dry_run, manager_of, options_kind, respond_object, respond_stored, store_of
from kubeling.apiserver.registry import managed, pipeline
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.pipeline import Options
from kubeling.apiserver.registry.store import Change
from kubeling.apiserver.request import Request


def options_of(request: Request) -> Options:
    """How this request asks for its write."""
    return Options(
        request.user,
        manager_of(request),
        is_dry_run(request),
        request.info.subresource,
        notes=request,
        sent=sent_options(request),
    )


def sent_options(request: Request) -> dict[str, Any]:
    """The options of the query as the object that webhooks are shown."""
    kind = options_kind(request)
    query = request.query
    sent: dict[str, Any] = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
    if query.get("dryRun"):
        sent["dryRun"] = [query["dryRun"]]
    if kind == "PatchOptions" and "force" in query:
        sent["force"] = request.flag("force")
    for name in ("fieldManager", "fieldValidation"):
        if query.get(name):
            sent[name] = query[name]
    return sent


async def create(context: Context, request: Request, served: Served) -> None:
    """POST to a collection."""
    store = store_of(served)
    options = options_of(request)
    _ = request.output
    obj = convert.to_storage(served, await body.read_object(request, served))
    stored = await pipeline.create(context, served, store, request.info.namespace, obj, options)
    await respond_stored(request, served, stored, 201)


async def update(context: Context, request: Request, served: Served) -> None:
    """PUT on an object or on one of its doors (`/status`)."""
    options = options_of(request)
    _ = request.output
    sent = await body.read_object(request, served)
    named = (sent.get("metadata") or {}).get("name")
    if not named:
        wrong = errors.required_value("metadata.name", "name is required")
        raise errors.invalid(served.resource.kind, served.resource.group, request.info.name, [wrong])
    upsert = served.rules.strategy.allow_create_on_update and not options.subresource
    await replace(context, request, served, options, lambda current: copy_json(sent), upsert, whole=True)


async def _demand_creation(context: Context, request: Request) -> None:
    """Who changes what is not there creates it, and has to be allowed that as well. Raises 403."""
    info = request.info
    place = (info.group, info.resource, info.subresource, info.namespace, info.name)
    attributes = Attributes(request.user, "create", *place, version=info.version)
    decision = await context.authorizer.authorize(attributes)
    if not decision.allowed:
        raise refusal(attributes, decision)


async def replace(
    context: Context,
    request: Request,
    served: Served,
    options: Options,
    compute: Callable[[Object | None], Object],
    upsert: bool,
    whole: bool = False,
) -> None:
    """Write what `compute` makes of the present object (both in the served version; None where there is none, or it is all the same because the
    `whole` object is new), and answer with it.
    """
    store, info = store_of(served), request.info
    last: dict[str, Any] = {}

    async def mutate(old: Object) -> Change:
        old = await convert.opened(served, old)
        current = None if whole else convert.from_storage(served, copy_json(old))
        new = convert.to_storage(served, await managed.settled(served, partial(compute, current)))
        last["new"] = new
        return await pipeline.prepare_update(context, served, info.namespace, info.name, new, old, options)

    try:
        result = await store.change(info.namespace, info.name, mutate, dry_run=options.dry_run)
    except errors.ApiError as error:
        if not (upsert and errors.is_not_found(error)):
            raise
        new = convert.to_storage(served, compute(None))
        metadata = new.setdefault("metadata", {})
        if metadata.get("resourceVersion") or metadata.get("uid"):
            raise
        metadata["name"] = info.name
        await _demand_creation(context, request)
        stored = await pipeline.create(context, served, store, info.namespace, new, options)
        await respond_stored(request, served, stored, 201)
        return
    if result.now is not None:
        await respond_stored(request, served, result.now)
        return
    # The last finalizer is gone, and the object with it: the answer is what it was in the end.
    assert result.before is not None
    gone = {**last["new"], "metadata": {**last["new"]["metadata"], "resourceVersion": str(result.before.revision)}}
    await respond_object(request, served, convert.from_storage(served, gone))
