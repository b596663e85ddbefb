"""The disk of one member: a log, a vote and a snapshot, and writes on their way to it."""

from __future__ import annotations

import random
from collections import deque

from kubeling.etcdlite.consensus.configuration import Configuration, decode_configuration
from kubeling.etcdlite.consensus.core import Start
from kubeling.etcdlite.consensus.types import Entry, HardState, Output, SnapshotMark

#: A snapshot: what it covers, and the state itself.
Snapshot = tuple[SnapshotMark, "tuple[int, ...]"]


class Disk:
    """Writes are begun in order, and are there after :meth:`sync`, or after a crash as far as chance has it."""

    def __init__(self, configuration: Configuration | None = None) -> None:
        self.first = configuration or Configuration()
        self.hard_state = HardState(0, 0)
        #: The journal: entries by index, which may contradict a snapshot that has just been renamed into place.
        self.entries: dict[int, Entry] = {}
        self.snapshot: Snapshot | None = None
        self.pending: deque[tuple[Output, Snapshot | None]] = deque()
        #: Up to which write everything is here.
        self.sequence = 0

    def begin(self, output: Output, shipped: Snapshot | None) -> None:
        self.pending.append((output, shipped))

    def sync(self) -> int:
        """All that was begun is on stable storage."""
        while self.pending:
            output, shipped = self.pending.popleft()
            self._install(shipped)
            self._journal(output)
        return self.sequence

    def crash(self, rand: random.Random) -> None:
        """Some of what was begun is there: the first few writes, and of an install perhaps only the renamed snapshot."""
        for _ in range(rand.randint(0, len(self.pending))):
            output, shipped = self.pending.popleft()
            self._install(shipped)
            if shipped is not None and rand.random() < 0.5:
                break
            self._journal(output)
        self.pending.clear()
        self.sequence = 0

    def _install(self, shipped: Snapshot | None) -> None:
        if shipped is not None:
            self.snapshot = shipped

    def _journal(self, output: Output) -> None:
        self.sequence = output.sequence
        if output.install is not None:
            self.entries.clear()
        if output.hard_state is not None:
            self.hard_state = output.hard_state
        if output.entries:
            first = output.entries[0].index
            for index in [index for index in self.entries if index >= first]:
                del self.entries[index]
            for entry in output.entries:
                self.entries[entry.index] = entry

    def save(self, snapshot: Snapshot, release: bool) -> None:
        """Keep a snapshot of the member's own, durable at once; with `release` the journal below goes, else it stays until another time."""
        self.snapshot = snapshot
        if release:
            for index in [index for index in self.entries if index <= snapshot[0].index]:
                del self.entries[index]

    def holds(self, index: int, term: int) -> bool:
        """Whether that committed entry would be here after a crash."""
        if self.snapshot is not None and index <= self.snapshot[0].index:
            return True
        entry = self.entries.get(index)
        return entry is not None and entry.term == term

    def load(self, recovering: bool) -> Start:
        """What a member that starts finds."""
        if self.snapshot is None:
            base, term, configuration = 1, 0, self.first
        else:
            mark = self.snapshot[0]
            base, term, configuration = mark.index, mark.term, decode_configuration(mark.configuration)
            covered = self.entries.get(base)
            if (covered is not None and covered.term != term) or (
                covered is None and any(index < base for index in self.entries)
            ):
                # A leader's snapshot, renamed into place before the journal could be begun anew: this journal is of another history.
                self.entries.clear()
        entries = [self.entries[index] for index in sorted(self.entries) if index > base]
        assert [entry.index for entry in entries] == list(range(base + 1, base + 1 + len(entries))), "the journal has a gap"
        return Start(self.hard_state, base, term, configuration, entries, recovering)
