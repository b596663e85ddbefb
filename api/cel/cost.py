"""A bound on what an expression costs.

The evaluator cannot be interrupted, so what would take too long is not begun. The costly thing in CEL is a comprehension (`all`, `exists`, `map` …) inside another: its
steps are at most the size of the largest list or map there is, to the power of the depth. The depth is read off the compiled expression, the size off the
variables; expressions without nested comprehensions take time in proportion to the object, which has its own limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Steps; about a second.
BUDGET = 10_000_000
MAX_NESTING = 12
#: In cel.expr.Expr: the member that is a comprehension, and in that the parts that are done once a step.
_COMPREHENSION, _LOOP_CONDITION, _LOOP_STEP, _RANGE = 9, 5, 6, 2
_CALL, _LIST, _STRUCT, _SELECT = 6, 7, 8, 5
_MAX_DEPTH = 250


def nesting(serialized: bytes) -> int:
    """How deep comprehensions stand in one another. `serialized` is an Any that holds a cel.expr.CheckedExpr."""
    return _expr(_member(_member(serialized, 2), 4), 0)


def packed(serialized: bytes) -> bytes:
    """What an Any holds."""
    return _member(serialized, 2)


def _expr(data: bytes, depth: int) -> int:
    """The members of all nodes that hold expressions are looked at, whatever they mean: a comprehension is known by its place."""
    if depth > _MAX_DEPTH:
        return MAX_NESTING + 1
    deepest = 0
    for number, value in _members(data):
        if number == _COMPREHENSION:
            deepest = max(deepest, _comprehension(value, depth + 1))
        elif number in (_CALL, _LIST, _STRUCT, _SELECT):
            deepest = max(deepest, _holder(number, value, depth + 1))
    return deepest


def _holder(kind: int, data: bytes, depth: int) -> int:
    """call: target 1, args 3; list: elements 1; select: operand 1; struct: entries 2 with key 3 and value 4."""
    deepest = 0
    for number, value in _members(data):
        if kind == _STRUCT:
            if number == 2:
                inner = [each for at, each in _members(value) if at in (3, 4)]
                deepest = max([deepest, *(_expr(each, depth) for each in inner)])
        elif number == 1 or (kind == _CALL and number == 3):
            deepest = max(deepest, _expr(value, depth))
    return deepest


def _comprehension(data: bytes, depth: int) -> int:
    inside = outside = 0
    for number, value in _members(data):
        if number in (_LOOP_CONDITION, _LOOP_STEP):
            inside = max(inside, _expr(value, depth))
        elif number in (_RANGE, 4, 7):
            outside = max(outside, _expr(value, depth))
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


def _member(data: bytes, wanted: int) -> bytes:
    return next((value for number, value in _members(data) if number == wanted), b"")


def _members(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited members of a protobuf message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        else:
            size, at = _varint(data, at)
            yield tag >> 3, data[at : at + size]
            at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
