"""Objects of any kind, made up from its schema by a seeded random source."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any

import pytest

from kubeling.api import builtin
from kubeling.api.schema import Field, Schema

MakeObject = Callable[..., dict[str, Any]]


def every_kind() -> list[tuple[str, str]]:
    """apiVersion and kind of everything that can be sent on its own."""
    return [
        (api_version, name.rpartition(".")[2])
        for api_version, package in builtin.GROUP_VERSIONS.items()
        for name in builtin.messages(package)
        if builtin.is_kind(builtin.message(name))
    ]


@pytest.fixture
def make_object() -> MakeObject:
    def make(api_version: str, kind: str, seed: int, fill: float = 0.3) -> dict[str, Any]:
        found = _object(builtin.schema_of(api_version, kind), random.Random(f"{api_version}/{kind}/{seed}"), fill, 0)
        return {**found, "apiVersion": api_version, "kind": kind}

    return make


def _object(schema: Schema, source: random.Random, fill: float, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in schema.fields.values():
        if field.number and source.random() < (fill if depth < 6 else 0.1):
            value = _value(field.schema, source, fill, depth, field)
            if value not in ({}, []) or (value == {} and field.pointer and field.schema.type == "object"):
                found[field.name] = value
    return found


def _value(schema: Schema, source: random.Random, fill: float, depth: int, field: Field | None = None) -> Any:
    match schema.type:
        case "object":
            return _object(schema, source, fill, depth + 1)
        case "list" if schema.element is not None:
            return [_value(schema.element, source, fill, depth + 1) for _ in range(source.randint(1, 2))]
        case "map" if schema.element is not None:
            return {_word(source): _value(schema.element, source, fill, depth + 1) for _ in range(source.randint(1, 2))}
        case "boolean":
            return True if field is None or not field.pointer else source.random() < 0.5
        case "integer":
            limit = 2**31 if schema.format == "int32" else 2**63
            zero = field is not None and (field.pointer or field.required) and source.random() < 0.2
            return 0 if zero else source.choice([source.randrange(1, limit), -source.randrange(1, limit)])
        case "number":
            return source.choice([0.5, -2.25, 1e300])
    return _scalar(schema, source, field)


def _scalar(schema: Schema, source: random.Random, field: Field | None) -> Any:
    match schema.format:
        case "byte":
            return base64.b64encode(source.randbytes(source.randint(1, 40))).decode()
        case "date-time":
            return f"20{source.randint(10, 99)}-0{source.randint(1, 9)}-11T0{source.randint(0, 9)}:59:07Z"
        case "micro-time":
            return f"2026-11-20T23:54:00.{source.randint(1, 999999):06}Z"
        case "duration":
            return source.choice(["5m0s", "1h30m0s", "250ms", "-2s"])
        case "quantity":
            return source.choice(["500m", "64Mi", "1", "12e6", "0", "1500", "-3"])
        case "int-or-string":
            return source.choice([8080, "http", "25%", -1])
        case "raw":
            return {"apiVersion": "v1", "kind": "Thing", "x": [1, None, {"y": "ü"}]}
        case "fields-v1":
            return {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}
        case "schema-or-list":
            return source.choice([{"type": "string"}, [{"type": "integer"}, {"maximum": 1.5}]])
        case "schema-or-bool":
            return source.choice([True, False, {"type": "string"}])
        case "schema-or-strings":
            return source.choice([["a", "b"], {"type": "string"}])
    return "" if field is not None and field.pointer and source.random() < 0.1 else _word(source)


def _word(source: random.Random) -> str:
    return "".join(source.choices("abcdefghijklmnopqrstuvwxyzäß-./ ", k=source.randint(1, 12)))
