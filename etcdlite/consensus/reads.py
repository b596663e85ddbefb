"""Linearizable reads without the log (Raft thesis 6.4): who waits for what.

A leader notes the commit index when a read comes, makes a round of heartbeats that begins later, and when a majority has answered that round it knows that nobody
had committed anything more by then. All reads that come while a round is on its way wait for the next one together. A member that does not lead asks the
leader, with one question at a time for all reads that wait.
"""

from __future__ import annotations

from collections import deque


class LeaderReads:
    """The reads that a leader has to confirm: its own and those that followers ask about."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        #: The newest round that has begun (0 in a heartbeat means that no answer is wanted), and the newest that a quorum has answered.
        self.round = 1
        self.confirmed = 1
        #: (the round that confirms it, who asked, its id, the commit index when it came), by round.
        self._waiting: deque[tuple[int, int, int, int]] = deque()
        #: Reads that came before this leader had committed anything of its own term.
        self._early: list[tuple[int, int]] = []
        #: Members without a disk that ask from where on they count: (nonce, round).
        self.recoveries: dict[int, tuple[int, int]] = {}

    @property
    def full(self) -> bool:
        """Whether no more reads are taken."""
        return len(self._waiting) + len(self._early) >= self._limit

    def add(self, member: int, read: int, commit: int | None) -> None:
        """`commit` is None while nothing of this term is committed."""
        if commit is None:
            self._early.append((member, read))
        else:
            self._waiting.append((self.round + 1, member, read, commit))

    def committed(self, commit: int) -> None:
        """Something of this term is committed: now the early ones can be confirmed."""
        early, self._early = self._early, []
        for member, read in early:
            self.add(member, read, commit)

    @property
    def wants_round(self) -> bool:
        """Whether a new round has to begin now: somebody waits for it, and no quorum is still owed for the one before."""
        if any(needed > self.round for _, needed in self.recoveries.values()):
            return True
        return self.confirmed >= self.round and bool(self._waiting) and self._waiting[-1][0] > self.round

    def confirm(self, confirmed: int) -> list[tuple[int, int, int]]:
        """A quorum has answered that round: the reads that are good now, as (who asked, id, index)."""
        self.confirmed = max(self.confirmed, confirmed)
        ready = []
        while self._waiting and self._waiting[0][0] <= self.confirmed:
            ready.append(self._waiting.popleft()[1:])
        return ready

    def take_of(self, member: int) -> list[int]:
        """The reads of one member that still wait; they wait here no more."""
        taken = [read for _, asker, read, _ in self._waiting if asker == member]
        taken += [read for asker, read in self._early if asker == member]
        self._waiting = deque(one for one in self._waiting if one[1] != member)
        self._early = [one for one in self._early if one[0] != member]
        return taken

    def forget(self, member: int, read: int) -> None:
        self._waiting = deque(one for one in self._waiting if one[1:3] != (member, read))
        self._early = [one for one in self._early if one != (member, read)]


class OwnReads:
    """The reads of this member while another leads. `first_id` is drawn at random, so that no answer to a former life of this member fits."""

    def __init__(self, limit: int, first_id: int) -> None:
        self._limit = limit
        self._next = first_id
        self._new: list[int] = []
        self._asked: list[int] = []
        self.question = 0

    def add(self, read: int) -> None:
        self._new.append(read)

    @property
    def full(self) -> bool:
        """Whether no more reads are taken."""
        return len(self) >= self._limit

    def __len__(self) -> int:
        return len(self._new) + len(self._asked)

    def ask(self) -> int | None:
        """The id of a new question, or None where one is on its way or nobody waits."""
        if self.question or not self._new:
            return None
        self._next += 1
        self.question = self._next
        self._asked, self._new = self._new, []
        return self.question

    def answered(self, question: int) -> list[int]:
        """The reads for which this is the answer."""
        if question != self.question:
            return []
        self.question = 0
        asked, self._asked = self._asked, []
        return asked

    def restart(self) -> list[int]:
        """Everybody who waits, as if nobody had been asked; leaves nothing."""
        waiting = self._asked + self._new
        self._asked, self._new, self.question = [], [], 0
        return waiting

    def forget(self, read: int) -> None:
        for waiting in (self._asked, self._new):
            if read in waiting:
                waiting.remove(read)
