"""What the verbs share: from a request to the kind, and from stored bytes to the form that the client asked for."""

from __future__ import annotations

from typing import Any

import orjson

from kubeling.api import errors
from kubeling.api.printers.columns import Printer
from kubeling.api.resources import Resource
from kubeling.apiserver import convert, render
from kubeling.apiserver.cache.entry import Entry, with_revision
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.store import Store, Stored, stored_object
from kubeling.apiserver.request import Request

_LONGEST_MANAGER = 128


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
    if served.store is None and output.transform == "Table":
        raise _no_table(served.resource)
    body = render.one(output, served, obj, request.clock.now(), request.query.get("includeObject", ""))
    await request.respond(body, status, output.content_type)


async def respond_other(
    request: Request, resource: Resource, obj: dict[str, Any], status: int = 200, printer: Printer | None = None
) -> None:
    """Answer with an object that is of another kind than the resource (a Scale, a TokenRequest); it is shown as a Table where there is a printer."""
    output = request.output
    if output.plain:
        await request.respond(orjson.dumps(obj), status)
        return
    if output.transform == "Table":
        if printer is None:
            raise _no_table(resource)
        include = request.query.get("includeObject", "")
        metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        made = render.table_of(output, resource, printer, [obj], metadata, include, request.clock.now())
        await request.respond(orjson.dumps(made), status)
        return
    shown = render.partial(output, obj) if output.transform else obj
    await request.respond(render.serialize(output, shown), status, output.content_type)


def _no_table(resource: Resource) -> errors.ApiError:
    """406: what is not kept has no columns."""
    message = f"the resource {resource.qualified} does not support being converted to a Table"
    return errors.failure(406, "NotAcceptable", message)


def is_dry_run(request: Request, options: dict[str, Any] | None = None) -> bool:
    """Whether nothing is to be written. Raises 422 for a value that nobody knows."""
    values = [request.query["dryRun"]] if "dryRun" in request.query else list((options or {}).get("dryRun") or [])
    if any(value != "All" for value in values if value):
        shown = ",".join(map(str, values))
        error = errors.FieldError(errors.NOT_SUPPORTED, "dryRun", shown, 'supported values: "All"')
        raise errors.invalid(options_kind(request), "meta.k8s.io", "", [error])
    return bool(values and values[0])


def options_kind(request: Request) -> str:
    """What the options of this write are called, as an object."""
    kinds = {"create": "CreateOptions", "patch": "PatchOptions", "delete": "DeleteOptions", "deletecollection": "DeleteOptions"}
    return kinds.get(request.verb, "UpdateOptions")


def manager_of(request: Request) -> str:
    """The field manager: as given, else the User-Agent up to its first slash. Raises 422."""
    given = request.query.get("fieldManager", "")
    if given:
        wrong = []
        if len(given.encode()) > _LONGEST_MANAGER:
            wrong.append(errors.too_long_value("fieldManager", _LONGEST_MANAGER))
        if not given.isprintable():
            at, char = next((at, each) for at, each in enumerate(given) if not each.isprintable())
            why = f"should only contain printable characters (invalid rune: {ord(char):#x} at {at})"
            wrong.append(errors.invalid_value("fieldManager", given, why))
        if wrong:
            raise errors.invalid(options_kind(request), "meta.k8s.io", "", wrong)
        return given
    return request.header(b"user-agent").partition("/")[0][:_LONGEST_MANAGER] or "unknown"
