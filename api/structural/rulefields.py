"""Do the fields that a rule names exist? What the type checker of CEL cannot know, for which an object is of any shape, is looked up in the schema.

The checked expression is walked from `self` and `oldSelf` down: through fields, indices, and the variables of comprehensions. Where the trail is lost (the value
of a function, say) nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kubeling.api.structural.celvalues import escaped
from kubeling.api.structural.node import Node

#: The numbers of cel.expr.Expr's members.
_ID, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 2, 4, 5, 6, 7, 8, 9
_MAX_DEPTH = 250
_TEXT = Node({}, type="string")
_METADATA = Node({}, type="object", properties={"name": _TEXT, "generateName": _TEXT})


class Undefined(NamedTuple):
    """A field that is not there: its name, and where in the source it stands (offset in characters, -1 where that is not known)."""

    name: str
    offset: int


@dataclass(slots=True)
class _Scope:
    """What the variables are; `found` and `positions` are shared by all scopes."""

    names: Mapping[str, Node | None]
    positions: Mapping[int, int]
    found: list[Undefined] = field(default_factory=list)
    depth: int = 0

    def inner(self, **names: Node | None) -> _Scope:
        return replace(self, names={**self.names, **names}, depth=self.depth + 1)


def undefined_fields(checked: bytes, node: Node, *, top: bool, old: str) -> list[Undefined]:
    """The fields of `self`, whose schema is `node`, that an expression names and that do not exist.

    `checked` is a serialized cel.expr.CheckedExpr; `old` is the name of the old value in it. `top`: the schema is of a whole object.
    """
    own = node
    if top or node.embedded:
        properties = {**node.properties, "apiVersion": _TEXT, "kind": _TEXT, "metadata": _METADATA}
        own = replace(node, properties=properties)
    info = _first(checked, 5)
    positions = dict(_position(each) for number, each in members(info) if number == 4 and isinstance(each, bytes))
    scope = _Scope({"self": own, old: own}, positions)
    _walk(_first(checked, 4), scope)
    return list(dict.fromkeys(scope.found))


def _position(entry: bytes) -> tuple[int, int]:
    values = {number: value for number, value in members(entry) if isinstance(value, int)}
    return values.get(1, 0), values.get(2, 0)


def _walk(data: bytes, scope: _Scope) -> Node | None:
    """The schema of an expression's value, None where it is not known."""
    if scope.depth > _MAX_DEPTH:
        return None
    identity = -1
    for number, value in members(data):
        if number == _ID and isinstance(value, int):
            identity = value
        elif isinstance(value, bytes):
            match number:
                case 4:
                    return scope.names.get(_text(value, 1))
                case 5:
                    return _member(_walk(_first(value, 1), scope.inner()), _text(value, 2), identity, scope)
                case 6:
                    return _call(value, identity, scope)
                case 7:
                    for _, each in _parts(value, 1):
                        _walk(each, scope.inner())
                    return None
                case 8:
                    for _, entry in _parts(value, 2):
                        for _, each in _parts(entry, 3, 4):
                            _walk(each, scope.inner())
                    return None
                case 9:
                    return _comprehension(value, scope)
    return None


def _member(owner: Node | None, name: str, identity: int, scope: _Scope) -> Node | None:
    if owner is None or owner.preserve_unknown or owner.additional_any:
        return None
    if owner.additional is not None:
        return owner.additional
    if owner.type != "object":
        return None
    for each, inner in owner.properties.items():
        if escaped(each) == name:
            return inner
    scope.found.append(Undefined(name, scope.positions.get(identity, -1)))
    return None


def _call(data: bytes, identity: int, scope: _Scope) -> Node | None:
    function = _text(data, 2)
    arguments = [each for _, each in _parts(data, 3)]
    target = _first(data, 1)
    if target:
        _walk(target, scope.inner())
    if function == "_?._" and len(arguments) == 2:
        owner = _walk(arguments[0], scope.inner())
        _member(owner, _text(_first(arguments[1], 3), 6), identity, scope)
        return None
    found = [_walk(each, scope.inner()) for each in arguments]
    if function == "_[_]" and found and found[0] is not None:
        return found[0].items or found[0].additional
    if function == "_?_:_" and len(found) == 3:
        return found[1] if found[1] is found[2] else None
    return None


def _comprehension(data: bytes, scope: _Scope) -> Node | None:
    over = _walk(_first(data, 2), scope.inner())
    first, second = _text(data, 1), _text(data, 8)
    names: dict[str, Node | None] = {first: None, _text(data, 3): _walk(_first(data, 4), scope.inner())}
    if over is not None and over.items is not None:
        names[second or first] = over.items
    elif over is not None and second:
        names[second] = over.additional
    inside = scope.inner(**names)
    for number in (5, 6):
        _walk(_first(data, number), inside)
    return _walk(_first(data, 7), inside)


# -- the wire --------------------------------------------------------------------------------------------------------------------------


def members(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The members of a protobuf message: numbers, and messages or text as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
            case 2:
                size, at = _varint(data, at)
                yield tag >> 3, data[at : at + size]
                at += size
            case 1:
                at += 8
            case _:
                at += 4


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _parts(data: bytes, *wanted: int) -> list[tuple[int, bytes]]:
    return [(number, value) for number, value in members(data) if number in wanted and isinstance(value, bytes)]


def _first(data: bytes, wanted: int) -> bytes:
    return next((value for _, value in _parts(data, wanted)), b"")


def _text(data: bytes, wanted: int) -> str:
    return _first(data, wanted).decode("utf-8", "replace")
