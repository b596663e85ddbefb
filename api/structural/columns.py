"""The columns of a custom resource's Table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson

from kubeling.api.meta import Object
from kubeling.api.printers.columns import NAME, Cells, Column, Printer, name
from kubeling.api.structural import jsonpath
from kubeling.api.structural.jsonpath import JsonPath
from kubeling.api.times import age

_AGE = {
    "name": "Age",
    "type": "date",
    "jsonPath": ".metadata.creationTimestamp",
    "description": "How long ago the object was created.",
}


def printer(columns: Iterable[dict[str, Any]] | None) -> Printer:
    """The printer for `additionalPrinterColumns`; without any, the age is shown."""
    chosen = list(columns or ()) or [_AGE]
    paths = [(each, jsonpath.parse(each["jsonPath"])) for each in chosen]

    def cells(obj: Object, now: datetime) -> Cells:
        return [name(obj), *(_cell(each, path, obj, now) for each, path in paths)]

    return Printer((NAME, *(_column(each) for each in chosen)), cells)


def _column(column: dict[str, Any]) -> Column:
    description = column.get("description") or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}"
    form, priority = column.get("format") or "", column.get("priority") or 0
    return Column(column["name"], description, column["type"], form, priority=priority)


def _cell(column: dict[str, Any], path: JsonPath, obj: Object, now: datetime) -> Any:
    """The value if it is of the column's type, else null, which kubectl shows as nothing. Of several values that a path leads to it is the first."""
    found = path.find(obj)
    if not found:
        return None
    value = found[0]
    match column["type"]:
        case "integer":
            if isinstance(value, float):
                return int(value)
            return value if type(value) is int else None
        case "number":
            return value if type(value) in (int, float) else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date":
            return _age(value, now)
    return _text(value)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _age(value: Any, now: datetime) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        return age(value, now)
    except ValueError:
        return "<invalid>"
