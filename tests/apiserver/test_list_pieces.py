"""A list is made in pieces while it is sent: they add up to what was announced, and to JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import yaml

from kubeling.api import protobuf
from kubeling.api import resources as r
from kubeling.apiserver import render
from kubeling.apiserver.cache.entry import Entry, encode, head_of
from kubeling.apiserver.handlers import lists
from kubeling.apiserver.negotiate import Output
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.rules import rules_of

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
    pieces = list(lists.batched(lists._items(opening, entries, len(HEAD), inner)))
    whole = b"".join(pieces)
    assert len(whole) == lists._length(opening, entries, len(HEAD), inner)
    items = json.loads(whole)["items"]
    assert [each["metadata"]["resourceVersion"] for each in items] == [str(each.revision) for each in entries]
    assert [each["metadata"]["name"] for each in items] == [f"c{at}" for at in range(count)]
    assert all(len(each) < 96 * 1024 + size for each in pieces)
    assert len(pieces) == 1 or len(whole) > 64 * 1024


SERVED = Served(r.CONFIG_MAPS, r.CONFIG_MAPS, None, rules_of(r.CONFIG_MAPS, r.CONFIG_MAPS))
METADATA = {"resourceVersion": "7", "continue": "abc", "remainingItemCount": 3}
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_yaml_object_by_object_is_yaml_of_the_whole(count: int):
    objects = [each.object() for each in _entries(count, 50)]
    for transform, kind in (("", "ConfigMapList"), ("PartialObjectMetadata", "PartialObjectMetadataList")):
        output = Output("yaml", transform, "v1")
        shown = [render.partial(output, each) for each in objects] if transform else objects
        version = "meta.k8s.io/v1" if transform else "v1"
        whole = {"kind": kind, "apiVersion": version, "metadata": METADATA, "items": shown}
        text = b"".join(render.pieces(output, SERVED, objects, METADATA, NOW)).decode()
        assert text == yaml.dump(whole, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), allow_unicode=True)


@pytest.mark.parametrize("count", [0, 1, 2, 300, 3000])
def test_protobuf_of_a_list_is_made_of_its_objects(count: int):
    objects = [each.object() for each in _entries(count, 50)]
    output = Output("protobuf")
    pieces, length = render.protobuf_list(output, SERVED, [render.protobuf_item(output, each) for each in objects], METADATA)
    whole = b"".join(pieces)
    assert len(whole) == length
    assert whole == protobuf.encode({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": METADATA, "items": objects})


@pytest.mark.parametrize("include", ["", "Object", "None"])
def test_a_table_row_by_row_is_the_table(include: str):
    objects = [each.object() for each in _entries(3, 50)]
    output = Output("json", "Table", "v1beta1")
    made = json.loads(b"".join(render.pieces(output, SERVED, objects, METADATA, NOW, include)))
    assert made == json.loads(json.dumps(render.table(output, SERVED, objects, METADATA, include, NOW)))
    assert len(made["rows"]) == 3
