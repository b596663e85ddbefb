"""What many objects have in common is kept once: pods of one template say the same of their containers, tolerations and volumes, and those that became ready in the same second, of their conditions.

Objects in an informer's copy are never changed in place, so parts that are equal can be one. A part is recognised by its JSON, which is cheap to make. It is taken into the pool when it is met
in a second object: what is of one alone (addresses, names of its own) stays out, however often that one changes. The pool has two generations and forgets what was not met for a whole one, so it is bounded.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubeling.client.store import Obj

#: Parts of a generation, and hashes of parts that were met once.
MOST_PARTS, MOST_SEEN, MOST_STRINGS = 4096, 8192, 8192
#: Larger parts are looked into, not kept as a whole. In bytes.
LARGEST = 8192
#: Fields whose text is said by many.
_COMMON = frozenset(
    {
        "apiVersion",
        "creationTimestamp",
        "dnsPolicy",
        "generateName",
        "hostIP",
        "image",
        "imageID",
        "imagePullPolicy",
        "kind",
        "mountPath",
        "namespace",
        "nodeName",
        "phase",
        "preemptionPolicy",
        "priorityClassName",
        "qosClass",
        "recursiveReadOnly",
        "restartPolicy",
        "schedulerName",
        "serviceAccount",
        "serviceAccountName",
        "startTime",
        "terminationMessagePath",
        "terminationMessagePolicy",
    }
)


class Sharing:
    """A transform for informers; what goes through one instance is shared. `managedFields` are left out as well."""

    def __init__(self) -> None:
        self._parts: dict[bytes, Any] = {}
        self._older: dict[bytes, Any] = {}
        #: Hash of a part that was met → hash of the uid of the object that it was met in.
        self._seen: dict[int, int] = {}
        self._object = 0
        self._strings: dict[str, str] = {}

    def __call__(self, obj: Obj) -> Obj:
        """The same object, with parts of others in it where they are equal."""
        metadata = obj["metadata"]
        metadata.pop("managedFields", None)
        self._object = hash(metadata.get("uid"))
        for name in ("metadata", "spec", "status"):
            part = obj.get(name)
            if part:
                self._look_into(part)
        return obj

    def _look_into(self, part: Obj) -> None:
        for key, value in part.items():
            kind = type(value)
            if kind is str:
                if key in _COMMON:
                    part[key] = self._string(value)
            elif kind is dict or kind is list:
                part[key] = self._shared(value)

    def _string(self, text: str) -> str:
        if len(self._strings) >= MOST_STRINGS:
            self._strings.clear()
        return self._strings.setdefault(text, text)

    def _shared(self, value: Any) -> Any:
        """The one of the pool that is equal, or this one, with what is in it shared."""
        key = orjson.dumps(value)
        found = self._parts.get(key)
        if found is not None:
            return found
        found = self._older.get(key)
        if found is None:
            if type(value) is dict:
                self._look_into(value)
            else:
                for at, each in enumerate(value):
                    if type(each) is dict:
                        value[at] = self._shared(each)
            if len(key) > LARGEST or not self._is_common(hash(key)):
                return value
            found = value
        if len(self._parts) >= MOST_PARTS:
            self._older, self._parts = self._parts, {}
        self._parts[key] = found
        return found

    def _is_common(self, key: int) -> bool:
        """Whether another object has said it before."""
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        return self._seen.setdefault(key, self._object) != self._object
