"""A custom resource's schema as clients read it: the definition's own, with what every object has.

OpenAPI v3 takes a structural schema nearly as it is. (:mod:`kubeling.api.openapi.version2` makes version 2 of it.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
_API_VERSION: Json = {
    "type": "string",
    "description": "Version of the schema that this object is written in, such as apps/v1: the group, a slash and the version.",
}
_KIND: Json = {"type": "string", "description": "Kind of the object, in CamelCase. It cannot be changed."}
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"


def object_schema(schema: Mapping[str, Any] | None, kind: str, reference: str) -> Json:
    """The component of a kind. `reference` is what references begin with (`#/components/schemas/`)."""
    given: Mapping[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    body = _node(given if schema is None else schema, reference)
    body["properties"] = {**(body.get("properties") or {}), **_identity(reference)}
    body.setdefault("description", f"A {kind}.")
    return body


def list_schema(kind: str, name: str, reference: str) -> Json:
    """The component of a list of them; `name` is the component of the kind."""
    return {
        "type": "object",
        "description": f"A list of {kind}.",
        "required": ["items"],
        "properties": {
            "apiVersion": _API_VERSION,
            "kind": _KIND,
            "metadata": {"allOf": [{"$ref": f"{reference}{_META}.ListMeta"}], "description": "Metadata of the list."},
            "items": {"type": "array", "items": {"$ref": f"{reference}{name}"}, "description": f"The objects, each a {kind}."},
        },
    }


def _identity(reference: str) -> Json:
    metadata = {"allOf": [{"$ref": f"{reference}{_META}.ObjectMeta"}], "description": "Metadata that every object has."}
    return {"apiVersion": _API_VERSION, "kind": _KIND, "metadata": metadata}


def _node(schema: Mapping[str, Any], reference: str) -> Json:
    body = {name: value for name, value in schema.items() if value is not None}
    if "properties" in body:
        body["properties"] = {name: _node(each, reference) for name, each in body["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(body.get(name), dict):
            body[name] = _node(body[name], reference)
    if body.get("x-kubernetes-embedded-resource"):
        body["properties"] = {**(body.get("properties") or {}), **_identity(reference)}
    return body
