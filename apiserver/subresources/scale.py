"""scale: the number of replicas, whatever the kind."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson

from kubeling.api import errors
from kubeling.api.meta import Object, copy_json
from kubeling.api.patch.json_patch import apply_json_patch
from kubeling.api.patch.merge_patch import apply_merge_patch
from kubeling.api.printers import printer_of
from kubeling.api.resources import DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS
from kubeling.api.scale import scale_of, with_scale
from kubeling.apiserver import convert
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import body, patch
from kubeling.apiserver.handlers.common import respond_other, store_of
from kubeling.apiserver.handlers.write import options_of
from kubeling.apiserver.registry import pipeline
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.pipeline import Options
from kubeling.apiserver.registry.store import Change, stored_object
from kubeling.apiserver.request import Request

_VERSION, _KIND = "autoscaling/v1", "Scale"
#: Whose scale is what is not found, and not the object itself: people look for `deployments/scale.apps "x" not found`.
_MISSED = {DEPLOYMENTS: "apps", REPLICA_SETS: "apps", REPLICATION_CONTROLLERS: "autoscaling"}


async def scale(context: Context, request: Request, served: Served) -> None:
    """GET, PUT and PATCH."""
    info = request.info
    _ = request.output
    if request.verb == "get":
        try:
            entry = await store_of(served).read(info.namespace, info.name, request.query.get("resourceVersion", ""))
        except errors.ApiError as error:
            group = _MISSED.get(served.resource)
            if error.code != 404 or group is None:
                raise
            raise errors.not_found(group, f"{served.resource.plural}/scale", info.name) from error
        await _respond(request, served, entry.object())
        return
    options = options_of(request)
    if request.verb == "update":
        sent = await body.read_kind(request, _VERSION, _KIND)
        await _write(context, request, served, options, lambda current: sent)
        return
    kind = body.media_type(request)
    raw = await request.body()
    if kind not in (patch.JSON_PATCH, patch.MERGE_PATCH, patch.STRATEGIC):
        raise errors.unsupported_media_type((patch.JSON_PATCH, patch.MERGE_PATCH, patch.STRATEGIC))
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise errors.bad_request(f"error decoding patch: {error}") from error

    def compute(current: Object) -> Object:
        # A Scale has no lists: a strategic merge is a merge.
        made = apply_json_patch(current, document) if kind == patch.JSON_PATCH else apply_merge_patch(current, document)
        return body.check_kind(request, _VERSION, _KIND, made, ())

    await _write(context, request, served, options, compute)


async def _write(context: Context, request: Request, served: Served, options: Options, compute: Any) -> None:
    info = request.info
    options = dataclasses.replace(options, subresource="scale", door="")

    async def mutate(old: Object) -> Change:
        old = await convert.opened(served, old)
        current = convert.from_storage(served, copy_json(old))
        wanted = compute(scale_of(current, served.scale_paths))
        replicas = (wanted.get("spec") or {}).get("replicas") or 0
        if replicas < 0:
            wrong = errors.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
            raise errors.invalid(_KIND, "autoscaling", info.name, [wrong])
        given = (wanted.get("metadata") or {}).get("uid")
        if given and given != old["metadata"]["uid"]:
            raise errors.conflict(served.resource.group, served.resource.plural, info.name)
        new = convert.to_storage(served, with_scale(current, wanted, served.scale_paths))
        return await pipeline.prepare_update(context, served, info.namespace, info.name, new, old, options)

    result = await store_of(served).change(info.namespace, info.name, mutate, dry_run=options.dry_run)
    assert result.now is not None
    await _respond(request, served, stored_object(result.now))


async def _respond(request: Request, served: Served, stored: Object) -> None:
    made = scale_of((await convert.present(served, [stored]))[0], served.scale_paths)
    await respond_other(request, served.resource, made, printer=printer_of(served.resource, "scale"))
