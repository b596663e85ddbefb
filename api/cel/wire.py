"""A compiled expression as the library hands it out: protobuf bytes (`cel.expr`), read without the generated classes.

What is done with an expression after its compilation (how deep its loops stand in one another, which fields it names, what it may cost) is done once per expression,
by walking these bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

#: Of cel.expr.Expr: the members that hold expressions, and the number of the expression.
ID, CONST, IDENT, SELECT, CALL, LIST, STRUCT, COMPREHENSION = 2, 3, 4, 5, 6, 7, 8, 9
#: Of cel.expr.CheckedExpr.
TYPES, EXPRESSION, SOURCE = 3, 4, 5
#: Deeper expressions are not walked.
MAX_DEPTH = 250


def members(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The members of a message by their numbers: numbers, and messages or text as bytes. Members of fixed width are left out."""
    at, end = 0, len(data)
    while at < end:
        # Tags and most sizes are one byte.
        tag = data[at]
        at += 1
        if tag > 0x7F:
            tag, at = _varint(data, at - 1)
        kind = tag & 7
        if kind == 2:
            size = data[at]
            at += 1
            if size > 0x7F:
                size, at = _varint(data, at - 1)
            yield tag >> 3, data[at : at + size]
            at += size
        elif kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        else:
            at += 8 if kind == 1 else 4


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def parts(data: bytes, *wanted: int) -> list[tuple[int, bytes]]:
    """The members with these numbers that are messages or text, in their order."""
    return [(number, value) for number, value in members(data) if number in wanted and isinstance(value, bytes)]


def first(data: bytes, wanted: int) -> bytes:
    """The first of them, empty where there is none."""
    return next((value for _, value in parts(data, wanted)), b"")


def text(data: bytes, wanted: int) -> str:
    """The first of them as text."""
    return first(data, wanted).decode("utf-8", "replace")


# -- writing ---------------------------------------------------------------------------------------------------------------------------


def pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """All members as they are: number, and the whole member with its tag; of messages and text without tag and length."""
    at = 0
    while at < len(data):
        start = at
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 2:
            size, at = _varint(data, at)
            yield tag >> 3, data[at : at + size]
            at += size
            continue
        at = _varint(data, at)[1] if kind == 0 else at + (8 if kind == 1 else 4)
        yield 0, data[start:at]


def piece(number: int, content: bytes) -> bytes:
    """A member that is a message or text, or one that :func:`pieces` gave whole (number 0)."""
    return _encoded(number << 3 | 2) + _encoded(len(content)) + content if number else content


def _encoded(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
