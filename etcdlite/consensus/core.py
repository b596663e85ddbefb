"""The face of the consensus core: what the caller calls (see the package's docstring for its duties), elections, and who handles which message."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from kubeling.etcdlite.consensus import messages as m
from kubeling.etcdlite.consensus.changes import changed
from kubeling.etcdlite.consensus.configuration import Change, Configuration, encode_configuration
from kubeling.etcdlite.consensus.errors import BadTransferee, ChangeInFlight, NotLeader, TooMany
from kubeling.etcdlite.consensus.leader import _MAX_POSTPONED, Leading
from kubeling.etcdlite.consensus.node import Role, Start
from kubeling.etcdlite.consensus.progress import Flow, Progress
from kubeling.etcdlite.consensus.reads import LeaderReads
from kubeling.etcdlite.consensus.types import HardState, Kind, Output, ReadReady, Settings

__all__ = ["Core", "Role", "Start"]

_CONFIGURATION = bytes((Kind.CONFIGURATION,))
_MAX_PATIENCE = 8


class Core(Leading):
    """One member's part in the consensus. `now` is monotonic seconds, `rand` is for time-outs and nonces."""

    def __init__(self, me: int, settings: Settings, start: Start, rand: random.Random, now: float) -> None:
        super().__init__(me, settings, start, rand, now)
        self.progress: dict[int, Progress] = {}
        self.reads = LeaderReads(settings.max_reads)
        self._postponed: list[bytes] = []
        self._snapshots_for: list[int] = []
        # The first election need not wait long: a leader that is there already is noticed by the pre-vote.
        delay = 0.0 if self.configuration.voters == (me,) else settings.heartbeat * rand.uniform(1, 3)
        self._election_due = now + delay
        self._of_leader: dict[type[m.Message], Callable[[Any], None]] = {
            m.Append: self._on_append,
            m.Heartbeat: self._on_heartbeat,
            m.InstallSnapshot: self._on_install,
        }
        self._to_leader: dict[type[m.Message], Callable[[Any], None]] = {
            m.AppendReply: self._on_append_reply,
            m.HeartbeatReply: self._on_heartbeat_reply,
        }
        # These mean the same in any term.
        self._of_any_term: dict[type[m.Message], Callable[[Any], None]] = {
            m.PreVote: self._on_pre_vote,
            m.PreVoteReply: self._on_pre_vote_reply,
            m.Vote: self._on_vote,
            m.ReadIndex: self._on_question,
            m.Recover: self._on_question,
            m.Forward: self._on_forward,
            m.ReadIndexReply: self._on_read_reply,
            m.RecoverReply: self._on_recover_reply,
        }

    # How it stands.

    @property
    def last_index(self) -> int:
        return self.log.last_index

    @property
    def last_term(self) -> int:
        return self.log.last_term

    @property
    def first_index(self) -> int:
        """The oldest entry that is still in memory."""
        return self.log.base_index + 1

    @property
    def durable_index(self) -> int:
        """Up to where this member's own disk has the log."""
        return self.log.durable

    @property
    def configuration_index(self) -> int:
        return self.log.configuration_index

    @property
    def is_learner(self) -> bool:
        return self.me in self.configuration.learners

    @property
    def alone(self) -> bool:
        """Whether this member leads and is the only voter: then whatever is applied is all that is committed, and a local read is linearizable."""
        return self.is_leader and self.configuration.voters == (self.me,) and self.log.configuration_index <= self.commit

    @property
    def configuration_pending(self) -> bool:
        """Whether a membership change would be refused because of another one, or because this leader has not committed anything of its own."""
        return self._change_in_flight()

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or None where it is not in the log."""
        return self.log.term_at(index)

    def configuration_at(self, index: int) -> Configuration:
        """The members as of an applied entry, for its snapshot."""
        return self.log.configuration_at(index)

    # Time.

    def next_deadline(self) -> float | None:
        """When :meth:`tick` has to be called at the latest; None: not because of time."""
        if self.is_leader:
            due = min(self._heartbeat_due, self._quorum_due) if self.progress else math.inf
            due = min(due, self._transfer_due)
        else:
            due = min(self._election_due, self._ask_due)
        return None if due == math.inf else due

    def tick(self, now: float) -> None:
        """Do what is due by now."""
        self.now = max(self.now, now)
        if self.is_leader:
            self._leader_tick()
            return
        if self.now >= self._election_due:
            self._election_timeout()

    # Messages.

    def step(self, message: m.Message, now: float) -> None:
        """Take a message that is addressed to this member."""
        self.now = max(self.now, now)
        kind = type(message)
        handler = self._of_any_term.get(kind)
        if handler is not None:
            handler(message)
            return
        handler = self._of_leader.get(kind)
        if message.term < self.term:
            if handler is not None:
                self._send(m.Stale(self.me, message.sender, self.term))
            return
        if message.term > self.term:
            self._become_follower(message.term, message.sender if handler is not None else 0)
        if handler is not None:
            handler(message)
        elif self.is_leader and kind in self._to_leader:
            self._to_leader[kind](message)
        elif isinstance(message, m.VoteReply):
            self._on_vote_reply(message)
        elif isinstance(message, m.TimeoutNow):
            self._on_timeout_now(message)

    def _on_question(self, message: m.ReadIndex | m.Recover) -> None:
        if not self.is_leader:
            return
        if isinstance(message, m.Recover):
            self._on_recover(message)
        else:
            self._on_read_index(message)

    def _on_forward(self, message: m.Forward) -> None:
        # Where this member does not lead (any more) it is lost; the proposer will notice the new leader.
        if self.is_leader and message.data[:1] == b"\x00":
            self._propose_here(message.data)

    # Elections.

    def _election_timeout(self) -> None:
        if self.leader or self.role is not Role.FOLLOWER:
            self._become_follower(self.term, 0)
        if not self.electable:
            self._election_due = math.inf
        elif self.configuration.voters == (self.me,):
            self._campaign(False)
        else:
            self._pre_campaign()

    def _pre_campaign(self) -> None:
        """Ask whether an election would be won, so that a member that was cut off does not depose a good leader when it returns (thesis 9.6)."""
        self.role = Role.PRE_CANDIDATE
        self._votes = {self.me}
        self._election_due = self.now + self.settings.election * self.rand.uniform(0.25, 0.5)
        for voter in self.configuration.voters:
            if voter != self.me:
                self._send(m.PreVote(self.me, voter, self.term + 1, self.log.last_index, self.log.last_term))

    def _campaign(self, transfer: bool) -> None:
        self._become_follower(self.term + 1, 0)
        self.role = Role.CANDIDATE
        self._set_hard_state(self.term, self.me)
        # Longer each time: on slow disks an election takes longer than a fast one may.
        self._campaigns = min(self._campaigns + 1, _MAX_PATIENCE)
        self._election_due = self.now + self.settings.election * self._campaigns * self.rand.uniform(0.5, 1)
        for voter in self.configuration.voters:
            if voter != self.me:
                self._send(m.Vote(self.me, voter, self.term, self.log.last_index, self.log.last_term, transfer))

    def persisted(self, sequence: int) -> None:
        """Everything that the outputs up to this number had to write is on stable storage."""
        super().persisted(sequence)
        if self.role is Role.CANDIDATE and self.me not in self._votes and self._hard_sequence <= sequence:
            # A candidate's own vote counts once it cannot be forgotten.
            self._votes.add(self.me)
            self._count_votes()

    def _count_votes(self) -> None:
        if len(self._votes.intersection(self.configuration.voters)) < self.configuration.quorum:
            return
        if self.role is Role.PRE_CANDIDATE:
            self._campaign(False)
        else:
            self._become_leader()

    def _sticks_to_leader(self) -> bool:
        """Whether there is a leader that this member has heard of lately, itself perhaps."""
        return self.is_leader or self.now - self._heard < self.settings.election

    def _up_to_date(self, message: m.PreVote | m.Vote) -> bool:
        return (message.last_term, message.last_index) >= (self.log.last_term, self.log.last_index)

    def _on_pre_vote(self, message: m.PreVote) -> None:
        if self.recovering:
            return
        granted = message.term > self.term and self._up_to_date(message) and not self._sticks_to_leader()
        self._send(m.PreVoteReply(self.me, message.sender, message.term if granted else self.term, granted))

    def _on_pre_vote_reply(self, message: m.PreVoteReply) -> None:
        if message.granted:
            if self.role is Role.PRE_CANDIDATE and message.term == self.term + 1:
                self._votes.add(message.sender)
                self._count_votes()
        elif message.term > self.term:
            self._become_follower(message.term, 0)

    def _on_vote(self, message: m.Vote) -> None:
        if self.recovering or (message.term > self.term and not message.transfer and self._sticks_to_leader()):
            return
        if message.term < self.term:
            self._send(m.Stale(self.me, message.sender, self.term))
            return
        if message.term > self.term:
            self._become_follower(message.term, 0)
        granted = self._may_vote_for(message.sender) and self._up_to_date(message)
        if granted:
            if not self.vote:
                self._set_hard_state(self.term, message.sender)
            self._reset_election_timer()
        self._send(m.VoteReply(self.me, message.sender, self.term, granted))

    def _may_vote_for(self, candidate: int) -> bool:
        return self.vote in (0, candidate)

    def _on_vote_reply(self, message: m.VoteReply) -> None:
        if self.role is Role.CANDIDATE and message.granted:
            self._votes.add(message.sender)
            self._count_votes()

    def _on_timeout_now(self, message: m.TimeoutNow) -> None:
        if self.electable and self.role is Role.FOLLOWER and self.leader in (0, message.sender):
            self._campaign(True)

    # What the application asks for.

    def propose(self, data: bytes) -> bool:
        """Have `data` (which begin with a 0) put into the log, here or by the leader. It may get lost; False: it was not even tried."""
        if self.is_leader:
            return self._propose_here(data)
        if not self.leader:
            return False
        self._send(m.Forward(self.me, self.leader, self.term, data))
        return True

    def _propose_here(self, data: bytes) -> bool:
        if self.transferring:
            # Nobody can catch up with a log that grows. These are put into it should the transfer fail; else their proposers make them again.
            if len(self._postponed) < _MAX_POSTPONED:
                self._postponed.append(data)
            return True
        if self._uncommitted_bytes + len(data) > self.settings.max_pending_bytes and self._uncommitted_bytes:
            self._starved = True
            return False
        self._append(data)
        return True

    def read(self, read: int) -> None:
        """A linearizable read comes: the answer is a :class:`.types.ReadReady`, in spite of lost messages and leaders. Raises TooMany."""
        if self.own_reads.full or (self.is_leader and self.reads.full):
            raise TooMany("too many reads wait")
        if self.alone and self._read_index() is not None:
            self._ready_reads.append(ReadReady(read, self.commit))
            return
        self.own_reads.add(read)

    def forget_read(self, read: int) -> None:
        """Nobody waits for this read any more."""
        self.own_reads.forget(read)
        self.reads.forget(self.me, read)

    def change(self, change: Change) -> int:
        """Begin a membership change; returns the index of its entry, from which on it counts. Raises Refused."""
        if not self.is_leader:
            raise NotLeader("only the leader changes the membership")
        if self._change_in_flight() or self.transferring:
            raise ChangeInFlight("another change of the membership is not yet done")
        configuration = changed(self.configuration, change, self._lacks(change.member), self.settings)
        return self._append(encode_configuration(configuration, change.tag))

    def in_sync(self, member: int) -> bool:
        """Whether a learner has said what it has, and lacks little enough to be promoted; only the leader knows."""
        known = self.progress.get(member)
        return known is not None and known.counted > 0 and self._lacks(member) <= self.settings.promote_lag

    def _lacks(self, member: int) -> int:
        known = self.progress.get(member)
        return self.log.last_index - known.counted if known is not None else self.log.last_index

    def _change_in_flight(self) -> bool:
        # The first entry of a term is a configuration too, so this holds off changes until this leader has committed something of its own: without
        # that two leaders might each make a change of their own to the same configuration.
        return self.log.configuration_index > self.applied

    def transfer(self, target: int) -> None:
        """Begin to hand leadership over. Raises NotLeader and BadTransferee."""
        if not self.is_leader:
            raise NotLeader("only the leader can hand over")
        if target == self.me or target not in self.configuration.voters:
            raise BadTransferee(f"{target:x} is not another voter")
        if self.transferring:
            self._abort_transfer()
        self.transferring = target
        self._transfer_due = self.now + self.settings.election
        self._hand_over()

    def transfer_to_best(self) -> int:
        """Begin to hand over to the voter that has most, and was heard lately; 0 where there is none. Raises NotLeader."""
        if not self.is_leader:
            raise NotLeader("only the leader can hand over")
        best = self._best_voter()
        if best:
            self.transfer(best)
        return best

    def retract(self) -> bool:
        """Drop what is not on disk: nobody has seen it where this member is the only one. False where somebody may have, and nothing is dropped."""
        if not self.is_leader or self.progress or self.log.durable < self._term_start:
            return False
        self.log.cut(self.log.durable + 1)
        return True

    # Snapshots and connections.

    def compact(self, index: int) -> None:
        """A durable snapshot covers all up to `index`, which is applied."""
        if index <= self.applied:
            self.log.trim(index, self.settings.keep_entries, self.settings.keep_bytes)

    def snapshot_done(self, member: int, index: int, ok: bool) -> None:
        """A snapshot of up to `index` that was shipped is there, or (not ok) is not: then it is asked for again when that member gives a sign of life."""
        progress = self.progress.get(member)
        if progress is None or progress.flow is not Flow.SNAPSHOT:
            return
        progress.probe(index + 1 if ok else progress.next)
        progress.probing = True

    def unreachable(self, member: int) -> None:
        """What was on its way to that member may be gone.

        Where it is the leader it may be dead, and the others are asked soon: they refuse as long as they hear it themselves.
        """
        progress = self.progress.get(member)
        if progress is not None and progress.flow is Flow.REPLICATE:
            progress.probe(progress.match + 1)
        if member == self.leader and self.role is Role.FOLLOWER:
            self._heard = -math.inf
            self._election_due = min(self._election_due, self.now + self.settings.heartbeat * self.rand.uniform(1, 3))

    # Output.

    @property
    def has_output(self) -> bool:
        """Whether :meth:`take` would give anything."""
        if self._outbox or self._hard_dirty or self.log.has_unstable or self._ready_reads or self._install is not None:
            return True
        if self.commit > self.applied or self._repropose or self._recovered:
            return True
        return self._leader_has_output() if self.is_leader else self._has_question()

    def _has_question(self) -> bool:
        reads = self.own_reads
        return bool(self.leader and len(reads)) and (not reads.question or self.now >= self._ask_due)

    def _leader_has_output(self) -> bool:
        if len(self.own_reads) or self.reads.wants_round or self._snapshots_for or self._resigning:
            return True
        return any(
            self._can_feed(progress) or progress.commit_sent < min(progress.match, self.commit)
            for progress in self.progress.values()
        )

    def take(self) -> Output:
        """What the caller has to do now."""
        if self.is_leader:
            self._lead_on()
        elif len(self.own_reads):
            self._ask_for_reads()
        self._sequence += 1
        output = Output(self._sequence)
        if self._hard_dirty:
            output.hard_state, self._hard_dirty = HardState(self.term, self.vote), False
        output.install, self._install = self._install, None
        if self.log.has_unstable or output.install is not None:
            output.entries = self.log.take_unstable(self._sequence)
        output.messages, self._outbox = self._outbox, []
        output.reads, self._ready_reads = self._ready_reads, []
        if self.commit > self.applied:
            output.committed = self.log.slice(self.applied + 1, self.settings.max_apply_bytes, self.commit - self.applied)
            self.applied = output.committed[-1].index
            if self.is_leader and self.applied >= self.log.configuration_index:
                self._settled_configuration()
        if self._snapshots_for:
            output.snapshots_for, self._snapshots_for = self._snapshots_for, []
        output.repropose, self._repropose = self._repropose, False
        output.recovered, self._recovered = self._recovered, False
        return output

    def _lead_on(self) -> None:
        for read in self.own_reads.restart():
            self.reads.add(self.me, read, self._read_index())
        if self.reads.wants_round:
            self._begin_round()
        self._replicate()
        if self._resigning:
            self._resign()
