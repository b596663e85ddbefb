"""Do the fields that a rule names exist, and what does it compare? What the type checker of CEL cannot know, for which an object is of any shape, is looked up in the schema.

The checked expression is walked from `self` and `oldSelf` down: through fields, indices, optionals, and the variables of comprehensions. Where the trail is lost (the value
of a function, say) nothing is claimed. Of `==`, `!=` and `+` it is noted where their left side holds sets or lists that are maps by keys, since those compare and add up in their own way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kubeling.api.cel import wire
from kubeling.api.cel.listtypes import Change, Shape
from kubeling.api.structural.celvalues import escaped, spellings
from kubeling.api.structural.node import Node

#: What `oldSelf` is called where it is handed in from outside, to be made an optional in the expression.
OLD = "__old"
_TEXT = Node({}, type="string")
_METADATA = Node({}, type="object", properties={"name": _TEXT, "generateName": _TEXT})


class Undefined(NamedTuple):
    """A field that is not there: its name, and where in the source it stands (offset in characters, -1 where that is not known)."""

    name: str
    offset: int


class Survey(NamedTuple):
    """What was found: fields that are not there, and calls that treat lists by their types, by the numbers of the calls."""

    undefined: list[Undefined]
    changes: dict[int, Change]


@dataclass(slots=True)
class _Scope:
    """What the variables are; the rest is shared by all scopes."""

    names: Mapping[str, Node | None]
    positions: Mapping[int, int]
    found: list[Undefined] = field(default_factory=list)
    changes: dict[int, Change] = field(default_factory=dict)
    depth: int = 0

    def inner(self, **names: Node | None) -> _Scope:
        return replace(self, names={**self.names, **names}, depth=self.depth + 1)


def survey(checked: bytes, node: Node, *, top: bool) -> Survey:
    """Looks at an expression on `self`, whose schema is `node`, and on `oldSelf`.

    `checked` is a serialized cel.expr.CheckedExpr. `top`: the schema is of a whole object.
    """
    own = node
    if top or node.embedded:
        properties = {**node.properties, "apiVersion": _TEXT, "kind": _TEXT, "metadata": _METADATA}
        own = replace(node, properties=properties)
    scope = _Scope({"self": own, "oldSelf": own, OLD: own}, positions(checked))
    _walk(wire.first(checked, wire.EXPRESSION), scope)
    return Survey(list(dict.fromkeys(scope.found)), scope.changes)


def positions(checked: bytes) -> dict[int, int]:
    """Where in the source (in characters) the nodes of an expression stand, by their numbers."""
    return dict(_position(entry) for _, entry in wire.parts(wire.first(checked, wire.SOURCE), 4))


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
        if name in spellings(each):
            return inner
    scope.found.append(Undefined(name, scope.positions.get(identity, -1)))
    return None


def _call(data: bytes, identity: int, scope: _Scope) -> Node | None:
    function = wire.text(data, 2)
    arguments = [each for _, each in wire.parts(data, 3)]
    on = wire.first(data, 1)
    target = _walk(on, scope.inner()) if on else None
    if function == "_?._" and len(arguments) == 2:
        owner = _walk(arguments[0], scope.inner())
        return _member(owner, wire.text(wire.first(arguments[1], 3), 6), identity, scope)
    found = [_walk(each, scope.inner()) for each in arguments]
    match function, found:
        case ("_==_" | "_!=_" | "_+_", [Node() as left, _]):
            return _treated(left, identity, scope, merge=function == "_+_")
        case ("_[_]" | "_[?_]", [Node() as owner, _]):
            return owner.items or owner.additional
        case ("_?_:_", [_, then, other]):
            # Of an optional the other side may be the empty one, of which nothing is known.
            same = then is other or (then is not None and other is not None and then.json == other.json)
            return then if same or _is_none(arguments[2]) else None
        case ("optional.of" | "optional.ofNonZeroValue", [value]):
            return value
        case ("value" | "orValue", _):
            return target
    return None


def _is_none(data: bytes) -> bool:
    return wire.text(wire.first(data, wire.CALL), 2) == "optional.none"


def _treated(left: Node, identity: int, scope: _Scope, *, merge: bool) -> Node | None:
    """The lists of a comparison, or of a sum, which is such a list too."""
    shape = shape_of(left)
    if merge and left.list_type not in ("set", "map"):
        return None
    if shape is not None:
        scope.changes[identity] = Change(shape, merge)
    return left if merge else None


def shape_of(node: Node | None) -> Shape | None:
    """Where in the values of a schema there are sets and keyed lists; None where there are none."""
    if node is None:
        return None
    if node.type == "array":
        inner = shape_of(node.items)
        if node.list_type == "set":
            return {"set": inner}
        if node.list_type == "map":
            return {"map": [escaped(each) for each in node.list_map_keys], "of": inner}
        return {"list": inner} if inner is not None else None
    if node.additional is not None:
        inner = shape_of(node.additional)
        return {"values": inner} if inner is not None else None
    found = {spelling: shape_of(each) for name, each in node.properties.items() for spelling in spellings(name)}
    found = {name: each for name, each in found.items() if each is not None}
    return {"fields": found} if found else None


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
