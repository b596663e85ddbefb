"""What a member is in any role: its term and vote, its log, what it has to send and write, and how it follows.

A message is held back until everything that it relies on is on disk: any message until the term and vote of its moment are, an acknowledgement of entries until
those are too. What is held when the term changes is dropped: it would speak for a log that may be cut before it leaves.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

from kubeling.etcdlite.consensus import messages as m
from kubeling.etcdlite.consensus.configuration import Configuration, decode_configuration
from kubeling.etcdlite.consensus.errors import Diverged
from kubeling.etcdlite.consensus.log import Log
from kubeling.etcdlite.consensus.reads import OwnReads
from kubeling.etcdlite.consensus.types import Entry, HardState, ReadReady, Settings, SnapshotMark


class Role(IntEnum):
    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


@dataclass(frozen=True, slots=True)
class Start:
    """What a member finds on its disk.

    `configuration` is the one as of `base_index`: that of the snapshot, or of the first start of a new cluster. A member that joins, or whose disk was
    emptied, has an empty one and learns it with the log. `recovering` says that this id took part before and has lost what it knew.
    """

    hard_state: HardState = field(default_factory=lambda: HardState(0, 0))
    base_index: int = 1
    base_term: int = 0
    configuration: Configuration = field(default_factory=Configuration)
    entries: list[Entry] = field(default_factory=list)
    recovering: bool = False


class Node:
    """The ground floor of :class:`.core.Core`."""

    def __init__(self, me: int, settings: Settings, start: Start, rand: random.Random, now: float) -> None:
        self.me = me
        self.settings = settings
        self.rand = rand
        self.now = now
        self.log = Log(start.base_index, start.base_term, start.configuration, start.entries)
        self.term = max(start.hard_state.term, self.log.last_term)
        self.vote = start.hard_state.vote if start.hard_state.term == self.term else 0
        self.role = Role.FOLLOWER
        #: Who leads, as far as this member knows; 0: unknown.
        self.leader = 0
        self.commit = start.base_index
        #: Up to where entries were handed out in :attr:`.types.Output.committed`.
        self.applied = start.base_index
        #: Up to where the log is known to be that of the leader of this term.
        self.verified = 0
        self.recovering = start.recovering
        self._nonce = rand.getrandbits(63) | 1
        self._recover_to: tuple[int, int] | None = None
        self._recover_asked = -math.inf
        self._heard = -math.inf
        self._election_due = math.inf
        self.own_reads = OwnReads(settings.max_reads, rand.getrandbits(62))
        self._ask_due = math.inf
        self._votes: set[int] = set()
        #: Elections since a leader was last known.
        self._campaigns = 0
        self._hard_dirty = False
        #: The write that made, or will make, the present term and vote durable.
        self._hard_sequence = 0
        self._sequence = 0
        self._persisted = 0
        self._outbox: list[m.Message] = []
        self._held: deque[tuple[int, m.Message]] = deque()
        self._install: SnapshotMark | None = None
        self._ready_reads: list[ReadReady] = []
        self._repropose = False
        self._recovered = False

    # How it stands.

    @property
    def is_leader(self) -> bool:
        return self.role is Role.LEADER

    @property
    def configuration(self) -> Configuration:
        """The members as they are, from the moment that their entry is in the log."""
        return self.log.configuration

    @property
    def electable(self) -> bool:
        """Whether this member may stand for election.

        One whose removal is not known to be committed may, since nobody else might have enough to win; its own vote does not count then (thesis 4.2.2).
        After a restart it may know neither of that nor of its having been added.
        """
        if self.recovering:
            return False
        return any(self.me in configuration.voters for configuration in self.log.configurations_since(self.commit))

    # Sending.

    def _send(self, message: m.Message, after: int = 0) -> None:
        """Send as soon as the write `after`, and that of the present term and vote, are on disk."""
        after = max(after, self._hard_sequence)
        if after <= self._persisted:
            self._outbox.append(message)
        elif len(self._held) < self.settings.max_held_messages:
            self._held.append((after, message))

    def persisted(self, sequence: int) -> None:
        """Everything that the outputs up to this number had to write is on stable storage."""
        self._persisted = max(self._persisted, sequence)
        self.log.persisted(sequence)
        if self._held:
            self._outbox += [message for after, message in self._held if after <= sequence]
            self._held = deque(pair for pair in self._held if pair[0] > sequence)

    def _set_hard_state(self, term: int, vote: int) -> None:
        self.term, self.vote = term, vote
        self._hard_dirty = True
        self._hard_sequence = self._sequence + 1

    # Following.

    def _become_follower(self, term: int, leader: int) -> None:
        """Of this term (not an earlier one than the present), under this leader if it is known."""
        if term > self.term:
            self._set_hard_state(term, 0)
            self._held.clear()
            self.verified = 0
        if self.role is Role.LEADER:
            self._lost_leadership()
        self.role = Role.FOLLOWER
        self._votes = set()
        self._follow(leader)
        self._reset_election_timer()

    def _follow(self, leader: int) -> None:
        if leader == self.leader:
            return
        self.leader = leader
        if leader:
            self._campaigns = 0
            self._repropose = True
        for read in self.own_reads.restart():
            self.own_reads.add(read)
        self._ask_due = math.inf

    def _lost_leadership(self) -> None:
        raise AssertionError("only a leader can lose leadership")

    def _reset_election_timer(self) -> None:
        self._election_due = self.now + self.settings.election * self.rand.uniform(1, 2)

    def _heard_leader(self, message: m.Message) -> None:
        """A message of this term's leader has come."""
        if self.role is Role.LEADER:
            raise Diverged(f"members {self.me:x} and {message.sender:x} both lead term {self.term}")
        if self.role is not Role.FOLLOWER or self.leader != message.sender:
            self._become_follower(message.term, message.sender)
        self._heard = self.now
        self._reset_election_timer()
        known = self._recover_to is not None and self._recover_to[0] == self.term
        if self.recovering and not known and self.now - self._recover_asked >= self.settings.heartbeat:
            self._recover_asked = self.now
            self._send(m.Recover(self.me, message.sender, self.term, self._nonce))

    def _on_append(self, message: m.Append) -> None:
        self._heard_leader(message)
        if self.log.size(self.log.durable, self.log.last_index) > self.settings.max_pending_bytes:
            return
        prev, entries = message.prev_index, message.entries
        end = prev + len(entries)
        if prev < self.log.base_index:
            # What a snapshot covers is committed, and so the leader's too.
            entries = entries[self.log.base_index - prev :]
            prev = min(self.log.base_index, end)
        elif self.log.term_at(prev) != message.prev_term:
            self._refuse(message)
            return
        self._take_entries(entries)
        self.verified = max(self.verified, end)
        self._advance_commit(min(message.commit, self.verified))
        self._acknowledge(message.sender, end)

    def _take_entries(self, entries: tuple[Entry, ...]) -> None:
        """Append what is not there; what is there stays, unless it differs: then it and all behind it goes."""
        log = self.log
        for position, entry in enumerate(entries):
            if entry.index <= log.last_index:
                if log.term_at(entry.index) == entry.term:
                    continue
                if entry.index <= self.commit:
                    raise Diverged(f"entry {entry.index} of term {entry.term} would replace a committed one")
                log.cut(entry.index)
            for new in entries[position:]:
                log.append(new)
            return

    def _acknowledge(self, leader: int, index: int) -> None:
        if self.recovering and self._recover_to is not None:
            term, target = self._recover_to
            # Entries of an older leader may lie there too, so only what is known to be this one's counts.
            if self.term >= term and min(index, self.verified) >= target and self.log.durable >= target:
                self.recovering = False
                self._recovered = True
                self._reset_election_timer()
        reply = m.AppendReply(self.me, leader, self.term, index, True, 0, 0, self.recovering)
        self._send(reply, self._durable_after(index))

    def _durable_after(self, index: int) -> int:
        sequence = self.log.sequence_of(index)
        return self._sequence + 1 if sequence is None else sequence

    def _refuse(self, message: m.Append) -> None:
        hint = self.log.agreeing(message.prev_index, message.prev_term)
        self._send(m.AppendReply(self.me, message.sender, self.term, message.prev_index, False, *hint, self.recovering))

    def _on_heartbeat(self, message: m.Heartbeat) -> None:
        self._heard_leader(message)
        self._advance_commit(min(message.commit, self.verified))
        if message.round:
            self._send(m.HeartbeatReply(self.me, message.sender, self.term, message.round, self.verified, self.recovering))

    def _on_install(self, message: m.InstallSnapshot) -> None:
        self._heard_leader(message)
        mark = message.mark
        if mark.index <= self.commit or self.log.term_at(mark.index) == mark.term:
            # Nothing is dropped that is here already: what follows it may have been acknowledged.
            self.verified = max(self.verified, mark.index)
            self._advance_commit(mark.index)
        else:
            self.log.restart(mark.index, mark.term, decode_configuration(mark.configuration))
            self._install = mark
            self.commit = self.applied = self.verified = mark.index
        self._acknowledge(message.sender, mark.index)

    def _advance_commit(self, index: int) -> None:
        self.commit = max(self.commit, index)

    def _on_recover_reply(self, message: m.RecoverReply) -> None:
        if self.recovering and message.nonce == self._nonce:
            self._recover_to = (message.term, message.index)

    # Reads of a member that does not lead.

    def _ask_for_reads(self) -> None:
        if not self.leader or self.leader == self.me:
            return
        question = self.own_reads.ask()
        if question is None and self.own_reads.question and self.now >= self._ask_due:
            question = self.own_reads.question
        if question is not None:
            self._ask_due = self.now + self.settings.heartbeat
            self._send(m.ReadIndex(self.me, self.leader, self.term, question))

    def _on_read_reply(self, message: m.ReadIndexReply) -> None:
        self._ready_reads += [ReadReady(read, message.index) for read in self.own_reads.answered(message.id)]
        if not self.own_reads.question:
            self._ask_due = math.inf
