"""What the verbs share: from a request to the kind, and from stored bytes to the form that the client asked for."""

from __future__ import annotations

from typing import Any

import orjson

from kubeling.api import errors
from kubeling.apiserver import convert, render
from kubeling.apiserver.cache.entry import Entry, with_revision
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.store import Store, Stored, stored_object
from kubeling.apiserver.request import Request


def store_of(served: Served) -> Store:
    """The store of a kind that was found to have one."""
    if served.store is None:
        raise errors.no_such_path()
    return served.store


async def respond_stored(request: Request, served: Served, stored: Stored | Entry, status: int = 200) -> None:
    """Answer with an object of the store."""
    output = request.output
    if output.plain and not served.converts and stored.revision:
        await request.respond(with_revision(stored.raw, store_of(served).head, stored.revision), status)
        return
    await respond_object(request, served, (await convert.present(served, [stored_object(stored)]))[0], status)


async def respond_object(request: Request, served: Served, obj: dict[str, Any], status: int = 200) -> None:
    """Answer with an object, in the served version, that is a dict already."""
    output = request.output
    if output.plain:
        await request.respond(orjson.dumps(obj), status)
        return
    body = render.one(output, served, obj, request.clock.now(), request.query.get("includeObject", ""))
    await request.respond(body, status, output.content_type)


async def respond_other(request: Request, obj: dict[str, Any], status: int = 200) -> None:
    """Answer with an object that is of another kind than the resource (a Scale, a TokenRequest)."""
    output = request.output
    if output.form == "protobuf" and not output.transform:
        await request.respond(render.serialize(output, obj), status, output.content_type)
    else:
        await request.respond(orjson.dumps(obj), status)


def is_dry_run(request: Request, options: dict[str, Any] | None = None) -> bool:
    """Whether nothing is to be written. Raises 400 for a value that nobody knows."""
    values = [request.query["dryRun"]] if "dryRun" in request.query else list((options or {}).get("dryRun") or [])
    if any(value != "All" for value in values if value):
        shown = ",".join(map(str, values))
        error = errors.FieldError(errors.NOT_SUPPORTED, "dryRun", shown, 'supported values: "All"')
        raise errors.invalid("CreateOptions" if request.verb == "create" else "UpdateOptions", "meta.k8s.io", "", [error])
    return bool(values and values[0])


def manager_of(request: Request) -> str:
    """The field manager: as given, else the User-Agent up to its first slash."""
    given = request.query.get("fieldManager", "")
    if given:
        if len(given) > 128:
            error = errors.too_long_value("fieldManager", 128)
            raise errors.invalid("CreateOptions" if request.verb == "create" else "UpdateOptions", "meta.k8s.io", "", [error])
        return given
    return request.header(b"user-agent").partition("/")[0][:128] or "unknown"
