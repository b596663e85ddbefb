"""PySyncObj's Raft, with its journal, transport, snapshots and pickle taken out and its gaps closed.

This subclass overrides methods and reads fields that are private to PySyncObj (hence the mangled names), so it is made for the versions that
``pyproject.toml`` allows. What it changes, and why:

- The log is :class:`.raft_log.RaftLog`. An acknowledgement counts only if it was sent in this very term: PySyncObj's carry no term, and one
  from an earlier leadership could commit an entry that its sender no longer has.
- Any message of a later term makes this member a follower of that term, and one of an earlier term is answered with the current one.
- A member asks around before it becomes a candidate (pre-vote, Raft thesis 9.6), so that one that was cut off does not depose a good leader when
  it returns.
- Commands are batches of our own (never unpickled), applied with their index and term.
- A member whose disk was emptied does not vote until it has what the leader had committed when they first met.
- Snapshots are :mod:`.snapshot` files; PySyncObj would install one over entries that this member has already acknowledged.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from typing import Any, Protocol

from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.monotonic import monotonic
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from kubeling.etcdlite.journal import Entry, Journal
from kubeling.etcdlite.peer_codec import Message
from kubeling.etcdlite.raft_log import REGULAR, RaftLog

#: Entries are sent in messages of about this size. No single batch is as large, so PySyncObj never splits (and pickles) one.
_MESSAGE_BYTES = 16 << 20


# It warns of cuts that RaftLog makes good, and says nothing else that is not said here.
logging.getLogger("pysyncobj").setLevel(logging.CRITICAL + 1)


class Snapshots(Protocol):
    """How the core gets and gives away snapshots, piece by piece."""

    def piece_for(self, member: int) -> tuple[bytes, bool, bool] | None:
        """The next piece (bytes, first?, last?) for a follower, or None where it has to wait."""

    def forget(self, member: int) -> None:
        """Begin anew with that follower, if ever."""

    def take_piece(self, piece: tuple[bytes, bool, bool]) -> tuple[int, int] | None:
        """Keep a piece; after the last one the index and term of the snapshot, if it is whole and sound."""

    def install(self) -> None:
        """Become, durably, what the snapshot taken says."""


class _Carrier:
    """What PySyncObj asks of its serializer when a piece of a snapshot arrives."""

    def __init__(self, snapshots: Snapshots, wanted: Callable[[int, int], bool]) -> None:
        self._snapshots = snapshots
        self._wanted = wanted

    def setTransmissionData(self, piece: tuple[bytes, bool, bool] | None) -> bool:  # noqa: N802
        which = self._snapshots.take_piece(piece) if piece is not None else None
        return which is not None and self._wanted(*which)


class _Outlet(Transport):  # type: ignore[misc]
    def __init__(self, send: Callable[[int, Message], None]) -> None:
        super().__init__(None, None, [])
        self._send = send

    def send(self, node: Node, message: Message) -> bool:
        self._send(node.id, message)
        return True


class _NoPoller:
    def poll(self, timeout: float) -> None:
        """Sockets are the event loop's business."""


