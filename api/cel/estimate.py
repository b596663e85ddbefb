"""What an expression may cost at most, and whether its types fit, told from the expression and from how large its variables can get (KEP-2876).

The cost model is the published one of cel-go, which upstream holds the rules of custom resources to: a step costs 1, what looks at a whole text a tenth per character, a loop
its body times the largest size of what it runs over. So a definition that upstream takes is taken here, and one that it refuses is refused.

Sizes come from the schema along the path from a variable: fields, items, values. Where a value has left its path (it was computed) its size is what the computation says, and
where that says nothing it is unbounded. One oddity is kept, because definitions depend on it: the first step from a value without a path leads to the variable's own
type, so that items of a computed list count as large as `self`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kubeling.api.cel import wire
from kubeling.api.cel.decl import ANYTHING, DYN, ONE, UNKNOWN, Decl, Span, bounded, is_scalar
from kubeling.api.cel.prices import Fact, Operand, price
from kubeling.api.cel.typecheck import mismatch

_LIST_COST, _MAP_COST, _STRUCT_COST = 10, 30, 40
_LOST = Decl("lost")
_TEXT = Decl("string")


class Examined(NamedTuple):
    """What was found out: the most that an expression costs, the kind of its value, and calls that can have no value, by their numbers."""

    cost: int
    kind: str
    faults: dict[int, str]


def examine(checked: bytes, variables: Mapping[str, Decl], root: Decl, *, bound: str = "") -> Examined:
    """Looks at an expression. `checked` is a serialized cel.expr.CheckedExpr, `root` the type that paths start at.

    `bound` is the name of a variable that the expression is wrapped in a `cel.bind` of, which is not counted.
    """
    types: dict[int, bytes] = {}
    for _, entry in wire.parts(checked, wire.TYPES):
        number = next((value for at, value in wire.members(entry) if at == 1 and isinstance(value, int)), 0)
        types[number] = wire.first(entry, 2)
    expression = wire.first(checked, wire.EXPRESSION)
    if bound:
        expression = wire.first(wire.first(expression, wire.COMPREHENSION), 7)
    names = {name: Fact(decl, path=root, size=Span(0, root.most)) for name, decl in variables.items()}
    walk = _Walk(types, root)
    cost, fact = walk.value(expression, names, 0)
    return Examined(cost, fact.decl.kind, walk.faults)


Scope = Mapping[str, Fact]


@dataclass(slots=True)
class _Walk:
    types: Mapping[int, bytes]
    root: Decl
    faults: dict[int, str] = field(default_factory=dict)

    def value(self, data: bytes, scope: Scope, depth: int) -> tuple[int, Fact]:
        """The cost of an expression, and what is known of its value."""
        if depth > wire.MAX_DEPTH:
            return UNKNOWN, Fact(DYN)
        identity = 0
        for number, value in wire.members(data):
            if number == wire.ID and isinstance(value, int):
                identity = value
            elif isinstance(value, bytes):
                cost, fact = self._node(number, value, identity, scope, depth + 1)
                if fact.decl.kind == "dyn":
                    decl = _checked_type(self.types.get(identity, b""))
                    fact = replace(fact, decl=decl) if decl is not DYN else fact
                return cost, self._sized(fact)
        return 0, Fact(DYN)

    def _sized(self, fact: Fact) -> Fact:
        """Where nothing was computed, the path tells the size, then the type."""
        if fact.computed:
            return fact
        if fact.path is not None and fact.path is not _LOST:
            return replace(fact, size=Span(0, fact.path.most))
        return replace(fact, size=ONE) if is_scalar(fact.decl) else fact

    def _step(self, fact: Fact, decl: Decl, into: Decl | None) -> Fact:
        """What is found one step down a path; `into` is what the schema has there."""
        path = self.root if fact.path is None else into or _LOST
        return Fact(decl, path=path)

    def _node(self, number: int, data: bytes, identity: int, scope: Scope, depth: int) -> tuple[int, Fact]:
        match number:
            case wire.CONST:
                return 0, _constant(data)
            case wire.IDENT:
                return 1, scope.get(wire.text(data, 1), Fact(DYN, path=self.root))
            case wire.SELECT:
                return self._select(data, scope, depth)
            case wire.CALL:
                return self._call(data, identity, scope, depth)
            case wire.LIST:
                return self._list(data, scope, depth)
            case wire.STRUCT:
                return self._struct(data, scope, depth)
            case wire.COMPREHENSION:
                return self._comprehension(data, scope, depth)
        return 0, Fact(DYN)

    def _select(self, data: bytes, scope: Scope, depth: int) -> tuple[int, Fact]:
        cost, owner = self.value(wire.first(data, 1), scope, depth)
        if any(number == 3 and value for number, value in wire.members(data)):
            # has() costs nothing but its operand.
            return cost, Fact(Decl("bool"))
        name = wire.text(data, 2)
        if owner.decl.kind in ("map", "object"):
            cost = bounded(cost + 1)
        decl = owner.decl.element if owner.decl.kind == "map" else owner.decl.fields.get(name)
        return cost, self._step(owner, decl or DYN, owner.path.fields.get(name) if owner.path else None)

    def _list(self, data: bytes, scope: Scope, depth: int) -> tuple[int, Fact]:
        found = [self.value(each, scope, depth) for _, each in wire.parts(data, 1)]
        cost = bounded(sum(each for each, _ in found) + _LIST_COST)
        items = Span(0, 0) if not found else _union([fact for _, fact in found])
        element = found[0][1].decl if found else None
        return cost, Fact(Decl("list", element=element), size=Span(len(found), len(found)), computed=True, entries=items)

    def _struct(self, data: bytes, scope: Scope, depth: int) -> tuple[int, Fact]:
        entries = [entry for _, entry in wire.parts(data, 2)]
        keys = [self.value(each, scope, depth) for entry in entries for _, each in wire.parts(entry, 3)]
        values = [self.value(each, scope, depth) for entry in entries for _, each in wire.parts(entry, 4)]
        base = _STRUCT_COST if wire.text(data, 1) else _MAP_COST
        cost = bounded(sum(each for each, _ in [*keys, *values]) + base)
        element = values[0][1].decl if values else None
        size = Span(len(entries), len(entries))
        known = _union([fact for _, fact in values]) if values else Span(0, 0)
        return cost, Fact(Decl("map", element=element), size=size, computed=True, entries=known)

    def _call(self, data: bytes, identity: int, scope: Scope, depth: int) -> tuple[int, Fact]:
        function, on, operands = "", b"", []
        for number, each in wire.parts(data, 1, 2, 3):
            if number == 3:
                operands.append(each)
            elif number == 2:
                function = each.decode("utf-8", "replace")
            else:
                on = each
        cost, target = self.value(on, scope, depth) if on else (0, None)
        found = [self.value(each, scope, depth) for each in operands]
        facts = [fact for _, fact in found]
        costs = [each for each, _ in found]
        fault = mismatch(function, target.decl if target is not None else None, [each.decl for each in facts])
        if fault:
            self.faults[identity] = fault
        if function == "dyn" and len(found) == 1:
            return bounded(1 + costs[0]), replace(facts[0], decl=DYN, path=None, computed=True)
        if function == "_?_:_" and len(found) == 3:
            return bounded(costs[0] + max(costs[1:])), _either(facts[1], facts[2])
        cost = bounded(cost + sum(costs))
        if function in ("_&&_", "_||_"):
            return cost, Fact(Decl("bool"))
        if function == "_[_]" and len(facts) == 2:
            owner = facts[0]
            fact = self._step(owner, owner.decl.element or DYN, owner.path.element if owner.path else None)
            if owner.entries is not None:
                fact = replace(fact, size=owner.entries, computed=True)
            return bounded(cost + 1), fact
        own, made = price(Operand(function, target, facts, self._items))
        return bounded(cost + own), made

    def _items(self, owner: Fact) -> Span:
        """The size of a list's items. Those of a list without a path are unbounded."""
        if owner.path is None or owner.path is _LOST or owner.path.element is None:
            return ANYTHING
        return Span(0, owner.path.element.most)

    def _comprehension(self, data: bytes, scope: Scope, depth: int) -> tuple[int, Fact]:
        cost, over = self.value(wire.first(data, 2), scope, depth)
        start = wire.first(data, 4)
        more, begun = self.value(start, scope, depth)
        cost = bounded(cost + more)
        accumulator = wire.text(data, 3)
        if accumulator not in ("@result", "__result__"):
            # A cel.bind, which runs over nothing.
            more, made = self.value(wire.first(data, 7), {**scope, accumulator: begun}, depth)
            return bounded(cost + more), made
        inside = {**scope, accumulator: begun, **self._iteration(data, over)}
        each = 0
        step = begun
        for number in (5, 6):
            more, step = self.value(wire.first(data, number), inside, depth)
            each = bounded(each + more)
        more, result = self.value(wire.first(data, 7), {**scope, accumulator: replace(begun, decl=step.decl)}, depth)
        cost = bounded(cost + more + bounded(over.bound.most * each))
        if any(number in (wire.LIST, wire.STRUCT) for number, _ in wire.parts(start, wire.LIST, wire.STRUCT)):
            return cost, Fact(step.decl, size=over.bound, computed=True, entries=step.entries)
        return cost, Fact(result.decl, size=begun.size, computed=begun.size is not None)

    def _iteration(self, data: bytes, over: Fact) -> dict[str, Fact]:
        """The variables of a loop."""
        first, second = wire.text(data, 1), wire.text(data, 8)
        is_map = over.decl.kind == "map"
        value = self._step(over, over.decl.element or DYN, over.path.element if over.path else None)
        key = self._step(over, _TEXT, _TEXT) if is_map else Fact(Decl("int"), path=_LOST)
        if second:
            return {first: key, second: value}
        return {first: key if is_map else value}


