"""What members say to each other. `sender` and `to` come from the connection; everything else travels (see :mod:`.codec`).

`term` is the sender's term, except in :class:`PreVote` and a granted :class:`PreVoteReply`, where it is the term of the election that might follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubeling.etcdlite.consensus.types import Entry, SnapshotMark


@dataclass(slots=True)
class Message:
    """What all messages have."""

    sender: int
    to: int
    term: int


@dataclass(slots=True)
class PreVote(Message):
    """Would you vote for me in `term`? Changes nothing at the receiver."""

    last_index: int
    last_term: int


@dataclass(slots=True)
class PreVoteReply(Message):
    """`term` is the asked one where it is granted, else the sender's own."""

    granted: bool


@dataclass(slots=True)
class Vote(Message):
    """Vote for me. With `transfer` the leader itself asked for this election, so that its followers need not stick to it."""

    last_index: int
    last_term: int
    transfer: bool


@dataclass(slots=True)
class VoteReply(Message):
    """The answer, once it is on disk."""

    granted: bool


@dataclass(slots=True)
class Append(Message):
    """Entries behind `prev_index`. Without entries it asks whether the receiver has everything up to there."""

    prev_index: int
    prev_term: int
    commit: int
    entries: tuple[Entry, ...]


@dataclass(slots=True)
class AppendReply(Message):
    """Accepted: all up to `index` is on the sender's disk and equal to the leader's. Refused: it lacks entry `index`; its own log
    may agree with the leader's up to `hint_index`, which is of `hint_term`. A `recovering` member's word does not count for a quorum."""

    index: int
    accepted: bool
    hint_index: int
    hint_term: int
    recovering: bool


@dataclass(slots=True)
class Heartbeat(Message):
    """The leader lives. `round` numbers the rounds by which it makes sure that it still leads; `commit` is no more than the receiver is known to have."""

    commit: int
    round: int


@dataclass(slots=True)
class HeartbeatReply(Message):
    """`index` is up to where the sender's log is known, to the sender, to be that of the leader of this term."""

    round: int
    index: int
    recovering: bool


@dataclass(slots=True)
class InstallSnapshot(Message):
    """Given to the core when a snapshot that was shipped is whole and sound at the receiver. Its data do not pass through the core."""

    mark: SnapshotMark


@dataclass(slots=True)
class TimeoutNow(Message):
    """Become a candidate at once: the leader hands over."""


@dataclass(slots=True)
class ReadIndex(Message):
    """A follower asks up to where it must have applied for a read that comes now."""

    id: int


@dataclass(slots=True)
class ReadIndexReply(Message):
    """The answer."""

    id: int
    index: int


@dataclass(slots=True)
class Forward(Message):
    """A proposal on its way to the leader; it may get lost."""

    data: bytes


@dataclass(slots=True)
class Recover(Message):
    """A member whose disk was lost asks the leader from where on its word may count again. `nonce` is of this start of it."""

    nonce: int


@dataclass(slots=True)
class RecoverReply(Message):
    """The sender led `term` after the question was asked, as all others confirmed; who has all up to `index` from it or a later leader has recovered."""

    nonce: int
    index: int


@dataclass(slots=True)
class Stale(Message):
    """Your message was of a term that is over; this is mine."""
