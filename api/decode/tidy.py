"""Takes out of an object what Go's decoder would ignore: nulls and fields that the kind does not have.

null means absent. Only where something must stand, as an item of a list or the value of a map, it becomes the zero value. Values of the wrong type
are left as they are; the door will find them.
"""

from __future__ import annotations

from typing import Any

from kubeling.api.builtin import SCHEMA_MESSAGE, message
from kubeling.api.decode.body import MAX_PROBLEMS
from kubeling.api.schema import Schema

#: Where a schema may stand, or something else.
_SCHEMAS = frozenset({"schema-or-list", "schema-or-bool"})
_ZERO: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}


def tidy(schema: Schema, value: Any, problems: list[str], path: str = "") -> Any:
    """A copy of `value` without nulls and unknown fields. `problems` gets `unknown field "…"` for each of the latter, in their order."""
    if value is None:
        return _zero(schema)
    match schema.type:
        case "object" if type(value) is dict:
            return _object(schema, value, problems, path)
        case "map" if type(value) is dict and schema.element is not None:
            element = schema.element
            return {key: tidy(element, item, problems, f"{path}.{key}") for key, item in value.items()}
        case "list" if type(value) is list and schema.element is not None:
            element = schema.element
            return [tidy(element, item, problems, f"{path}[{index}]") for index, item in enumerate(value)]
        case "any" if type(value) is dict and schema.format in _SCHEMAS:
            return tidy(message(SCHEMA_MESSAGE), value, problems, path)
    return value


def _object(schema: Schema, value: dict[str, Any], problems: list[str], path: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    fields = schema.fields
    for key, item in value.items():
        field = fields.get(key)
        at = f"{path}.{key}" if path else key
        if field is None:
            if schema.preserve_unknown:
                kept[key] = item
            elif len(problems) < MAX_PROBLEMS:
                problems.append(f'unknown field "{at}"')
        elif item is not None:
            target = field.schema
            inner = target.type in ("object", "map", "list") or target.format in _SCHEMAS
            kept[key] = tidy(target, item, problems, at) if inner else item
    return kept


def _zero(schema: Schema) -> Any:
    if schema.type in ("object", "map"):
        return {}
    if schema.type == "list":
        return []
    if schema.format in ("quantity",):
        return "0"
    if schema.format == "int-or-string":
        return 0
    return _ZERO.get(schema.type)
