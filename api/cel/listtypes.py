"""Lists that are sets or maps by keys, in CEL (KEP-2876): equal in whatever order, and `+` is a union, or a merge by keys.

The evaluator knows lists alone. So where the type of an operand says that it holds such lists, the compiled expression is changed: `a == b` compares the canonical forms of both, and
`a + b` becomes a call of :func:`merged`. What the lists are is written into the expression as a shape in JSON: `{"set": shape}`, `{"map": [keys], "of": shape}`,
`{"list": shape}`, `{"values": shape}` and `{"fields": {name: shape}}`, where a shape may be null.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from kubeling.api.cel import wire
from kubeling.api.cel.rewrite import call_of, renamed
from kubeling.api.cel.values import Function

CANONICAL, MERGED = "@canonical", "@merged"
Shape = Mapping[str, Any]


@lru_cache(maxsize=1024)
def _shape(text: str) -> Shape:
    found: Shape = orjson.loads(text)
    return found


def _canonical(value: Any, text: str) -> Any:
    return _ordered(value, _shape(text))


def _ordered(value: Any, shape: Shape | None) -> Any:
    """The value with its sets and keyed lists in an order that does not depend on the one they had."""
    if shape is None:
        return value
    if isinstance(value, list):
        if "set" in shape:
            return sorted((_ordered(each, shape["set"]) for each in value), key=_rank)
        if "map" in shape:
            return sorted((_ordered(each, shape["of"]) for each in value), key=lambda each: _keys(each, shape["map"]))
        return [_ordered(each, shape.get("list")) for each in value]
    if isinstance(value, dict):
        fields: Shape = shape.get("fields") or {}
        return {name: _ordered(each, fields.get(name, shape.get("values"))) for name, each in value.items()}
    return value


def _rank(value: Any) -> tuple[str, str]:
    """An order over all values in which equal ones are equal; numbers are equal whatever their type."""
    if isinstance(value, bool) or value is None:
        return (type(value).__name__, str(value))
    if isinstance(value, int | float):
        return ("number", repr(float(value)))
    if isinstance(value, dict):
        return ("map", repr(sorted((name, _rank(each)) for name, each in value.items())))
    if isinstance(value, list):
        return ("list", repr([_rank(each) for each in value]))
    return (type(value).__name__, repr(value))


def _keys(item: Any, names: list[str]) -> list[tuple[str, str]]:
    return [_rank(item.get(name)) for name in names] if isinstance(item, dict) else [_rank(item)]


def _merged(left: list[Any], right: list[Any], text: str) -> list[Any]:
    """The items of the left in their places, then what only the right has. Where both have an item with the same keys it is the right's."""
    shape = _shape(text)
    if "map" not in shape:
        seen = {_rank(_ordered(each, shape["set"])) for each in left}
        return [*left, *(each for each in right if _rank(_ordered(each, shape["set"])) not in seen)]
    names = shape["map"]
    newer = {tuple(_keys(each, names)): each for each in right}
    made = [newer.pop(tuple(_keys(each, names)), each) for each in left]
    return [*made, *newer.values()]


FUNCTIONS: list[Function] = [
    (CANONICAL, False, ("any", "string"), "dyn", _canonical),
    (MERGED, False, ("list", "list", "string"), "list", _merged),
]


class Change(NamedTuple):
    """What becomes of one call: its operands are put into canonical form, or (`merge`) it becomes a call of MERGED."""

    shape: Shape
    merge: bool

    def edit(self, call: bytes) -> bytes:
        """The call, changed."""
        shape = wire.piece(wire.CONST, wire.piece(6, orjson.dumps(self.shape)))
        if self.merge:
            return renamed(call, MERGED) + wire.piece(3, shape)
        arguments = (wire.piece(wire.CALL, call_of(CANONICAL, each, shape)) for _, each in wire.parts(call, 3))
        return call_of(wire.text(call, 2), *arguments)
