"""What a member does while it leads: feed the followers, commit, confirm reads, and notice that it no longer reaches a majority.

Nothing is sent when something happens, only when the caller takes the output: so whatever came in one turn travels together.
"""

from __future__ import annotations

import math

from kubeling.etcdlite.consensus import messages as m
from kubeling.etcdlite.consensus.configuration import Configuration, encode_configuration
from kubeling.etcdlite.consensus.node import Node, Role
from kubeling.etcdlite.consensus.progress import Flow, Progress
from kubeling.etcdlite.consensus.reads import LeaderReads
from kubeling.etcdlite.consensus.types import Entry, ReadReady

#: What a probe carries: enough for a follower that lacks little, little for one that has to be asked again.
_PROBE_BYTES = 64 << 10
_MAX_POSTPONED = 1024


class Leading(Node):
    """The upper floor of :class:`.core.Core`; these fields mean something while :attr:`is_leader`."""

    progress: dict[int, Progress]
    reads: LeaderReads
    #: To whom leadership is being handed over; 0: to nobody.
    transferring: int = 0
    _term_start: int = 0
    _heartbeat_due: float = math.inf
    _quorum_due: float = math.inf
    _transfer_due: float = math.inf
    _resigning: bool = False
    _starved: bool = False

    def _become_leader(self) -> None:
        self.role = Role.LEADER
        self._votes = set()
        self.progress = {}
        self.reads = LeaderReads(self.settings.max_reads)
        self.transferring = 0
        self._transfer_due = math.inf
        self._resigning = False
        self._postponed: list[bytes] = []
        self._snapshots_for: list[int] = []
        self._follow(self.me)
        self._quorum_due = self.now + self.settings.election
        self._term_start = self.log.last_index + 1
        self._append(encode_configuration(self.configuration))
        self._heartbeat_due = self.now + self.settings.heartbeat

    def _lost_leadership(self) -> None:
        self.progress = {}
        self._snapshots_for = []
        for read in self.reads.take_of(self.me):
            self.own_reads.add(read)
        self._heartbeat_due = self._quorum_due = self._transfer_due = math.inf
        self.transferring = 0
        self._postponed = []
        self._starved = False

    # The log.

    def _append(self, data: bytes) -> int:
        before = self.configuration
        self.log.append(Entry(self.log.last_index + 1, self.term, data))
        if self.configuration is not before:
            self._configuration_changed()
        return self.log.last_index

    def _configuration_changed(self) -> None:
        for member in self.configuration.members:
            known = self.progress.get(member)
            if member != self.me and known is None:
                self.progress[member] = Progress(self.log.last_index, self.now)
            elif known is not None:
                known.leaving_at = None
        # A majority may be smaller now.
        self._commit_what_is_settled()
        self._confirm_reads()

    def _quorum_of(self, values: dict[int, int], configuration: Configuration | None = None) -> int:
        """The highest value that a majority of voters has reached; a voter that is not named has reached 0."""
        configuration = configuration or self.configuration
        if not configuration.voters:
            return 0
        return sorted((values.get(voter, 0) for voter in configuration.voters), reverse=True)[configuration.quorum - 1]

    def _reached(self) -> dict[int, int]:
        """Up to where each member has the log on its disk."""
        reached = {member: progress.counted for member, progress in self.progress.items()}
        reached[self.me] = self.log.durable
        return reached

    def decided(self, index: int) -> bool:
        """Whether a change of the membership at `index` can no longer be lost.

        It is committed by a majority of the new members, of whom one may not have been started yet. But a majority of those before it, too, keeps everybody
        without it from being elected.
        """
        if index <= self.commit:
            return True
        return self._quorum_of(self._reached(), self.log.configuration_at(index - 1)) >= index

    def _commit_what_is_settled(self) -> None:
        index = self._quorum_of(self._reached())
        if index > self.commit and self._may_commit(index):
            self._advance_commit(index)
            if index >= self._term_start:
                self.reads.committed(self.commit)
            if self._starved and 2 * self._uncommitted_bytes < self.settings.max_pending_bytes:
                self._starved = False
                self._repropose = True

    def _may_commit(self, index: int) -> bool:
        """An entry of an earlier term is committed only by one of this term behind it (Raft paper, 5.4.2)."""
        return self.log.term_at(index) == self.term

    @property
    def _uncommitted_bytes(self) -> int:
        return self.log.size(self.commit, self.log.last_index)

    def persisted(self, sequence: int) -> None:
        super().persisted(sequence)
        if self.is_leader:
            self._commit_what_is_settled()

    def _settled_configuration(self) -> None:
        """The newest configuration is committed and handed out: who is not in it is told so for a while, then no more."""
        for member, progress in self.progress.items():
            if member not in self.configuration and progress.leaving_at is None:
                progress.leaving_at = self.now + self.settings.election
        if self.me not in self.configuration.voters:
            self._resigning = True

    # Sending.

    def _replicate(self) -> None:
        for member, progress in self.progress.items():
            self._feed(member, progress)
            if progress.commit_sent < min(progress.match, self.commit):
                self._send_heartbeat(member, progress, 0)

    def _feed(self, member: int, progress: Progress) -> None:
        """Send what there is and what the follower can take now."""
        while self._can_feed(progress):
            if progress.flow is Flow.PROBE:
                progress.probing = True
                self._send_entries(member, progress, _PROBE_BYTES)
                return
            before = progress.next
            if not self._send_entries(member, progress, self.settings.max_append_bytes):
                return
            progress.sent(progress.next - 1, self.log.size(before - 1, progress.next - 1))

    def _can_feed(self, progress: Progress) -> bool:
        if progress.flow is Flow.PROBE:
            return not progress.probing and (progress.match == 0 or progress.match < self.log.last_index)
        return (
            progress.flow is Flow.REPLICATE
            and progress.next <= self.log.last_index
            and progress.bytes_inflight < self.settings.max_inflight_bytes
            and len(progress.inflight) < min(progress.window, self.settings.max_inflight_messages)
        )

    def _send_entries(self, member: int, progress: Progress, max_bytes: int) -> bool:
        """False where the log no longer reaches back far enough: then it has to be a snapshot."""
        prev = progress.next - 1
        prev_term = self.log.term_at(prev)
        if prev_term is None:
            progress.snapshot(self.log.base_index)
            self._snapshots_for.append(member)
            return False
        entries = tuple(self.log.slice(progress.next, max_bytes, self.settings.max_append_entries)) if max_bytes else ()
        self._send(m.Append(self.me, member, self.term, prev, prev_term, self.commit, entries))
        progress.commit_sent = max(progress.commit_sent, min(self.commit, prev + len(entries)))
        if progress.flow is Flow.REPLICATE:
            progress.next += len(entries)
        return True

    def _send_heartbeat(self, member: int, progress: Progress, round_: int) -> None:
        commit = min(progress.match, self.commit)
        self._send(m.Heartbeat(self.me, member, self.term, commit, round_))
        progress.commit_sent = max(progress.commit_sent, commit)

    def _heartbeats(self) -> None:
        for member, progress in self.progress.items():
            self._send_heartbeat(member, progress, self.reads.round)
        self._heartbeat_due = self.now + self.settings.heartbeat

    # Answers.

    def _on_append_reply(self, message: m.AppendReply) -> None:
        progress = self.progress.get(message.sender)
        if progress is None:
            return
        progress.active_at = self.now
        if message.accepted:
            self._accepted(message, progress)
        else:
            self._refused(message, progress)

    def _accepted(self, message: m.AppendReply, progress: Progress) -> None:
        index = message.index
        if index > self.log.last_index:
            return
        progress.match = max(progress.match, index)
        progress.landed(index)
        if not message.recovering:
            progress.counted = max(progress.counted, index)
        # Only the answer to the probe that is on its way ends the probing, not one to something earlier.
        probed = progress.flow is Flow.PROBE and index >= progress.next - 1
        if probed or (progress.flow is Flow.SNAPSHOT and progress.match >= self.log.base_index):
            progress.replicate()
        progress.next = max(progress.next, progress.match + 1)
        self._commit_what_is_settled()
        if self.transferring == message.sender:
            self._hand_over()

    def _refused(self, message: m.AppendReply, progress: Progress) -> None:
        if message.recovering:
            progress.forget(message.hint_index)
        if progress.flow is Flow.SNAPSHOT or message.index <= progress.match:
            return
        if progress.flow is Flow.PROBE and message.index != progress.next - 1:
            # The answer to an earlier probe.
            return
        agreeing, _ = self.log.agreeing(message.hint_index, message.hint_term)
        # What lies before the log's beginning only the follower knows.
        last_common = agreeing if message.hint_index >= self.log.base_index else message.hint_index
        progress.probe(min(message.index, last_common + 1))

    def _on_heartbeat_reply(self, message: m.HeartbeatReply) -> None:
        progress = self.progress.get(message.sender)
        if progress is None:
            return
        progress.active_at = self.now
        if not message.recovering and message.round <= self.reads.round:
            progress.round = max(progress.round, message.round)
            self._confirm_reads()
        if self.now - progress.nudged_at < self.settings.heartbeat:
            return
        progress.nudged_at = self.now
        if progress.flow is Flow.PROBE:
            progress.probing = False
        elif progress.flow is Flow.REPLICATE and (progress.counted < self.log.last_index or message.index < progress.match):
            # Something may have been lost. An append without entries asks: who has all acknowledges all, who does not says what is missing.
            self._send_entries(message.sender, progress, 0)

    # Reads.

    def _confirm_reads(self) -> None:
        reads = self.reads
        rounds = {member: progress.round for member, progress in self.progress.items()}
        rounds[self.me] = reads.round
        for member, read, index in reads.confirm(self._quorum_of(rounds)):
            if member == self.me:
                self._ready_reads.append(ReadReady(read, index))
            else:
                self._send(m.ReadIndexReply(self.me, member, self.term, read, index))
        for member, (nonce, needed) in list(reads.recoveries.items()):
            if self._confirmed_without(member, needed, rounds):
                del reads.recoveries[member]
                self._send(m.RecoverReply(self.me, member, self.term, nonce, self.log.last_index))

    def _confirmed_without(self, member: int, needed: int, rounds: dict[int, int]) -> bool:
        """Whether enough others have answered a round that nothing can have been decided elsewhere with the help of `member` before it lost its disk.

        All of them, where it is a voter: a majority would hold what is committed, but one more might still be elected with a vote that was forgotten.
        """
        voters = self.configuration.voters
        others = [voter for voter in voters if voter != member]
        answered = sum(rounds.get(voter, 0) >= needed for voter in others)
        return answered == len(others) if member in voters else answered >= self.configuration.quorum

    def _on_read_index(self, message: m.ReadIndex) -> None:
        # Where there are too many it is dropped: who asked asks again.
        if not self.reads.full:
            self.reads.add(message.sender, message.id, self._read_index())

    def _read_index(self) -> int | None:
        """The commit index, or None while this leader cannot know what the last one committed."""
        return self.commit if self.commit >= self._term_start else None

    def _on_recover(self, message: m.Recover) -> None:
        progress = self.progress.get(message.sender)
        if progress is None:
            return
        progress.active_at = self.now
        if progress.nonce != message.nonce:
            progress.nonce = message.nonce
            progress.forget(0)
            progress.probe(self.log.last_index + 1)
        elif message.sender in self.reads.recoveries:
            return
        self.reads.recoveries[message.sender] = (message.nonce, self.reads.round + 1)

    def _begin_round(self) -> None:
        self.reads.round += 1
        self._heartbeats()
        self._confirm_reads()

    # Time.

    def _check_quorum(self) -> None:
        """Step down where no majority has been heard for an election time-out: others may have elected somebody."""
        since = self.now - self.settings.election
        active = {member: 1 for member, progress in self.progress.items() if progress.active_at > since}
        active[self.me] = 1
        self._quorum_due = self.now + self.settings.election
        if not self._quorum_of(active):
            self._become_follower(self.term, 0)

    def _leader_tick(self) -> None:
        if self.now >= self._quorum_due:
            self._check_quorum()
            if not self.is_leader:
                return
        if self.now >= self._transfer_due:
            self._abort_transfer()
        if self.now >= self._heartbeat_due and self.progress:
            for member in [one for one, progress in self.progress.items() if (progress.leaving_at or math.inf) <= self.now]:
                del self.progress[member]
            self._heartbeats()
            if self.transferring:
                self._hand_over()

    # Handing over.

    def _hand_over(self) -> None:
        progress = self.progress.get(self.transferring)
        if progress is not None and progress.match == self.log.last_index:
            self._send(m.TimeoutNow(self.me, self.transferring, self.term))

    def _abort_transfer(self) -> None:
        self.transferring = 0
        self._transfer_due = math.inf
        postponed, self._postponed = self._postponed, []
        for data in postponed:
            self._append(data)

    def _best_voter(self) -> int:
        """The voter, other than this one, that has most; 0 where there is none."""
        voters = [(self.progress[voter].match, voter) for voter in self.configuration.voters if voter in self.progress]
        return max(voters, default=(0, 0))[1]

    def _resign(self) -> None:
        """This leader is no voter any more, and that is committed: somebody else has to lead."""
        best = self._best_voter()
        if best:
            self._send(m.TimeoutNow(self.me, best, self.term))
        self._become_follower(self.term, 0)
