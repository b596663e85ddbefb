"""patch, in its four formats."""

from __future__ import annotations

import orjson

from kubeling.api import errors
from kubeling.api.meta import Object
from kubeling.api.patch.json_patch import apply_json_patch
from kubeling.api.patch.merge_patch import apply_merge_patch
from kubeling.api.patch.strategic import apply_strategic_patch
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import body
from kubeling.apiserver.handlers.write import options_of, replace
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY_YAML = "application/apply-patch+yaml"
FORMATS = (JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY_YAML)


async def patch(context: Context, request: Request, served: Served) -> None:
    """PATCH on an object or on one of its doors."""
    kind = body.media_type(request)
    if kind not in FORMATS:
        raise errors.unsupported_media_type(FORMATS)
    _ = request.output
    options = options_of(request)
    raw = await request.body()
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise errors.bad_request(f"error decoding patch: {error}") from error

    def compute(current: Object) -> Object:
        if kind == JSON_PATCH:
            made = apply_json_patch(current, document)
        elif kind == MERGE_PATCH:
            made = apply_merge_patch(current, document)
        else:
            made = apply_strategic_patch(current, document, served.schema)
        return body.check_object(request, served, made)

    await replace(context, request, served, options, compute)
