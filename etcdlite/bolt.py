"""bbolt database files, as far as snapshots of etcd need them: written at once from sorted items, and read.

A file is pages of 4 KiB: two meta pages (the one with the higher transaction id counts), a list of free pages, and B+ trees of branch and leaf pages, one for
each bucket; a tree of buckets' roots holds them together. Numbers are little-endian. A page that is larger than 4 KiB goes on in those behind it.
The format is described by its page structures (header: id u64, flags u16, count u16, overflow u32) in bbolt's documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping

PAGE = 4096
_HEADER = struct.Struct("<QHHI")
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_LEAF_ELEMENT = struct.Struct("<IIII")
_BUCKET = struct.Struct("<QQ")
#: magic, version, page size, flags, root page, root sequence, free list's page, number of pages, transaction id; then the checksum.
_META = struct.Struct("<IIIIQQQQQ")
_CHECKSUM = struct.Struct("<Q")
_MAGIC, _VERSION = 0xED0CDAED, 2
_BRANCH, _LEAF, _META_PAGE, _FREELIST = 1, 2, 4, 16
_IS_BUCKET = 1
#: Deeper than any tree that fits on a disk.
_MAX_DEPTH = 32

Item = tuple[bytes, bytes]


class BoltError(Exception):
    """The file is not a whole and sound bbolt database."""


def write(buckets: Mapping[bytes, Iterable[Item]]) -> list[bytes]:
    """The file, in pieces, that holds these buckets; the items of each in the order of their keys."""
    writer = _Writer()
    roots = [(name, writer.bucket(items)) for name, items in sorted(buckets.items())]
    root = writer.tree([(name, value, _IS_BUCKET) for name, value in roots])
    free = _HEADER.pack(2, _FREELIST, 0, 0).ljust(PAGE, b"\0")
    return [_meta(0, root, writer.next), _meta(1, root, writer.next), free, *writer.pages]


def read(data: bytes, bucket: bytes) -> Iterator[Item]:
    """The items of `bucket`, in the order of their keys; nothing where there is no such bucket. Raises BoltError, also while they are taken."""
    for name, value, flags in _walk(data, _root(data), 0):
        if name == bucket and flags & _IS_BUCKET:
            if len(value) < _BUCKET.size:
                raise BoltError(f"bucket {bucket.decode(errors='replace')} has no root")
            (root, _) = _BUCKET.unpack_from(value)
            items = _walk(data, root, 0) if root else _page(value, _BUCKET.size, data, 0)
            for key, content, _ in items:
                yield key, content


def names(data: bytes) -> list[bytes]:
    """The names of all buckets. Raises BoltError."""
    return [name for name, _, flags in _walk(data, _root(data), 0) if flags & _IS_BUCKET]


def _meta(number: int, root: int, pages: int) -> bytes:
    body = _META.pack(_MAGIC, _VERSION, PAGE, 0, root, 0, 2, pages, number)
    return (_HEADER.pack(number, _META_PAGE, 0, 0) + body + _CHECKSUM.pack(_fnv(body))).ljust(PAGE, b"\0")


def _fnv(data: bytes) -> int:
    """FNV-1a of 64 bits."""
    total = 0xCBF29CE484222325
    for byte in data:
        total = ((total ^ byte) * 0x100000001B3) & 0xFFFF_FFFF_FFFF_FFFF
    return total


class _Writer:
    def __init__(self) -> None:
        self.pages: list[bytes] = []
        self.next = 3

    def bucket(self, items: Iterable[Item]) -> bytes:
        """What stands for a bucket in the tree of buckets; an empty one is a page inside of it."""
        leaves = [(key, value, 0) for key, value in items]
        if not leaves:
            return _BUCKET.pack(0, 0) + _HEADER.pack(0, _LEAF, 0, 0)
        return _BUCKET.pack(self.tree(leaves), 0)

    def tree(self, leaves: list[tuple[bytes, bytes, int]]) -> int:
        """Write the pages of a tree, the leaves first; the number of its root."""
        level: list[tuple[bytes, int]] = []
        gathered: list[tuple[bytes, bytes, int]] = []
        size = _HEADER.size
        for leaf in leaves:
            need = _LEAF_ELEMENT.size + len(leaf[0]) + len(leaf[1])
            if gathered and size + need > PAGE:
                level.append((gathered[0][0], self._leaf(gathered)))
                gathered, size = [], _HEADER.size
            gathered.append(leaf)
            size += need
        level.append((gathered[0][0] if gathered else b"", self._leaf(gathered)))
        while len(level) > 1:
            level = self._branches(level)
        return level[0][1]

    def _branches(self, below: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        above: list[tuple[bytes, int]] = []
        gathered: list[tuple[bytes, int]] = []
        size = _HEADER.size
        for child in below:
            need = _BRANCH_ELEMENT.size + len(child[0])
            # A branch has two children at least, however long the keys are: so each level is smaller than the one below.
            if len(gathered) > 1 and size + need > PAGE:
                above.append((gathered[0][0], self._branch(gathered)))
                gathered, size = [], _HEADER.size
            gathered.append(child)
            size += need
        above.append((gathered[0][0], self._branch(gathered)))
        return above

    def _leaf(self, items: list[tuple[bytes, bytes, int]]) -> int:
        elements, at = [], _LEAF_ELEMENT.size * len(items)
        for key, value, flags in items:
            elements.append(_LEAF_ELEMENT.pack(flags, at, len(key), len(value)))
            # Positions count from the element, which is one further on each time.
            at += len(key) + len(value) - _LEAF_ELEMENT.size
        return self._add(_LEAF, len(items), b"".join(elements) + b"".join(key + value for key, value, _ in items))

    def _branch(self, children: list[tuple[bytes, int]]) -> int:
        elements, at = [], _BRANCH_ELEMENT.size * len(children)
        for key, page in children:
            elements.append(_BRANCH_ELEMENT.pack(at, len(key), page))
            at += len(key) - _BRANCH_ELEMENT.size
        return self._add(_BRANCH, len(children), b"".join(elements) + b"".join(key for key, _ in children))

    def _add(self, kind: int, count: int, body: bytes) -> int:
        number, size = self.next, _HEADER.size + len(body)
        overflow = (size - 1) // PAGE
        self.pages.append((_HEADER.pack(number, kind, count, overflow) + body).ljust((overflow + 1) * PAGE, b"\0"))
        self.next += overflow + 1
        return number


def _root(data: bytes) -> int:
    """The page of the tree of buckets. Raises BoltError."""
    best: tuple[int, int] | None = None
    for start in (0, PAGE):
        if len(data) < start + PAGE:
            raise BoltError("it is too short to be a database of etcd")
        body = data[start + _HEADER.size : start + _HEADER.size + _META.size]
        magic, version, page_size, _, root, _, _, pages, number = _META.unpack(body)
        (checksum,) = _CHECKSUM.unpack_from(data, start + _HEADER.size + _META.size)
        if magic == _MAGIC and version == _VERSION and checksum == _fnv(body) and (best is None or number > best[1]):
            if page_size != PAGE:
                raise BoltError(f"its pages have {page_size} bytes; only those of {PAGE} are read")
            if pages * PAGE > len(data):
                raise BoltError(f"it is cut off: {len(data)} bytes of {pages * PAGE}")
            best = root, number
    if best is None:
        raise BoltError("it is not a database of etcd, or its first pages are damaged")
    return best[0]


def _walk(data: bytes, number: int, depth: int) -> Iterator[tuple[bytes, bytes, int]]:
    start = number * PAGE
    if depth > _MAX_DEPTH or number < 2 or start + PAGE > len(data) or _HEADER.unpack_from(data, start)[0] != number:
        raise BoltError(f"page {number} is damaged")
    yield from _page(data, start, data, depth)


def _page(held: bytes, start: int, data: bytes, depth: int) -> Iterator[tuple[bytes, bytes, int]]:
    """The items of the page at `start` of `held` (the file, or a bucket that lies inside another page) and below."""
    try:
        _, kind, count, _ = _HEADER.unpack_from(held, start)
        for index in range(count):
            if kind & _BRANCH:
                at = start + _HEADER.size + index * _BRANCH_ELEMENT.size
                yield from _walk(data, _BRANCH_ELEMENT.unpack_from(held, at)[2], depth + 1)
            elif kind & _LEAF:
                at = start + _HEADER.size + index * _LEAF_ELEMENT.size
                flags, position, key_size, value_size = _LEAF_ELEMENT.unpack_from(held, at)
                middle = at + position + key_size
                if middle + value_size > len(held):
                    raise BoltError(f"an item at offset {at} goes beyond the end")
                yield held[at + position : middle], held[middle : middle + value_size], flags
            else:
                raise BoltError(f"the page at offset {start} is neither branch nor leaf")
    except struct.error:
        raise BoltError(f"the page at offset {start} is cut off") from None
