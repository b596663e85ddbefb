"""What one call costs at most, and how large its result can get: the table behind :mod:`.estimate`.

The figures are those of cel-go and of Kubernetes' own functions; they decide which definitions may be written, so they are upstream's, also where they are odd (parsing an
address costs 1, however long the text).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from kubeling.api.cel.decl import ANYTHING, DYN, SCALARS, Decl, Span, bounded, scaled

#: By character, by character of a regular expression.
_TEXT, _REGEX = 0.1, 0.25
#: How long the regular expression of a named format counts.
_FORMAT = 128
#: An authorization check.
_CHECK = 350_000


@dataclass(slots=True, frozen=True)
class Fact:
    """What is known of an expression's value.

    `path` is where the schema has it, None for what was computed. `computed`: the size is not the path's. `entries` is the size of the items, where they were written in the
    expression; `literal` a whole number that was.
    """

    decl: Decl
    path: Decl | None = None
    size: Span | None = None
    computed: bool = False
    entries: Span | None = None
    literal: int | None = None

    @property
    def bound(self) -> Span:
        return ANYTHING if self.size is None else self.size


class Operand(NamedTuple):
    """A call: on a target or not, with arguments. `items` tells the size of a list's items."""

    function: str
    target: Fact | None
    arguments: list[Fact]
    items: Callable[[Fact], Span]


Price = tuple[int, Fact]


def price(call: Operand) -> Price:
    """What the call adds to the cost of its operands, and its result."""
    name = call.function
    if name in _OPERATORS and len(call.arguments) == 2:
        return _OPERATORS[name](call.arguments[0], call.arguments[1])
    if call.target is not None and name in _ON_TARGET:
        found = _ON_TARGET[name](call, call.target)
        if found is not None:
            return found
    if name == "url" and len(call.arguments) == 1:
        return scaled(call.arguments[0].bound.most, _TEXT), Fact(DYN)
    if name in ("string", "bytes") and len(call.arguments) == 1:
        return _conversion(name, call.arguments[0])
    if name in _SETS and len(call.arguments) == 2:
        sizes = call.arguments[0].bound.times(call.arguments[1].bound)
        return bounded(1 + scaled(sizes.most, _SETS[name])), Fact(Decl("bool"))
    if name == "strings.quote" and len(call.arguments) == 1:
        size = call.arguments[0].bound
        return scaled(size.most, _TEXT), _text(Span(bounded(size.least + 2), bounded(size.most * 2 + 2)))
    if name == "check":
        return _CHECK, Fact(DYN)
    return 1, _result(call)


def _result(call: Operand) -> Fact:
    """Of functions that cost the same whatever they are given: the type, as far as it follows from what they are given."""
    first = call.target or (call.arguments[0] if call.arguments else Fact(DYN))
    match call.function:
        case "_?._" | "_[?_]":
            return Fact(Decl("optional", element=first.decl.element or DYN))
        case "optional.of" | "optional.ofNonZeroValue":
            return Fact(Decl("optional", element=first.decl))
        case "value" | "orValue":
            return Fact(first.decl.element or DYN)
        case "or":
            return Fact(first.decl)
        case "_-_" | "_*_" | "_/_" | "_%_" | "-_":
            return Fact(_combined([each.decl for each in call.arguments], is_difference=call.function == "_-_"))
    return Fact(DYN)


def _combined(operands: list[Decl], *, is_difference: bool = False) -> Decl:
    """The type of a sum, a difference and so on: what is known of the operands; with a time it is a time, between two times a duration."""
    times = [each for each in operands if each.kind == "timestamp"]
    if times:
        certain = all(each.kind in ("timestamp", "duration") for each in operands)
        between = Decl("duration") if len(times) == 2 else times[0]
        return (between if is_difference else times[0]) if certain else DYN
    return next((each for each in operands if each.kind != "dyn"), DYN)


def _text(size: Span) -> Fact:
    return Fact(Decl("string"), size=size, computed=True)


# -- operators -------------------------------------------------------------------------------------------------------------------------

_SIZED = frozenset({"string", "bytes", "dyn"})


def _equal(left: Fact, right: Fact) -> Price:
    return scaled(min(left.bound.most, right.bound.most), _TEXT), Fact(Decl("bool"))


def _ordered(left: Fact, right: Fact) -> Price:
    cost = 1
    if left.decl.kind in _SIZED and right.decl.kind in _SIZED:
        cost = scaled(min(left.bound.most, right.bound.most), _TEXT)
        if left.decl.kind == right.decl.kind == "dyn":
            cost = max(cost, 1)
    return cost, Fact(Decl("bool"))


def _added(left: Fact, right: Fact) -> Price:
    kinds = {left.decl.kind, right.decl.kind}
    known = left.decl if left.decl.kind != "dyn" else right.decl
    if kinds & SCALARS:
        return 1, Fact(_combined([left.decl, right.decl]))
    size = left.bound.plus(right.bound)
    if "list" not in kinds:
        return max(scaled(size.most, _TEXT), 1 if kinds == {"dyn"} else 0), Fact(known, size=size, computed=True)
    element = left.decl.element or right.decl.element
    entries = left.entries.union(right.entries) if left.entries is not None and right.entries is not None else None
    return 1, Fact(Decl("list", element=element), size=size, computed=True, entries=entries)


def _within(_: Fact, holder: Fact) -> Price:
    return (1 if holder.decl.kind in ("map", "object") else holder.bound.most), Fact(Decl("bool"))


