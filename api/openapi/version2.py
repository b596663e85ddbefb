"""OpenAPI v2 (Swagger) out of the documents of version 3.

Version 2 knows neither alternatives nor null nor references with company: what it cannot say is left out, and where too much would be left out a value of any
shape remains. There is one document for everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

Json = dict[str, Any]
#: What version 2 does not have.
_ONLY_V3 = frozenset({"anyOf", "oneOf", "not", "nullable", "allOf"})
_METHODS = ("get", "put", "post", "delete", "patch")


def document(documents: Iterable[bytes]) -> Json:
    """The document; `documents` are those of version 3."""
    paths: Json = {}
    definitions: Json = {}
    info: Json = {"title": "Kubernetes", "version": ""}
    for raw in documents:
        found = orjson.loads(raw)
        info = found["info"]
        for name, schema in found["components"]["schemas"].items():
            # Of a shared message, the one that is marked with more kinds says more.
            marks = len(schema.get("x-kubernetes-group-version-kind") or ())
            if name not in definitions or marks > len(definitions[name].get("x-kubernetes-group-version-kind") or ()):
                definitions[name] = _schema(schema)
        for path, item in found["paths"].items():
            paths[path] = _item(item)
    return {
        "swagger": "2.0",
        "info": info,
        "paths": dict(sorted(paths.items())),
        "definitions": dict(sorted(definitions.items())),
    }


def _schema(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    described = {name: schema[name] for name in ("description", "default") if name in schema}
    all_of = schema.get("allOf")
    if all_of and len(all_of) == 1 and "$ref" in all_of[0]:
        return {**described, **_reference(all_of[0])}
    if "$ref" in schema:
        return {**described, **_reference(schema)}
    open_ended = schema.get("nullable") or schema.get("x-kubernetes-int-or-string")
    out: Json = {}
    for name, value in schema.items():
        if name in _ONLY_V3 or (name == "type" and open_ended):
            continue
        if name == "properties":
            out[name] = {key: _schema(each) for key, each in value.items()}
        elif name in ("items", "additionalProperties"):
            out[name] = _schema(value)
        else:
            out[name] = value
    if schema.get("x-kubernetes-int-or-string") or "oneOf" in schema:
        # As upstream does for its own types of this kind.
        out |= {"type": "string"} if schema.get("format") != "int-or-string" else {"type": "string", "format": "int-or-string"}
    return out


def _reference(schema: Json) -> Json:
    return {"$ref": schema["$ref"].replace("#/components/schemas/", "#/definitions/")}


def _item(item: Json) -> Json:
    out: Json = {}
    if item.get("parameters"):
        out["parameters"] = [_parameter(each) for each in item["parameters"]]
    for method in _METHODS:
        if method in item:
            out[method] = _operation(item[method])
    return out


def _operation(operation: Json) -> Json:
    out = {name: value for name, value in operation.items() if name not in ("parameters", "requestBody", "responses")}
    parameters = [_parameter(each) for each in operation.get("parameters") or ()]
    body = operation.get("requestBody")
    if body:
        content = body["content"]
        parameters.append(
            {
                "name": "body",
                "in": "body",
                "required": bool(body.get("required")),
                "schema": _schema(next(iter(content.values()))["schema"]),
            }
        )
        out["consumes"] = list(content)
    if parameters:
        out["parameters"] = parameters
    out["produces"] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
    out["responses"] = {code: _response(each) for code, each in operation["responses"].items()}
    return out


def _response(response: Json) -> Json:
    out: Json = {"description": response["description"]}
    for content in (response.get("content") or {}).values():
        out["schema"] = _schema(content["schema"])
        break
    return out


def _parameter(parameter: Json) -> Json:
    out = {name: value for name, value in parameter.items() if name != "schema"}
    return {**out, **(parameter.get("schema") or {})}
