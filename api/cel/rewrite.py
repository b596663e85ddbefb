"""Changes to a compiled expression: calls that become other calls, after the types have been checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from kubeling.api.cel import wire

#: From the message of a call to the message of another.
Edit = Callable[[bytes], bytes]
_REFERENCES = 2
#: Where expressions stand in the nodes of an expression.
_INNER = {
    wire.SELECT: (1,),
    wire.CALL: (1, 3),
    wire.LIST: (1,),
    wire.STRUCT: (2,),
    wire.COMPREHENSION: (2, 4, 5, 6, 7),
}


def rewrite(serialized: bytes, edits: Mapping[int, Edit]) -> bytes:
    """A compiled expression (an Any that holds a cel.expr.CheckedExpr) with the calls changed that have these numbers.

    What the type checker chose for them is forgotten: the evaluator looks for the function again.
    """
    made = b"".join(
        wire.piece(at, _expr(data, edits) if at == wire.EXPRESSION else data)
        for at, data in wire.pieces(wire.first(serialized, 2))
        if not (at == _REFERENCES and _number(data, 1) in edits)
    )
    return b"".join(wire.piece(at, made if at == 2 else data) for at, data in wire.pieces(serialized))


def calls(data: bytes) -> Iterator[tuple[int, str, bytes]]:
    """All calls of an expression: number, function, and the message of the call."""
    identity = _number(data, wire.ID)
    for at, content in wire.pieces(data):
        if at == wire.CALL:
            yield identity, wire.text(content, 2), content
        for number, inner in wire.pieces(content) if at in _INNER else ():
            if number not in _INNER[at]:
                continue
            if at == wire.STRUCT:
                for _, each in wire.parts(inner, 3, 4):
                    yield from calls(each)
            else:
                yield from calls(inner)


def renamed(call: bytes, function: str) -> bytes:
    """The call of another function with the same operands."""
    return b"".join(wire.piece(at, function.encode() if at == 2 else content) for at, content in wire.pieces(call))


def call_of(function: str, *arguments: bytes) -> bytes:
    """A call; the arguments are expressions."""
    return wire.piece(2, function.encode()) + b"".join(wire.piece(3, each) for each in arguments)


def _number(data: bytes, wanted: int) -> int:
    return next((value for at, value in wire.members(data) if at == wanted and isinstance(value, int)), 0)


def _expr(data: bytes, edits: Mapping[int, Edit]) -> bytes:
    edit = edits.get(_number(data, wire.ID))
    made = b""
    for at, content in wire.pieces(data):
        if at in _INNER:
            content = b"".join(
                wire.piece(number, _below(at, inner, edits) if number in _INNER[at] else inner)
                for number, inner in wire.pieces(content)
            )
            if at == wire.CALL and edit is not None:
                content = edit(content)
        made += wire.piece(at, content)
    return made


def _below(kind: int, data: bytes, edits: Mapping[int, Edit]) -> bytes:
    if kind != wire.STRUCT:
        return _expr(data, edits)
    # An entry of a map: key and value.
    return b"".join(wire.piece(at, _expr(each, edits) if at in (3, 4) else each) for at, each in wire.pieces(data))
