"""Do the fields that a rule names exist? What the type checker of CEL cannot know, for which an object is of any shape, is looked up in the schema.

The checked expression is walked from `self` and `oldSelf` down: through fields, indices, and the variables of comprehensions. Where the trail is lost (the value
of a function, say) nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kubeling.api.cel import wire
from kubeling.api.structural.celvalues import escaped
from kubeling.api.structural.node import Node

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
    info = wire.first(checked, wire.SOURCE)
    positions = dict(_position(each) for number, each in wire.members(info) if number == 4 and isinstance(each, bytes))
    scope = _Scope({"self": own, old: own}, positions)
    _walk(wire.first(checked, wire.EXPRESSION), scope)
    return list(dict.fromkeys(scope.found))


def _position(entry: bytes) -> tuple[int, int]:
    values = {number: value for number, value in wire.members(entry) if isinstance(value, int)}
    return values.get(1, 0), values.get(2, 0)


def _walk(data: bytes, scope: _Scope) -> Node | None:
    """The schema of an expression's value, None where it is not known."""
    if scope.depth > wire.MAX_DEPTH:
        return None
    identity = -1
    for number, value in wire.members(data):
        if number == wire.ID and isinstance(value, int):
            identity = value
        elif isinstance(value, bytes):
            match number:
                case wire.IDENT:
                    return scope.names.get(wire.text(value, 1))
                case wire.SELECT:
                    return _member(_walk(wire.first(value, 1), scope.inner()), wire.text(value, 2), identity, scope)
                case wire.CALL:
                    return _call(value, identity, scope)
                case wire.LIST:
                    for _, each in wire.parts(value, 1):
                        _walk(each, scope.inner())
                    return None
                case wire.STRUCT:
                    for _, entry in wire.parts(value, 2):
                        for _, each in wire.parts(entry, 3, 4):
                            _walk(each, scope.inner())
                    return None
                case wire.COMPREHENSION:
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
    function = wire.text(data, 2)
    arguments = [each for _, each in wire.parts(data, 3)]
    target = wire.first(data, 1)
    if target:
        _walk(target, scope.inner())
    if function == "_?._" and len(arguments) == 2:
        owner = _walk(arguments[0], scope.inner())
        _member(owner, wire.text(wire.first(arguments[1], 3), 6), identity, scope)
        return None
    found = [_walk(each, scope.inner()) for each in arguments]
    if function == "_[_]" and found and found[0] is not None:
        return found[0].items or found[0].additional
    if function == "_?_:_" and len(found) == 3:
        return found[1] if found[1] is found[2] else None
    return None


def _comprehension(data: bytes, scope: _Scope) -> Node | None:
    over = _walk(wire.first(data, 2), scope.inner())
    first, second = wire.text(data, 1), wire.text(data, 8)
    names: dict[str, Node | None] = {first: None, wire.text(data, 3): _walk(wire.first(data, 4), scope.inner())}
    if over is not None and over.items is not None:
        names[second or first] = over.items
    elif over is not None and second:
        names[second] = over.additional
    inside = scope.inner(**names)
    for number in (5, 6):
        _walk(wire.first(data, number), inside)
    return _walk(wire.first(data, 7), inside)
