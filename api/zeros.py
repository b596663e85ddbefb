"""Takes out of an object what Go's encoder leaves out: zero values that say no more than silence does.

Most fields of the built-in types are marked `omitempty` in Go, so `false`, `0` and `""` never come back from a kube-apiserver, whoever wrote them: a
Deployment of no replicas has no `status.replicas`. They stay where the field is a pointer, where it is required, and where the type says that it is
always shown. So do empty messages, since Go shows structs in any case; empty lists and maps, which Go would leave out, stay here too.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from kubeling.api.builtin import SCHEMA_MESSAGE, message
from kubeling.api.schema import Field, Schema

#: Where a schema may stand, or something simpler.
_SCHEMAS = frozenset({"schema-or-list", "schema-or-bool"})
_SCALARS = frozenset({"string", "integer", "number", "boolean"})


class _Plan(NamedTuple):
    """Of one message: the fields that go when they are zero, and those in which messages are to be found."""

    silent: frozenset[str]
    inner: dict[str, Schema]


def drop_zeros(schema: Schema, obj: dict[str, Any]) -> None:
    """Do so with an object of a built-in kind, in place; it is well formed, as :func:`kubeling.api.decode.decode` gives it."""
    silent, inner = _plan(schema.name)
    dropped = []
    for name, value in obj.items():
        if not value:
            if name in silent:
                dropped.append(name)
        elif name in inner:
            _walk(inner[name], value)
    for name in dropped:
        del obj[name]


def _walk(schema: Schema, value: Any) -> None:
    if type(value) is dict:
        if schema.type == "map" and schema.element is not None:
            for each in value.values():
                _walk(schema.element, each)
        else:
            drop_zeros(schema, value)
    elif type(value) is list and schema.element is not None:
        for each in value:
            _walk(schema.element, each)


@cache
def _plan(name: str) -> _Plan:
    schema = message(name)
    silent = {field.name for field in schema.fields.values() if _is_silent(field)}
    inner = {field.name: found for field in schema.fields.values() if (found := _with_messages(field.schema)) is not None}
    return _Plan(frozenset(silent), inner)


def _is_silent(field: Field) -> bool:
    return not (field.pointer or field.required or field.always) and field.schema.type in _SCALARS


def _with_messages(schema: Schema) -> Schema | None:
    """The schema itself, where messages are within; that of schemas where one may stand."""
    if schema.format in _SCHEMAS:
        return message(SCHEMA_MESSAGE)
    innermost = schema
    while innermost.type in ("list", "map") and innermost.element is not None:
        innermost = innermost.element
    return schema if innermost.type == "object" else None
