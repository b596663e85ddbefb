"""The log that PySyncObj works on: entries in memory for replication, each also gathered for the durable journal.

PySyncObj cuts its log at the place where a leader's entries begin, and adds them again, even when they are the same and already applied. Here a
cut is provisional: an identical entry that is added again just stays, what is not added again comes back at :meth:`RaftLog.settle`, and only an
entry that really differs ends the old tail, on disk too. One that would replace an applied entry raises :class:`Diverged`: better no member than a wrong one.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from kubeling.etcdlite.journal import Entry, Journal

#: PySyncObj's marks for what an entry is: the first byte of its command. Batches begin with REGULAR themselves.
REGULAR = b"\x00"
NO_OP = b"\x01"

Item = tuple[bytes, int, int]


class Diverged(Exception):
    """The leader's log contradicts what this member has applied."""


class RaftLog:
    """PySyncObj's journal interface. Items are (command, index, term); the first is the last entry that a snapshot covers."""

    def __init__(self, journal: Journal, base_index: int, base_term: int, entries: list[Entry]) -> None:
        self._journal = journal
        self._items: list[Item] = [(NO_OP, base_index, base_term)]
        self._items += [(entry.data, entry.index, entry.term) for entry in entries]
        self._tail: deque[Item] = deque()
        self.applied_index = base_index

    # What PySyncObj calls.

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, where: Any) -> Any:
        return self._items[where]

    def add(self, command: bytes, index: int, term: int) -> None:
        if self._tail:
            if self._tail[0][1:] == (index, term):
                self._items.append(self._tail.popleft())
                return
            if self._tail[0][1] <= self.applied_index:
                raise Diverged(f"entry {index} of term {term} would replace an applied entry of term {self._tail[0][2]}")
            self._tail.clear()
        if index != self._items[-1][1] + 1:
            raise Diverged(f"entry {index} cannot follow entry {self._items[-1][1]}")
        self._items.append((command, index, term))
        self._journal.add_entry(index, term, command)

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802
        self._tail.extendleft(reversed(self._items[position:]))
        del self._items[position:]

    def deleteEntriesTo(self, position: int) -> None:  # noqa: N802
        del self._items[:position]

    def clear(self) -> None:
        self._items.clear()
        self._tail.clear()

    def setCurrentTerm(self, term: int, vote: int | None) -> None:  # noqa: N802
        self._journal.set_vote(term, vote or 0)

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._journal.term

    def getVotedForNodeId(self) -> int | None:  # noqa: N802
        return self._journal.vote or None

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        """Not kept: a member that starts learns it from the leader."""

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        return self.applied_index

    def onOneSecondTimer(self) -> None:  # noqa: N802
        """Nothing is put off until a timer."""

    # What the engine calls.

    def settle(self) -> None:
        """A message is handled: what was cut and is not contradicted is still there."""
        self._items.extend(self._tail)
        self._tail.clear()

    def after(self, index: int, until: int) -> list[Item]:
        """The items with index < theirs <= until."""
        first = self._items[0][1]
        return self._items[index + 1 - first : until + 1 - first]

    def slice(self, first: int, size: int) -> list[Item]:
        """The items from `first` on, about `size` bytes of them."""
        start = at = first - self._items[0][1]
        while at < len(self._items) and size > 0:
            size -= len(self._items[at][0])
            at += 1
        return self._items[start:at]

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or None where it is not in the log."""
        position = index - self._items[0][1]
        return int(self._items[position][2]) if 0 <= position < len(self._items) else None

    def trim(self, index: int, keep: int) -> None:
        """Entries up to `index` are in a snapshot: forget them, but for the `keep` newest, which a follower may still need."""
        position = index - keep - self._items[0][1]
        if position > 0:
            del self._items[:position]

    def restart(self, index: int, term: int) -> None:
        """Begin anew after a snapshot that came from the leader."""
        self._tail.clear()
        self._items = [(NO_OP, index, term)]
        self.applied_index = index
        self._journal.start_after(index, term)
