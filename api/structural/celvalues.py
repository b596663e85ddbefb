"""Values of an object as CEL sees them: by the schema, numbers are doubles, times are timestamps, and names are escaped.

Of the metadata of an object only its names can be seen.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from kubeling.api import times
from kubeling.api.structural.node import Node

_RESERVED = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function",
        "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip
_PARTS = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_SPECIAL = re.compile(r"__|[.\-/]")


@lru_cache(maxsize=4096)
def escaped(name: str) -> str:
    """What a property is called in CEL."""
    if name in _RESERVED:
        return f"__{name}__"
    return _SPECIAL.sub(lambda found: _PARTS[found.group()], name)


@lru_cache(maxsize=4096)
def spellings(name: str) -> tuple[str, ...]:
    """All that a property may be called in CEL: a reserved word also goes as it is."""
    return (escaped(name), name) if name in _RESERVED else (escaped(name),)


def to_cel(value: Any, node: Node | None, *, top: bool = False) -> Any:
    """The value, for the evaluator."""
    if type(value) is dict:
        return _map(value, node, top)
    if type(value) is list:
        items = node.items if node is not None else None
        return [to_cel(each, items) for each in value]
    if node is None or value is None:
        return value
    if type(value) is str:
        return _text(value, node)
    if node.type == "number" and type(value) is int:
        return float(value)
    if node.type == "integer" and type(value) is float:
        return int(value)
    return value


def _map(value: dict[str, Any], node: Node | None, top: bool) -> dict[str, Any]:
    if node is None:
        return {name: to_cel(each, None) for name, each in value.items()}
    if not node.properties and not top and not node.embedded:
        # A map: its keys are data.
        return {name: to_cel(each, node.additional) for name, each in value.items()}
    found: dict[str, Any] = {}
    for name, item in value.items():
        if (top or node.embedded) and name == "metadata":
            metadata = item if isinstance(item, dict) else {}
            found[name] = {key: metadata[key] for key in ("name", "generateName") if key in metadata}
        else:
            made = to_cel(item, node.member(name))
            for spelling in spellings(name):
                found[spelling] = made
    return found


def _text(value: str, node: Node) -> Any:
    convert = _FORMATS.get(node.format)
    if convert is None:
        return value
    try:
        return convert(value)
    except (ValueError, OverflowError):
        # The schema refuses it; the rules need not.
        return value


def _time(text: str) -> Any:
    from google.protobuf.timestamp_pb2 import Timestamp

    at = times.parse_time(text) if len(text) > len("2006-01-02") else datetime.fromisoformat(text).replace(tzinfo=UTC)
    found = Timestamp()
    found.FromDatetime(at)
    return found


def _duration(text: str) -> Any:
    from google.protobuf.duration_pb2 import Duration

    length: timedelta = times.parse_duration(text)
    found = Duration()
    found.FromTimedelta(length)
    return found


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_FORMATS: dict[str, Callable[[str], Any]] = {"date-time": _time, "date": _time, "duration": _duration, "byte": _bytes}