_OPERATORS: dict[str, Callable[[Fact, Fact], Price]] = {
    "_==_": _equal,
    "_!=_": _equal,
    "_<_": _ordered,
    "_<=_": _ordered,
    "_>_": _ordered,
    "_>=_": _ordered,
    "_+_": _added,
    "@in": _within,
}


def _conversion(name: str, value: Fact) -> Price:
    size = value.bound
    made = Decl(name)
    if name == "bytes" and value.decl.kind in ("string", "dyn"):
        return scaled(size.most, _TEXT), Fact(made, size=Span(size.least, bounded(size.most * 4)), computed=True)
    if name == "string" and value.decl.kind in ("bytes", "dyn"):
        return max(scaled(size.most, _TEXT), 1), Fact(made, size=Span(size.least // 4, size.most), computed=True)
    return 1, Fact(made)


_SETS = {"sets.contains": 1, "sets.intersects": 1, "sets.equivalent": 2}

# -- functions on a value --------------------------------------------------------------------------------------------------------------


def _argument(call: Operand, at: int = 0) -> Span:
    return call.arguments[at].bound if len(call.arguments) > at else ANYTHING


def _prefixed(call: Operand, target: Fact) -> Price:
    return scaled(_argument(call).most, _TEXT), Fact(Decl("bool"))


def _contains(call: Operand, target: Fact) -> Price:
    return bounded(scaled(target.bound.most, _TEXT) * scaled(_argument(call).most, _TEXT)), Fact(Decl("bool"))


def _searched(call: Operand, target: Fact) -> int:
    return bounded(scaled(bounded(target.bound.most + 1), _TEXT) * scaled(_argument(call).most, _REGEX))


def _matches(call: Operand, target: Fact) -> Price:
    return _searched(call, target), Fact(Decl("bool"))


def _find(call: Operand, target: Fact) -> Price:
    decl = Decl("string") if call.function == "find" else Decl("list", element=Decl("string"))
    return _searched(call, target), Fact(decl, size=Span(0, target.bound.most), computed=True)


def _through(call: Operand, target: Fact) -> Price:
    return scaled(target.bound.most, _TEXT), _text(target.bound)


def _replace(call: Operand, target: Fact) -> Price | None:
    if len(call.arguments) < 2:
        return None
    size, old, new = target.bound, _argument(call, 0), _argument(call, 1)
    least = _replaced(size.least, old.most, new.least, shorter=True)
    most = _replaced(size.most, old.least, new.most, shorter=False)
    return scaled(size.most, 2 * _TEXT), _text(Span(least, most))


def _replaced(size: int, old: int, new: int, *, shorter: bool) -> int:
    """The length of a text of this size, after pieces of one length have given way to pieces of another as often as can be."""
    if old == 0:
        return bounded((size + 1) * new + size)
    if (old <= new) if shorter else (new <= old):
        return size
    return bounded(math.ceil(size / old) * new)


def _split(call: Operand, target: Fact) -> Price:
    most = target.bound.most
    if len(call.arguments) > 1 and call.arguments[1].literal is not None:
        most = call.arguments[1].literal
    return scaled(target.bound.most, 2 * _TEXT), Fact(Decl("list", element=Decl("string")), size=Span(0, most), computed=True)


def _join(call: Operand, target: Fact) -> Price:
    count = target.bound
    size = count.times(call.items(target))
    if call.arguments:
        between = Span(max(count.least - 1, 0), max(count.most - 1, 0))
        size = size.plus(_argument(call).times(between))
    return scaled(size.most, _TEXT), _text(size)


def _over_list(call: Operand, target: Fact) -> Price:
    """Of lists, each item is looked at once; of a text, the text."""
    if target.decl.kind in ("string", "dyn"):
        return scaled(target.bound.most, _TEXT), Fact(Decl("int"))
    element = target.decl.element or DYN
    each = 1
    if element.kind in ("string", "bytes"):
        each = bounded(1 + scaled(call.items(target).most, _TEXT))
    return bounded(target.bound.most * each), Fact(element if call.function in ("sum", "min", "max") else DYN)


def _format(call: Operand, target: Fact) -> Price:
    """How long the text gets is not known."""
    return scaled(target.bound.most, _TEXT), Fact(Decl("string"))


def _validate(call: Operand, target: Fact) -> Price:
    """As matching a long regular expression."""
    return scaled(scaled(_argument(call).most, _TEXT), _FORMAT * _REGEX), Fact(DYN)


def _contains_ip(call: Operand, target: Fact) -> Price:
    return bounded(4 + _parsing(call)), Fact(Decl("bool"))


def _contains_cidr(call: Operand, target: Fact) -> Price:
    return bounded(7 + _parsing(call)), Fact(Decl("bool"))


def _parsing(call: Operand) -> int:
    """A text that stands for an address is read first."""
    is_text = bool(call.arguments) and call.arguments[0].decl.kind == "string"
    return scaled(_argument(call).most, _TEXT) if is_text else 0


_ON_TARGET: dict[str, Callable[[Operand, Fact], Price | None]] = {
    "startsWith": _prefixed,
    "endsWith": _prefixed,
    "contains": _contains,
    "matches": _matches,
    "find": _find,
    "findAll": _find,
    "lowerAscii": _through,
    "upperAscii": _through,
    "substring": _through,
    "trim": _through,
    "replace": _replace,
    "split": _split,
    "join": _join,
    "isSorted": _over_list,
    "sum": _over_list,
    "min": _over_list,
    "max": _over_list,
    "indexOf": _over_list,
    "lastIndexOf": _over_list,
    "format": _format,
    "validate": _validate,
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
}