class RaftCore(SyncObj):  # type: ignore[misc]
    """Driven by :class:`.raft.Raft`: messages in by :meth:`receive`, time by :meth:`tick`, messages out by `send`, entries out by `apply`."""

    def __init__(
        self,
        member: int,
        others: list[int],
        journal: Journal,
        log: RaftLog,
        snapshots: Snapshots,
        send: Callable[[int, Message], None],
        apply: Callable[[Entry], None],
        heartbeat: float,
        election: float,
        caught_up: Callable[[], None] | None,
    ) -> None:
        conf = SyncObjConf(
            autoTick=False,
            raftMinTimeout=election,
            raftMaxTimeout=2 * election,
            appendEntriesPeriod=heartbeat,
            leaderFallbackTimeout=1.5 * election,
            appendEntriesUseBatch=True,
            appendEntriesBatchSizeBytes=_MESSAGE_BYTES,
            dynamicMembershipChange=False,
        )
        # All of this has to be there before PySyncObj's own set-up, which looks at every attribute.
        self._nodes = {other: Node(other) for other in others}
        self._transport = _Outlet(send)
        self._log = log
        self._emit = send
        self._hand_over = apply
        self._now = monotonic
        self._snapshots = snapshots
        self._election = election
        self._heartbeat = heartbeat
        self._caught_up = caught_up
        self._catch_up_to = 0
        self._heard_leader = -math.inf
        self._pre_votes: set[int] = set()
        self._pre_vote_sent = -math.inf
        super().__init__(Node(member), list(self._nodes.values()), conf, transport=self._transport)
        # Send a new batch on at once (set only now, since PySyncObj would open a pipe to wake its own thread for it).
        conf.appendEntriesUseBatch = False
        self._poller = _NoPoller()
        self._SyncObj__raftLog = log
        self._SyncObj__serializer = _Carrier(snapshots, self._wants_snapshot)
        self._SyncObj__needLoadDumpFile = False
        self._SyncObj__raftCurrentTerm = max(journal.term, log[-1][2])
        self._SyncObj__votedForNodeId = journal.vote or None if journal.term >= log[-1][2] else None
        self._SyncObj__raftCommitIndex = self._SyncObj__raftLastApplied = log.applied_index
        # The first election need not wait long: a leader that is there already will be noticed by the pre-vote.
        self._SyncObj__raftElectionDeadline = monotonic() + heartbeat * (1 + 2 * random.random())

    # How it stands.

    @property
    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def leader(self) -> int:
        """The member that leads as far as this one knows; 0 where there is none."""
        leader = self._SyncObj__raftLeader
        return int(leader.id) if leader is not None else 0

    @property
    def last_index(self) -> int:
        return int(self._log[-1][1])

    @property
    def due_in(self) -> float:
        """Seconds until :meth:`tick` has to be called at the latest."""
        due: float = self._SyncObj__raftElectionDeadline
        if self._isLeader():
            due = self._SyncObj__newAppendEntriesTime
        elif self._pre_vote_sent > due:
            due = self._pre_vote_sent + self._election / 4
        # PySyncObj has a clock of its own choice, which need not be the event loop's. A hair more, since it asks for "later than".
        return due - float(monotonic()) + 0.0005

    # What happens to it.

    def connected(self, member: int) -> None:
        self._transport._onNodeConnected(self._nodes[member])

    def disconnected(self, member: int) -> None:
        self._transport._onNodeDisconnected(self._nodes[member])
        self._snapshots.forget(member)

    def submit(self, batch: bytes) -> None:
        """Have the leader, be it this member or another, put a batch into the log; it may get lost."""
        self._SyncObj__commandsQueue.put_nowait((batch, None))

    def hand_over(self, member: int) -> None:
        """Ask a follower that has everything to become the leader now."""
        self.transferLeadership(self._nodes[member])

    def tick(self) -> None:
        """Do what time and messages have made due."""
        self._onTick(0.0)
        self._log.settle()

    def receive(self, member: int, message: Message, stamp: int) -> None:
        """Take a message of another member; `stamp` is that one's term."""
        kind = message["type"]
        if self._caught_up is not None and kind in ("pre_vote", "request_vote", "timeout_now"):
            # This member once had data and lost it: its vote could elect a leader that lacks what it had acknowledged.
            return
        if kind == "pre_vote":
            self._answer_pre_vote(member, message)
            return
        if kind == "pre_vote_granted":
            if message["term"] == self.term + 1:
                self._pre_votes.add(member)
            return
        if stamp > self.term and kind != "request_vote":
            self._SyncObj__setCurrentTerm(stamp, None)
            self._SyncObj__setState(0)
            self._SyncObj__raftLeader = None
        if kind in ("append_entries", "request_vote") and message["term"] < self.term:
            self._emit(member, {"type": "term"})
            return
        if kind == "next_node_idx" and stamp != self.term:
            return
        if kind == "append_entries":
            self._heard_leader = self._now()
            self._pre_votes.clear()
            self._catch_up_to = self._catch_up_to or message["commit_index"]
        if kind == "apply_command":
            # Where this member does not lead (any more) the batch is lost; its proposer will notice the new leader and send it there.
            if self._isLeader() and message["command"][:1] == REGULAR:
                self.submit(message["command"])
        elif kind != "term":
            self._transport._onMessageReceived(self._nodes[member], message)
            self._log.settle()

    # Pre-vote: PySyncObj asks this method whether it may become a candidate, once its election time is over.

    def _SyncObj__connectedToAnyone(self) -> bool:  # noqa: N802
        if self._caught_up is not None:
            self._pre_vote_sent = self._now()
            self._SyncObj__raftLeader = None
            return False
        if self._SyncObj__transferInProgress:
            return True
        if 2 * (len(self._pre_votes) + 1) > len(self._nodes) + 1:
            self._pre_votes = set()
            return True
        now = self._now()
        if now - self._pre_vote_sent >= self._election / 4:
            self._pre_vote_sent = now
            self._pre_votes = set()
            self._SyncObj__raftLeader = None
            question = {
                "type": "pre_vote",
                "term": self.term + 1,
                "last_log_index": self._log[-1][1],
                "last_log_term": self._log[-1][2],
            }
            for member in self._nodes:
                self._emit(member, question)
        return False

    def _answer_pre_vote(self, member: int, message: Message) -> None:
        mine = (self._log[-1][2], self._log[-1][1])
        leads = self._isLeader() or self._now() - self._heard_leader < self._election
        if message["term"] > self.term and (message["last_log_term"], message["last_log_index"]) >= mine and not leads:
            self._emit(member, {"type": "pre_vote_granted", "term": message["term"]})
        elif message["term"] <= self.term:
            self._emit(member, {"type": "term"})

    # Sending: PySyncObj's own would pickle a large entry, and spin while a snapshot is not ready.

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        self._SyncObj__newAppendEntriesTime = self._now() + self._heartbeat
        for member, node in self._nodes.items():
            if node in self._SyncObj__connectedNodes:
                if self._SyncObj__raftNextIndex[node] > self._log[0][1]:
                    self._send_entries(member, node)
                else:
                    self._send_snapshot(member, node)

    def _send_entries(self, member: int, node: Node) -> None:
        while True:
            first = min(self._SyncObj__raftNextIndex[node], self.last_index + 1)
            entries = self._log.slice(first, _MESSAGE_BYTES)
            message: Message = {"type": "append_entries", "term": self.term, "commit_index": self._SyncObj__raftCommitIndex}
            message |= {"prevLogIdx": first - 1, "prevLogTerm": self._log.term_at(first - 1), "entries": entries}
            self._emit(member, message)
            self._SyncObj__raftNextIndex[node] = first + len(entries)
            if first + len(entries) > self.last_index:
                return

    def _send_snapshot(self, member: int, node: Node) -> None:
        message: Message = {"type": "append_entries", "term": self.term, "commit_index": 0}
        while True:
            piece = self._snapshots.piece_for(member)
            self._emit(member, message | {"serialized": piece})
            if piece is None:
                return
            if piece[2]:
                # The follower says where it really is, should it be elsewhere.
                self._SyncObj__raftNextIndex[node] = self._log[0][1] + 1
                return

    # Applying and snapshots, instead of PySyncObj's own.

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        applied, commit = self._SyncObj__raftLastApplied, self._SyncObj__raftCommitIndex
        for command, index, term in self._log.after(applied, commit):
            if command[:1] == REGULAR:
                self._hand_over(Entry(index, term, command))
            self._SyncObj__raftLastApplied = self._log.applied_index = index
        if self._caught_up is not None and 0 < self._catch_up_to <= self._log.applied_index:
            self._caught_up()
            self._caught_up = None
        # Then followers are told of the new commit index at once.
        return bool(commit > applied)

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        """The member decides when (see :mod:`.member`)."""

    def _wants_snapshot(self, index: int, term: int) -> bool:
        # Where the log holds that very entry, nothing may be dropped: what follows it may have been acknowledged.
        return index > self._SyncObj__raftLastApplied and self._log.term_at(index) != term

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> Any:  # noqa: N802, N803
        self._snapshots.install()
        self._SyncObj__raftLastApplied = self._SyncObj__raftCommitIndex = self._log.applied_index
