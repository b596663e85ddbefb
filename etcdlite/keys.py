"""A sorted set of byte strings in chunks, so that adding to a million keys moves a thousand pointers and not a million."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

_CHUNK = 1024


class SortedKeys:
    """Keys in byte order. Adding, removing and finding cost O(log n) comparisons and a move within one chunk."""

    def __init__(self) -> None:
        self._chunks: list[list[bytes]] = []
        self._firsts: list[bytes] = []

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            yield from chunk

    def add(self, key: bytes) -> None:
        """Add a key that is not there yet."""
        if not self._chunks:
            self._chunks.append([key])
            self._firsts.append(key)
            return
        at = bisect_right(self._firsts, key) - 1
        if at >= 0:
            chunk = self._chunks[at]
            insort(chunk, key)
        else:
            at, chunk = 0, self._chunks[0]
            chunk.insert(0, key)
            self._firsts[0] = key
        if len(chunk) > 2 * _CHUNK:
            upper = chunk[_CHUNK:]
            del chunk[_CHUNK:]
            self._chunks.insert(at + 1, upper)
            self._firsts.insert(at + 1, upper[0])

    def remove(self, key: bytes) -> None:
        """Remove a key that is there."""
        at = max(bisect_right(self._firsts, key) - 1, 0)
        chunk = self._chunks[at]
        del chunk[bisect_left(chunk, key)]
        if chunk:
            self._firsts[at] = chunk[0]
        else:
            del self._chunks[at]
            del self._firsts[at]

    def count(self, start: bytes, end: bytes | None) -> int:
        """How many keys :meth:`between` would find, without looking at each."""
        return (len(self) if end is None else self._rank(end)) - self._rank(start) if end is None or start < end else 0

    def _rank(self, key: bytes) -> int:
        """How many keys are smaller."""
        if not self._chunks:
            return 0
        at = max(bisect_right(self._firsts, key) - 1, 0)
        return sum(map(len, self._chunks[:at])) + bisect_left(self._chunks[at], key)

    def between(self, start: bytes, end: bytes | None, limit: int = sys.maxsize) -> list[bytes]:
        """The keys with start <= key < end, in order; `end` None has no upper bound. The list is the caller's own.

        With a `limit` it stops soon after that many, which it may exceed by a chunk.
        """
        if not self._chunks:
            return []
        at = max(bisect_right(self._firsts, start) - 1, 0)
        first = self._chunks[at]
        low = bisect_left(first, start)
        found: list[bytes] = []
        while at < len(self._chunks) and len(found) < limit:
            chunk = self._chunks[at]
            if end is not None and chunk[-1] >= end:
                found += chunk[low : bisect_left(chunk, end, low)]
                break
            found += chunk[low:] if low else chunk
            low = 0
            at += 1
        return found