def _union(facts: list[Fact]) -> Span:
    found = facts[0].bound
    for each in facts[1:]:
        found = found.union(each.bound)
    return found


def _either(left: Fact, right: Fact) -> Fact:
    decl = left.decl if left.decl.kind != "dyn" else right.decl
    if decl.kind == "list" and decl.element is None:
        decl = right.decl
    entries = left.entries.union(right.entries) if left.entries is not None and right.entries is not None else None
    return Fact(decl, size=left.bound.union(right.bound), computed=True, entries=entries)


def _constant(data: bytes) -> Fact:
    for number, value in wire.members(data):
        if isinstance(value, bytes) and number in (6, 7):
            length = len(value.decode("utf-8", "replace")) if number == 6 else len(value)
            return Fact(Decl("string" if number == 6 else "bytes"), size=Span(length, length), computed=True)
        if isinstance(value, int):
            literal = value if number in (3, 4) and value < 1 << 63 else None
            return Fact(Decl(_CONSTANTS.get(number, "null")), size=ONE, computed=True, literal=literal)
    # Members of fixed width are not read: it is a double.
    return Fact(Decl("double"), size=ONE, computed=True)


_CONSTANTS = {1: "null", 2: "bool", 3: "int", 4: "uint"}
_PRIMITIVES = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}
_WELL_KNOWN = {2: "timestamp", 3: "duration"}


def _checked_type(data: bytes) -> Decl:
    """A cel.expr.Type, as far as it matters here."""
    for number, value in wire.members(data):
        match number, value:
            case 3 | 4, int():
                return Decl(_PRIMITIVES.get(value, "dyn"))
            case 5, int():
                return Decl(_WELL_KNOWN.get(value, "dyn"))
            case 6, bytes():
                return Decl("list", element=_checked_type(wire.first(value, 1)))
            case 7, bytes():
                return Decl("map", element=_checked_type(wire.first(value, 2)))
            case 14, bytes() if wire.text(value, 1) == "optional_type":
                return Decl("optional", element=_checked_type(wire.first(value, 2)))
    return DYN
