"""The log in memory: entries behind the newest snapshot, how far they are on disk, and the configurations among them.

What is on disk is known by markers: each write that the caller takes is remembered as (sequence, last index) and counts once that sequence is reported. A
cut lowers the markers too, so that a late report about entries that are gone says nothing about those in their place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

from kubeling.etcdlite.consensus.configuration import Configuration, decode_configuration
from kubeling.etcdlite.consensus.errors import Diverged
from kubeling.etcdlite.consensus.types import Entry, Kind

_CONFIGURATION = bytes((Kind.CONFIGURATION,))


class Log:
    """Indexes run on without gaps from `base_index`, the last one that the snapshot covers (the entries that :meth:`trim` keeps lie above it)."""

    def __init__(self, base_index: int, base_term: int, configuration: Configuration, entries: list[Entry]) -> None:
        self.base_index, self.base_term = base_index, base_term
        self._entries: list[Entry] = []
        #: The bytes of all entries up to each position, so that a stretch of them is measured by two look-ups.
        self._ends: list[int] = []
        self._configurations: list[tuple[int, Configuration]] = [(base_index, configuration)]
        self._markers: deque[tuple[int, int]] = deque()
        for entry in entries:
            self.append(entry)
        self.durable = self.last_index
        self._unstable = self.last_index + 1

    # Looking.

    @property
    def last_index(self) -> int:
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.base_term

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or None where it is not here (any more, or yet)."""
        position = index - self.base_index - 1
        if 0 <= position < len(self._entries):
            return self._entries[position].term
        return self.base_term if position == -1 else None

    def slice(self, first: int, max_bytes: int, max_entries: int) -> list[Entry]:
        """Entries from `first` on, at least one if there is one, and no more than the limits allow."""
        start = first - self.base_index - 1
        before = self._ends[start - 1] if start > 0 else 0
        stop = bisect_right(self._ends, before + max_bytes, lo=start)
        return self._entries[start : max(start + 1, min(stop, start + max_entries))]

    def size(self, after: int, until: int) -> int:
        """Bytes of the entries with after < index <= until."""
        return self._end(until) - self._end(after)

    def _end(self, index: int) -> int:
        position = min(index - self.base_index - 1, len(self._ends) - 1)
        return self._ends[position] if position >= 0 else 0

    def agreeing(self, index: int, term: int) -> tuple[int, int]:
        """The last index up to `index` whose term is not above `term`, and its term: where a log of that shape may agree with this one at best."""
        high = min(index, self.last_index) - self.base_index
        position = bisect_right(self._entries, term, hi=max(0, high), key=lambda entry: entry.term)
        return (
            (self.base_index, self.base_term) if position == 0 else (self.base_index + position, self._entries[position - 1].term)
        )

    # Configurations.

    @property
    def configuration(self) -> Configuration:
        """The newest in the log: a configuration counts from the moment it is appended."""
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        return self._configurations[-1][0]

    def configuration_at(self, index: int) -> Configuration:
        """The one in effect for `index`."""
        return next(configuration for at, configuration in reversed(self._configurations) if at <= index)

    def configurations_since(self, index: int) -> list[Configuration]:
        """The one in effect for `index`, and all later ones."""
        start = max(position for position, (at, _) in enumerate(self._configurations) if at <= index)
        return [configuration for _, configuration in self._configurations[start:]]

    # Changing.

    def append(self, entry: Entry) -> None:
        if entry.index != self.last_index + 1:
            raise Diverged(f"entry {entry.index} cannot follow entry {self.last_index}")
        self._ends.append((self._ends[-1] if self._ends else 0) + len(entry.data))
        self._entries.append(entry)
        if entry.data[:1] == _CONFIGURATION:
            self._configurations.append((entry.index, decode_configuration(entry.data)))

    def cut(self, index: int) -> None:
        """Drop the entries from `index` on, and the configurations among them."""
        position = index - self.base_index - 1
        del self._entries[position:], self._ends[position:]
        while self._configurations[-1][0] >= index:
            self._configurations.pop()
        self.durable = min(self.durable, index - 1)
        self._unstable = min(self._unstable, index)
        self._markers = deque((sequence, min(last, index - 1)) for sequence, last in self._markers)

    def trim(self, index: int, keep_entries: int, keep_bytes: int) -> None:
        """A snapshot covers all up to `index`: forget them, but for the newest of them, which a follower may still need."""
        oldest = bisect_right(self._ends, self._end(index) - keep_bytes)
        position = min(max(oldest, index - self.base_index - keep_entries), index - self.base_index, len(self._entries))
        if position <= 0:
            return
        configuration = self.configuration_at(self.base_index + position)
        gone = self._ends[position - 1]
        self.base_term = self._entries[position - 1].term
        self.base_index += position
        del self._entries[:position]
        self._ends = [end - gone for end in self._ends[position:]]
        later = [pair for pair in self._configurations if pair[0] > self.base_index]
        self._configurations = [(self.base_index, configuration), *later]

    def restart(self, index: int, term: int, configuration: Configuration) -> None:
        """Begin anew behind a snapshot; nothing counts as on disk until it is reported."""
        self.base_index, self.base_term = index, term
        self._entries, self._ends = [], []
        self._configurations = [(index, configuration)]
        self._markers.clear()
        self.durable = 0
        self._unstable = index + 1

    # The disk.

    @property
    def has_unstable(self) -> bool:
        """Whether there are entries that the caller has not been given to write."""
        return self._unstable <= self.last_index

    def take_unstable(self, sequence: int) -> list[Entry]:
        """What is to be written with that sequence number."""
        taken = self._entries[self._unstable - self.base_index - 1 :]
        self._unstable = self.last_index + 1
        self._markers.append((sequence, self.last_index))
        return taken

    def sequence_of(self, index: int) -> int | None:
        """The write with which `index` gets to disk: 0 where it is there, None where that one is not taken yet."""
        if index <= self.durable:
            return 0
        return next((sequence for sequence, last in self._markers if last >= index), None)

    def persisted(self, sequence: int) -> None:
        """All writes up to that number are on disk."""
        while self._markers and self._markers[0][0] <= sequence:
            self.durable = max(self.durable, self._markers.popleft()[1])
