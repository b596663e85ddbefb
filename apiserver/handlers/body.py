"""Request bodies: JSON, YAML or protobuf to a checked dict.

What is odd about a body (unknown and duplicate fields) is refused, told in a Warning header, or passed over, as `fieldValidation` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubeling.api import errors
from kubeling.api.decode import decode, loads_json
from kubeling.apiserver.handlers.common import options_kind
from kubeling.apiserver.negotiate import JSON, PROTOBUF, YAML
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request

Object = dict[str, Any]
_FORMS = {
    "": "json",
    JSON: "json",
    "text/json": "json",
    "text/plain": "json",
    "application/octet-stream": "json",
    YAML: "yaml",
    "text/yaml": "yaml",
    PROTOBUF: "protobuf",
}
_MODES = ("Ignore", "Strict", "Warn")
_PROTOBUF_MAGIC = b"k8s\0"


def media_type(request: Request) -> str:
    """The Content-Type without parameters."""
    return request.header(b"content-type").partition(";")[0].strip().lower()


def field_validation(request: Request) -> str:
    """`Ignore`, `Warn` or `Strict`. Raises 422 for anything else."""
    mode = request.query.get("fieldValidation", "") or "Warn"
    if mode not in _MODES:
        wrong = errors.unsupported_value("fieldValidation", mode, _MODES)
        raise errors.invalid(options_kind(request), "meta.k8s.io", "", [wrong])
    return mode


async def read_object(request: Request, served: Served) -> Object:
    """An object of the kind that is served here. Raises 400, 413, 415."""
    if served.is_builtin:
        return await read_kind(request, served.resource.group_version, served.resource.kind)
    mode = field_validation(request)
    form = _FORMS.get(media_type(request))
    raw = await request.body()
    if form is None or form == "protobuf" or raw.startswith(_PROTOBUF_MAGIC):
        raise errors.unsupported_media_type((JSON, YAML))
    obj, duplicates = parse(raw, form, mode != "Ignore")
    return check_served(request, served, obj, duplicates)


async def read_kind(request: Request, api_version: str, kind: str) -> Object:
    """An object of a kind that is built in."""
    mode = field_validation(request)
    form = _FORMS.get(media_type(request))
    if form is None:
        raise errors.unsupported_media_type((JSON, YAML, PROTOBUF))
    raw = await request.body()
    if form == "protobuf" or raw.startswith(_PROTOBUF_MAGIC):
        return from_protobuf(raw, api_version, kind)
    obj, duplicates = parse(raw, form, mode != "Ignore")
    return check_kind(request, api_version, kind, obj, duplicates)


def parse(raw: bytes, form: str, find_duplicates: bool) -> tuple[Any, list[str]]:
    """The value of a JSON or YAML body, and what stands twice in it."""
    if form == "yaml":
        return from_yaml(raw), []
    return loads_json(raw, duplicates=find_duplicates)


def check_object(request: Request, served: Served, obj: Any) -> Object:
    """What a patch made, as an object of its kind."""
    return check_served(request, served, obj, ())


def check_served(request: Request, served: Served, obj: Any, duplicates: Any) -> Object:
    """Check that `obj` is of the served kind; warn of what is odd about it, or refuse."""
    return _checked(request, served.resource.group_version, served.resource.kind, obj, duplicates, served.decode)


def check_kind(request: Request, api_version: str, kind: str, obj: Any, duplicates: Any) -> Object:
    """The same for a kind that is built in."""

    def as_kind(value: Any, *, strict: bool, duplicates: Any) -> tuple[Object, list[str]]:
        return decode(value, api_version, kind, strict=strict, duplicates=duplicates)

    return _checked(request, api_version, kind, obj, duplicates, as_kind)


Decoder = Callable[..., tuple[Object, list[str]]]


def _checked(request: Request, api_version: str, kind: str, obj: Any, duplicates: Any, decoder: Decoder) -> Object:
    mode = field_validation(request)
    if isinstance(obj, dict):
        check_names(obj, api_version, kind)
    checked, problems = decoder(obj, strict=mode == "Strict", duplicates=duplicates)
    if mode == "Warn":
        for problem in problems:
            request.warn(problem)
    checked["apiVersion"], checked["kind"] = api_version, kind
    return checked


def check_names(obj: Object, api_version: str, kind: str) -> None:
    """What the body says of itself must be what the URL says, or nothing."""
    given_kind, given_version = obj.get("kind") or kind, obj.get("apiVersion") or api_version
    if given_kind != kind:
        version = str(given_version).rpartition("/")[2]
        raise errors.bad_request(
            f'{given_kind} in version "{version}" cannot be handled as a {kind}: the kind in the data is {given_kind}'
        )
    if given_version != api_version:
        why = f"the API version in the data ({given_version}) does not match the expected API version ({api_version})"
        raise errors.bad_request(why)


def from_protobuf(raw: bytes, api_version: str, kind: str) -> Object:
    """A protobuf body, checked against the kind. Raises 400."""
    from kubeling.api import protobuf

    obj = protobuf.decode(raw)
    if kind == "DeleteOptions":
        obj.pop("apiVersion", None)
    check_names(obj, api_version, kind)
    checked, _ = decode(obj, api_version, kind)
    checked["apiVersion"], checked["kind"] = api_version, kind
    return checked


def from_yaml(raw: bytes) -> Any:
    """A YAML body as JSON would have it: keys are text, times stay as they are written. Raises 400."""
    from kubeling.apiserver.handlers import yaml_body

    return yaml_body.load(raw)


async def read_options(request: Request) -> Object:
    """The DeleteOptions of a DELETE: from the body, and from the query what the body does not say. Raises 400, 422."""
    raw = await request.body()
    form = _FORMS.get(media_type(request), "json")
    options: Object = {}
    if raw.startswith(_PROTOBUF_MAGIC):
        options = from_protobuf(raw, "v1", "DeleteOptions")
    elif raw.strip():
        value, _ = parse(raw, form, False)
        options, _ = decode(value, "v1", "DeleteOptions")
    query = request.query
    if "gracePeriodSeconds" in query:
        try:
            options.setdefault("gracePeriodSeconds", int(query["gracePeriodSeconds"]))
        except ValueError:
            text = query["gracePeriodSeconds"]
            why = f'strconv.ParseInt: parsing "{text}": invalid syntax'
            raise errors.bad_request(why) from None
    if "propagationPolicy" in query:
        options.setdefault("propagationPolicy", query["propagationPolicy"])
    if "orphanDependents" in query:
        options.setdefault("orphanDependents", request.flag("orphanDependents"))
    if "dryRun" in query:
        options.setdefault("dryRun", [query["dryRun"]])
    return options
