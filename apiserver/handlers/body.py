"""Request bodies: JSON, YAML or protobuf to a dict."""

from __future__ import annotations

from typing import Any

import orjson

from kubeling.api import errors
from kubeling.apiserver.negotiate import JSON, PROTOBUF, YAML
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request


def media_type(request: Request) -> str:
    """The Content-Type without parameters."""
    return request.header(b"content-type").partition(";")[0].strip().lower()


async def read_object(request: Request, served: Served) -> dict[str, Any]:
    raw = await request.body()
    try:
        obj = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise errors.bad_request(f"the object provided is unrecognized: {error}") from error
    return check_object(request, served, obj)


def check_object(request: Request, served: Served, obj: Any) -> dict[str, Any]:
    if not isinstance(obj, dict):
        raise errors.bad_request("the object provided is no object")
    obj["apiVersion"] = served.resource.group_version
    obj["kind"] = served.resource.kind
    return obj


async def read_options(request: Request) -> dict[str, Any]:
    """The DeleteOptions of a DELETE: from the body, and from the query what the body does not say."""
    raw = await request.body()
    options: Any = orjson.loads(raw) if raw.strip() else {}
    if not isinstance(options, dict):
        raise errors.bad_request("DeleteOptions must be an object")
    return options
