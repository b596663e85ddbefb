"""The vocabulary of the consensus core: entries, configurations, what comes in and what goes out.

Members are numbers (u64, never 0). An entry's data begin with a byte that says what it is; see :class:`Kind`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from kubeling.etcdlite.consensus.messages import Message


class Kind(IntEnum):
    """The first byte of an entry's data."""

    #: The application's own.
    NORMAL = 0
    #: Nothing. Former versions began each term with one.
    EMPTY = 1
    #: The members from here on, whole (see :mod:`.configuration`). Each leader begins its term with one that repeats what is.
    CONFIGURATION = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the replicated log."""

    index: int
    term: int
    data: bytes


@dataclass(frozen=True, slots=True)
class HardState:
    """What a member must never forget: its term, and for whom it voted in it (0: nobody)."""

    term: int
    vote: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds and limits."""

    heartbeat: float = 0.1
    #: The least election time-out; each is drawn between this and twice this.
    election: float = 1.0
    max_append_bytes: int = 1 << 20
    max_append_entries: int = 1024
    #: What may be on its way to one follower, unacknowledged.
    max_inflight_bytes: int = 16 << 20
    max_inflight_messages: int = 128
    #: What a leader takes on that is not committed yet, and what any member takes on that is not on its disk yet. Beyond that proposals and appends are refused.
    max_pending_bytes: int = 64 << 20
    #: Committed entries are handed out in portions of about this size.
    max_apply_bytes: int = 4 << 20
    #: Linearizable reads that wait, own and those of followers, each.
    max_reads: int = 10_000
    max_members: int = 64
    #: Messages that wait for the disk. What is beyond is dropped, as a network would.
    max_held_messages: int = 10_000
    #: A learner may be promoted when it lacks no more entries than this.
    promote_lag: int = 100
    #: Entries that a compaction leaves in memory, for followers that are only a little behind.
    keep_entries: int = 2000
    keep_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True)
class ReadReady:
    """A read that was asked for is linearizable as soon as this index is applied here."""

    id: int
    index: int


@dataclass(slots=True)
class Output:
    """What the caller has to do; see the package's docstring for the order."""

    sequence: int
    install: SnapshotMark | None = None
    hard_state: HardState | None = None
    entries: list[Entry] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    committed: list[Entry] = field(default_factory=list)
    reads: list[ReadReady] = field(default_factory=list)
    snapshots_for: list[int] = field(default_factory=list)
    #: Proposals that were refused, or that went to a leader that is gone, should be made again.
    repropose: bool = False
    #: A member whose disk was lost has everything again; the mark that says so on disk may go, once this output is persisted.
    recovered: bool = False

    @property
    def must_write(self) -> bool:
        """Whether there is anything to put on disk."""
        return self.hard_state is not None or bool(self.entries) or self.install is not None


@dataclass(frozen=True, slots=True)
class SnapshotMark:
    """What a snapshot covers: all entries up to `index`, which is of `term`; and `configuration`, encoded, as of there."""

    index: int
    term: int
    configuration: bytes
