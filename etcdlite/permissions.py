"""Ranges of keys that somebody may read or write, and whether they cover what is asked for. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from kubeling.proto.auth_pb2 import Permission

UNBOUNDED = b"\x00"


class Ranges:
    """A union of ranges, kept as disjoint ones in order. Two that touch are one: who may read [a, b) and [b, c) may ask for [a, c)."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, permissions: Iterable[Permission]) -> None:
        self._starts: list[bytes] = []
        #: None where a range has no end.
        self._ends: list[bytes | None] = []
        spans = [_span(one.key, one.range_end) for one in permissions]
        for start, end in sorted((one for one in spans if one[1] is None or one[0] < one[1]), key=lambda one: one[0]):
            last = self._ends[-1] if self._ends else b""
            if self._starts and (last is None or start <= last):
                if last is not None and (end is None or end > last):
                    self._ends[-1] = end
            else:
                self._starts.append(start)
                self._ends.append(end)

    def cover(self, key: bytes, range_end: bytes) -> bool:
        """Whether all of a request's range is in here; an empty `range_end` is the one key, ``b"\\0"`` everything from `key` on."""
        at = bisect_right(self._starts, key) - 1
        if at < 0:
            return False
        mine, (_, asked) = self._ends[at], _span(key, range_end)
        return mine is None or (key < mine and asked is not None and asked <= mine)


def _span(key: bytes, range_end: bytes) -> tuple[bytes, bytes | None]:
    """Start and end (None: there is none) of a range as requests and permissions say it."""
    if not range_end:
        return key, key + b"\x00"
    return key, None if range_end == UNBOUNDED else range_end
