"""bbolt database files, as far as snapshots of etcd need them: made page by page from sorted items, and read.

A file is pages of 4 KiB: two meta pages (the one with the higher transaction id counts), a list of free pages, and B+ trees of branch and leaf pages, one for
each bucket; a tree of buckets' roots holds them together. Numbers are little-endian. A page that is larger than 4 KiB goes on in those behind it.
The format is described by its page structures (header: id u64, flags u16, count u16, overflow u32) in bbolt's documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

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


class Database:
    """The file that holds `buckets`, made while it is read: only where each page will lie is found beforehand.

    The items of a bucket are in the order of their keys, and are gone through twice, the same both times.
    """

    def __init__(self, buckets: Mapping[bytes, Iterable[Item]]) -> None:
        self._trees: list[_Tree] = []
        roots: list[Item] = []
        page = 3
        for name, items in sorted(buckets.items()):
            tree = _Tree(items, page, 0)
            if tree.leaves:
                self._trees.append(tree)
                page = tree.end
                roots.append((name, _BUCKET.pack(tree.root, 0)))
            else:
                # An empty one is a page inside of the tree of buckets.
                roots.append((name, _BUCKET.pack(0, 0) + _HEADER.pack(0, _LEAF, 0, 0)))
        top = _Tree(roots, page, _IS_BUCKET)
        self._trees.append(top)
        self._root, self._pages = top.root, top.end

    @property
    def size(self) -> int:
        """How many bytes the file has."""
        return self._pages * PAGE

    def __iter__(self) -> Iterator[bytes]:
        yield _meta(0, self._root, self._pages)
        yield _meta(1, self._root, self._pages)
        yield _HEADER.pack(2, _FREELIST, 0, 0).ljust(PAGE, b"\0")
        for tree in self._trees:
            yield from tree.pages()


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


#: A page as the one above it knows it: its first key, its number.
_Child = tuple[bytes, int]


class _Tree:
    """One B+ tree from page `start` on, the leaves first; `root` is the last page's number, `end` that of the first page behind it. Every item gets `flags`."""

    def __init__(self, items: Iterable[Item], start: int, flags: int) -> None:
        self._items, self._start, self._flags = items, start, flags
        self.end = start
        self._counts: list[int] = []
        self._levels: list[list[list[_Child]]] = []
        self.leaves = level = self._plan_leaves()
        while len(level) > 1:
            level = self._plan_branches(level)
        if not level:
            self._counts, level = [0], [(b"", start)]
            self.end += 1
        self.root = level[0][1]

    def _plan_leaves(self) -> list[_Child]:
        level: list[_Child] = []
        count, size, first = 0, _HEADER.size, b""
        for key, value in self._items:
            need = _LEAF_ELEMENT.size + len(key) + len(value)
            if count and size + need > PAGE:
                level.append((first, self._place(size)))
                self._counts.append(count)
                count, size = 0, _HEADER.size
            if not count:
                first = key
            count += 1
            size += need
        if count:
            level.append((first, self._place(size)))
            self._counts.append(count)
        return level

    def _plan_branches(self, below: list[_Child]) -> list[_Child]:
        above: list[_Child] = []
        groups: list[list[_Child]] = [[]]
        size = _HEADER.size
        for child in below:
            need = _BRANCH_ELEMENT.size + len(child[0])
            # A branch has two children at least, however long the keys are: so each level is smaller than the one below.
            if len(groups[-1]) > 1 and size + need > PAGE:
                above.append((groups[-1][0][0], self._place(size)))
                groups.append([])
                size = _HEADER.size
            groups[-1].append(child)
            size += need
        above.append((groups[-1][0][0], self._place(size)))
        self._levels.append(groups)
        return above

    def _place(self, size: int) -> int:
        number = self.end
        self.end += (size - 1) // PAGE + 1
        return number

    def pages(self) -> Iterator[bytes]:
        """The pages in the order of their numbers."""
        number = self._start
        items = iter(self._items)
        for count in self._counts:
            page = self._leaf(number, list(islice(items, count)))
            yield page
            number += len(page) // PAGE
        for groups in self._levels:
            for children in groups:
                page = _branch(number, children)
                yield page
                number += len(page) // PAGE

    def _leaf(self, number: int, items: list[Item]) -> bytes:
        elements, at = [], _LEAF_ELEMENT.size * len(items)
        for key, value in items:
            elements.append(_LEAF_ELEMENT.pack(self._flags, at, len(key), len(value)))
            # Positions count from the element, which is one further on each time.
            at += len(key) + len(value) - _LEAF_ELEMENT.size
        return _filled(number, _LEAF, len(items), b"".join(elements) + b"".join([key + value for key, value in items]))


def _branch(number: int, children: list[_Child]) -> bytes:
    elements, at = [], _BRANCH_ELEMENT.size * len(children)
    for key, page in children:
        elements.append(_BRANCH_ELEMENT.pack(at, len(key), page))
        at += len(key) - _BRANCH_ELEMENT.size
    return _filled(number, _BRANCH, len(children), b"".join(elements) + b"".join([key for key, _ in children]))


def _filled(number: int, kind: int, count: int, body: bytes) -> bytes:
    overflow = (_HEADER.size + len(body) - 1) // PAGE
    return (_HEADER.pack(number, kind, count, overflow) + body).ljust((overflow + 1) * PAGE, b"\0")


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
