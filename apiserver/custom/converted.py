"""Converted objects, kept for a while: who reads in a version that is not stored does not ask the webhook for the same object twice.

A state of an object is known by its uid and revision. What is kept is bounded in number and size; a changed definition begins anew.
"""

from __future__ import annotations

from collections import OrderedDict

import orjson

from kubeling.api.meta import Object, metadata_of, resource_version_of, uid_of

MAX_OBJECTS = 2000
MAX_BYTES = 8 * 1024 * 1024
Key = tuple[str, str, str]


class Converted:
    """The memory of one kind."""

    def __init__(self) -> None:
        self._found: OrderedDict[Key, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, obj: Object, group_version: str) -> Object | None:
        """The object in that version, a copy of one's own; None where it is not known."""
        key = (uid_of(obj), resource_version_of(obj), group_version)
        raw = self._found.get(key)
        if raw is None:
            return None
        self._found.move_to_end(key)
        found: Object = orjson.loads(raw)
        return found

    def put(self, obj: Object, converted: Object) -> None:
        """Remember what became of a stored object."""
        if not metadata_of(obj).get("resourceVersion"):
            return
        key, raw = (uid_of(obj), resource_version_of(obj), converted["apiVersion"]), orjson.dumps(converted)
        self._bytes += len(raw) - len(self._found.pop(key, b""))
        self._found[key] = raw
        while len(self._found) > MAX_OBJECTS or self._bytes > MAX_BYTES:
            _, dropped = self._found.popitem(last=False)
            self._bytes -= len(dropped)
