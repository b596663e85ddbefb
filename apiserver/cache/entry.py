"""One object in the cache: the stored JSON as bytes, and the little of it that selectors look at.

The stored JSON always begins with apiVersion, kind and metadata, and has no resourceVersion, which only the store knows. So what goes out on the wire is
made by inserting `"resourceVersion":"N",` at a fixed offset: no parsing, no encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

Object = dict[str, Any]
#: From a decoded object to the fields that field selectors may name.
Fields = Callable[[Object], Mapping[str, str]]
#: Brings a stored object, in place, into the form that is served; says whether anything changed.
Settle = Callable[[Object], bool]


def head_of(api_version: str, kind: str) -> bytes:
    """How every stored object of a kind begins."""
    return b'{"apiVersion":%b,"kind":%b,"metadata":{' % (orjson.dumps(api_version), orjson.dumps(kind))


def encode(obj: Object) -> bytes:
    """An object as it is stored: head first, no resourceVersion."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    ordered = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}
    ordered.update((key, value) for key, value in obj.items() if key not in ordered)
    return orjson.dumps(ordered)


def with_revision(raw: bytes, head: bytes, revision: int) -> bytes:
    """What a client gets for a stored object."""
    return b'%b"resourceVersion":"%d",%b' % (head, revision, raw[len(head) :])


def decode(raw: bytes, revision: int) -> Object:
    """A stored object as a dict, resourceVersion included."""
    obj: Object = orjson.loads(raw)
    obj["metadata"]["resourceVersion"] = str(revision)
    return obj


class Entry:
    """The newest (or, in an event, the previous) state of one object. `altered`: the store holds it in another form."""

    __slots__ = ("altered", "fields", "key", "labels", "raw", "revision")

    def __init__(
        self, key: str, raw: bytes, revision: int, labels: Mapping[str, str], fields: Mapping[str, str], altered: bool = False
    ) -> None:
        self.altered = altered
        self.key = key
        self.raw = raw
        self.revision = revision
        self.labels = labels
        self.fields = fields

    @property
    def namespace(self) -> str:
        return self.fields.get("metadata.namespace", "")

    @property
    def name(self) -> str:
        return self.fields.get("metadata.name", "")

    def object(self) -> Object:
        """A fresh dict that the caller may change."""
        return decode(self.raw, self.revision)


def make_entry(key: str, raw: bytes, revision: int, head: bytes, fields: Fields, settle: Settle | None = None) -> Entry:
    """An entry from what the store holds; a value with another layout (written by other hands), or of an older schema, is encoded anew."""
    obj = orjson.loads(raw)
    altered = settle is not None and settle(obj)
    if altered or not raw.startswith(head):
        raw = encode(obj)
    metadata = obj["metadata"]
    return Entry(key, raw, revision, metadata.get("labels") or {}, fields(obj), altered)
