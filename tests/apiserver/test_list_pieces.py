"""A list is made in pieces while it is sent: they add up to what was announced, and to JSON."""

from __future__ import annotations

import json

import pytest

from kubeling.apiserver.cache.entry import Entry, encode, head_of
from kubeling.apiserver.handlers import read

HEAD = head_of("v1", "ConfigMap")


def _entries(count: int, size: int) -> list[Entry]:
    made = []
    for at in range(count):
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{at}"}, "data": {"é": "x" * (size + at % 7)}}
        made.append(Entry(f"/registry/configmaps/d/c{at}", encode(obj), 10 ** (at % 9) + at, {}, {}))
    return made


@pytest.mark.parametrize("inner", [b'{"metadata":{', HEAD], ids=["built-in", "custom"])
@pytest.mark.parametrize(("count", "size"), [(0, 0), (1, 10), (2, 70_000), (300, 1000), (1000, 200)])
def test_the_pieces_of_a_list_add_up(count: int, size: int, inner: bytes):
    entries = _entries(count, size)
    opening = b'{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":['
    pieces = list(read._items(opening, entries, len(HEAD), inner))
    whole = b"".join(pieces)
    assert len(whole) == read._length(opening, entries, len(HEAD), inner)
    items = json.loads(whole)["items"]
    assert [each["metadata"]["resourceVersion"] for each in items] == [str(each.revision) for each in entries]
    assert [each["metadata"]["name"] for each in items] == [f"c{at}" for at in range(count)]
    assert all(len(each) < 96 * 1024 + size for each in pieces)
    assert len(pieces) == 1 or len(whole) > 64 * 1024
