"""A bound on what an expression costs.

The evaluator cannot be interrupted, so what would take too long is not begun. The costly thing in CEL is a comprehension (`all`, `exists`, `map` …) inside another: its
steps are at most the size of the largest list or map there is, to the power of the depth. The depth is read off the compiled expression, the size off the
variables; expressions without nested comprehensions take time in proportion to the object, which has its own limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubeling.api.cel import wire

#: Steps; about a second.
BUDGET = 10_000_000
MAX_NESTING = 12
#: Of a comprehension: the parts that are done once a step, and the others.
_EACH_STEP, _ONCE = (5, 6), (2, 4, 7)


def nesting(serialized: bytes) -> int:
    """How deep comprehensions stand in one another. `serialized` is an Any that holds a cel.expr.CheckedExpr."""
    return _expr(wire.first(packed(serialized), wire.EXPRESSION), 0)


def packed(serialized: bytes) -> bytes:
    """What an Any holds."""
    return wire.first(serialized, 2)


def _expr(data: bytes, depth: int) -> int:
    """The members of all nodes that hold expressions are looked at, whatever they mean: a comprehension is known by its place."""
    if depth > wire.MAX_DEPTH:
        return MAX_NESTING + 1
    deepest = 0
    for number, value in wire.parts(data, wire.SELECT, wire.CALL, wire.LIST, wire.STRUCT, wire.COMPREHENSION):
        if number == wire.COMPREHENSION:
            deepest = max(deepest, _comprehension(value, depth + 1))
        else:
            deepest = max(deepest, _holder(number, value, depth + 1))
    return deepest


def _holder(kind: int, data: bytes, depth: int) -> int:
    """call: target 1, args 3; list: elements 1; select: operand 1; struct: entries 2 with key 3 and value 4."""
    if kind == wire.STRUCT:
        inner = [each for _, entry in wire.parts(data, 2) for _, each in wire.parts(entry, 3, 4)]
    else:
        inner = [each for _, each in wire.parts(data, *((1, 3) if kind == wire.CALL else (1,)))]
    return max((_expr(each, depth) for each in inner), default=0)


def _comprehension(data: bytes, depth: int) -> int:
    inside = max((_expr(each, depth) for _, each in wire.parts(data, *_EACH_STEP)), default=0)
    outside = max((_expr(each, depth) for _, each in wire.parts(data, *_ONCE)), default=0)
    return max(inside + 1, outside)


def check(depth: int, values: Mapping[str, Any]) -> None:
    """Raises EvaluationError where the steps may be too many."""
    if depth < 2:
        return
    from kubeling.api.cel.environment import EvaluationError

    if depth > MAX_NESTING or max(2, _largest(values)) ** depth > BUDGET:
        raise EvaluationError("operation cancelled: actual cost limit exceeded")


def _largest(value: Any) -> int:
    """The size of the largest list or map inside."""
    largest = 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            largest = max(largest, len(each))
            waiting += each.values()
        elif isinstance(each, list):
            largest = max(largest, len(each))
            waiting += each
    return largest
