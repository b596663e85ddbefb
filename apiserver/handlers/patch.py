"""patch, in its four formats."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson

from kubeling.api import errors
from kubeling.api.apply import apply
from kubeling.api.apply.fieldset import spelled
from kubeling.api.apply.walk import elements_of
from kubeling.api.meta import Object
from kubeling.api.patch.json_patch import apply_json_patch
from kubeling.api.patch.merge_patch import apply_merge_patch
from kubeling.api.patch.strategic import apply_strategic_patch
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import body
from kubeling.apiserver.handlers.write import options_of, replace
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.pipeline import Options
from kubeling.apiserver.request import Request

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY_YAML = "application/apply-patch+yaml"
FORMATS = (JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY_YAML)


async def patch(context: Context, request: Request, served: Served) -> None:
    """PATCH on an object or on one of its doors."""
    kind = body.media_type(request)
    supported = FORMATS if served.is_builtin else (JSON_PATCH, MERGE_PATCH, APPLY_YAML)
    if kind not in supported:
        raise errors.unsupported_media_type(supported)
    _ = request.output
    options = options_of(request)
    check_options(request, kind)
    raw = await request.body()
    if kind == APPLY_YAML:
        await _apply(context, request, served, options, raw)
        return
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise errors.bad_request(f"error decoding patch: {error}") from error

    def compute(current: Object | None) -> Object:
        assert current is not None
        return body.check_object(request, served, apply_patch(kind, current, document, served))

    await replace(context, request, served, options, compute, False)


def check_options(request: Request, kind: str) -> None:
    """What only an apply may and must say. Raises 422."""
    wrong = None
    if kind != APPLY_YAML:
        if "force" in request.query:
            wrong = errors.forbidden_value("force", "may not be specified for non-apply patch")
    elif not request.query.get("fieldManager"):
        wrong = errors.required_value("fieldManager", "is required for apply patch")
    if wrong is not None:
        raise errors.invalid("PatchOptions", "meta.k8s.io", "", [wrong])


def apply_patch(kind: str, current: Object, document: Any, served: Served) -> Any:
    """The patched object, unchecked."""
    if kind == JSON_PATCH:
        return apply_json_patch(current, document)
    if kind == MERGE_PATCH:
        return apply_merge_patch(current, document)
    return apply_strategic_patch(current, document, served.schema)


async def _apply(context: Context, request: Request, served: Served, options: Options, raw: bytes) -> None:
    """Server-side apply."""
    info, version = request.info, served.resource.group_version
    form = "json" if raw.lstrip()[:1] == b"{" else "yaml"
    value, duplicates = body.parse(raw, form, body.field_validation(request) != "Ignore")
    applied = _typed(request, served, value)
    if duplicates:
        applied = body.check_served(request, served, value, duplicates)
    name = (applied.get("metadata") or {}).get("name")
    if name and name != info.name:
        raise errors.bad_request(f"the name of the object ({name}) does not match the name on the URL ({info.name})")
    manager = request.query.get("fieldManager", "")
    force = request.flag("force")
    versions = served.versions()

    def compute(current: Object | None) -> Object:
        return apply(
            current,
            applied,
            manager=manager,
            force=force,
            schema=served.schema,
            version=version,
            now=context.clock.now(),
            subresource=info.subresource,
            ignored=served.rules.strategy.reset_fields(info.subresource),
            versions=versions,
        )

    await replace(context, request, served, dataclasses.replace(options, operation="Apply"), compute, not info.subresource)


def _typed(request: Request, served: Served, value: Any) -> Object:
    """An apply as an object of its kind. It says itself what it is, and has nothing that the kind does not: nobody could own that. Raises 400."""
    resource = served.resource
    if isinstance(value, dict):
        given = value.get("apiVersion") or ""
        if given != resource.group_version:
            why = f"Specified patch version: {given}, expected: {resource.group_version}"
            raise errors.bad_request(f"Incorrect version specified in apply patch. {why}")
        if not value.get("kind"):
            raise errors.bad_request(_untyped(request, served, "", f"no corresponding type for {_kind_text(served, '')}"))
        body.check_names(value, resource.group_version, resource.kind)
    applied, unknown = served.decode(value, strict=False, duplicates=())
    if unknown:
        fields = (each.partition('"')[2].removesuffix('"') for each in unknown)
        told = [f"{spelled(elements_of(each, value, served.schema))}: field not declared in schema" for each in fields]
        text = told[0] if len(told) == 1 else "errors:" + "".join(f"\n  {each}" for each in told)
        raise errors.bad_request(_untyped(request, served, resource.kind, text))
    applied["apiVersion"], applied["kind"] = resource.group_version, resource.kind
    return applied


def _untyped(request: Request, served: Served, kind: str, why: str) -> str:
    which = f"{request.info.namespace}/{request.info.name}; {_kind_text(served, kind)}"
    return f"failed to create typed patch object ({which}): {why}"


def _kind_text(served: Served, kind: str) -> str:
    return f"{served.resource.group}/{served.resource.version}, Kind={kind}"
