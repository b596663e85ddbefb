"""Objects in a form that is dear to make (protobuf), kept for those who ask for the same next: an object is encoded once a revision, whoever lists it.

What is kept is bounded, the oldest goes first, and all of it goes when nobody has asked for a while: most clusters have no client that wants it.
"""

from __future__ import annotations

from kubeling.apiserver.cache.entry import Entry

MAX_BYTES = 16 * 1024 * 1024


class Encodings:
    """Of the objects of one kind. A variant names the form, version and kind that they were brought into."""

    __slots__ = ("_bytes", "_found", "_idle")

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._bytes = 0
        self._idle = 0

    def get(self, variant: str, entry: Entry) -> bytes | None:
        """The encoding of that very state of the object."""
        self._idle = 0
        found = self._found.get((variant, entry.key))
        return found[1] if found is not None and found[0] == entry.revision else None

    def put(self, variant: str, entry: Entry, raw: bytes) -> None:
        """Keep the encoding, in place of that of another state."""
        found = self._found
        key = (variant, entry.key)
        self._bytes += len(raw) - len(found.pop(key, (0, b""))[1])
        found[key] = (entry.revision, raw)
        while self._bytes > MAX_BYTES:
            self._bytes -= len(found.pop(next(iter(found)))[1])

    def clear(self) -> None:
        """Forget all."""
        self._found = {}
        self._bytes = 0

    def age(self) -> None:
        """To be called once a minute: forgets all if nobody has asked for anything since the last but one call."""
        self._idle += 1
        if self._idle > 1 and self._found:
            self.clear()
