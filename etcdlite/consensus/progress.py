"""What a leader knows of one follower, and how much it may send to it."""

from __future__ import annotations

from collections import deque
from enum import IntEnum

_FIRST_WINDOW = 4
_MAX_WINDOW = 1 << 16


class Flow(IntEnum):
    """How a follower is fed."""

    #: One message at a time, until it is known where its log agrees with the leader's.
    PROBE = 0
    #: Messages follow each other without waiting for answers.
    REPLICATE = 1
    #: It gets a snapshot, and nothing else.
    SNAPSHOT = 2


class Progress:
    """`match` steers what is sent; `counted` is what a quorum may count, which leaves out the word of a member that has lost its disk."""

    __slots__ = (
        "active_at", "bytes_inflight", "commit_sent", "counted", "flow", "inflight", "leaving_at", "match", "next", "nonce", "nudged_at", "pending_snapshot",
        "probing", "round", "window",
    )  # fmt: skip

    def __init__(self, next_index: int, now: float) -> None:
        self.match = 0
        self.counted = 0
        self.next = next_index
        self.flow = Flow.PROBE
        #: In PROBE: a probe is on its way.
        self.probing = False
        self.pending_snapshot = 0
        self.inflight: deque[tuple[int, int]] = deque()
        self.bytes_inflight = 0
        #: How many messages may be on their way. It begins small after each probe and doubles as they arrive: else a network that reorders would have a
        #: whole flight sent again for each of its messages that comes out of turn.
        self.window = _FIRST_WINDOW
        self.commit_sent = 0
        #: The newest round of heartbeats that it has answered.
        self.round = 0
        self.active_at = now
        self.nudged_at = now
        #: When a member that was removed is told no more.
        self.leaving_at: float | None = None
        #: Which start of a member without a disk this is about.
        self.nonce = 0

    def probe(self, next_index: int) -> None:
        self.flow = Flow.PROBE
        self.next = max(next_index, self.match + 1)
        self.probing = False
        self._land_all()

    def replicate(self) -> None:
        self.flow = Flow.REPLICATE
        self.window = _FIRST_WINDOW
        self.next = self.match + 1
        self._land_all()

    def snapshot(self, index: int) -> None:
        self.flow = Flow.SNAPSHOT
        self.pending_snapshot = index
        self._land_all()

    def forget(self, match: int) -> None:
        """It no longer has what it said it had."""
        self.match = min(self.match, match)
        self.counted = min(self.counted, match)

    def sent(self, last_index: int, size: int) -> None:
        self.inflight.append((last_index, size))
        self.bytes_inflight += size

    def landed(self, index: int) -> None:
        """All up to `index` has arrived."""
        while self.inflight and self.inflight[0][0] <= index:
            self.bytes_inflight -= self.inflight.popleft()[1]
            self.window = min(2 * self.window, _MAX_WINDOW)

    def _land_all(self) -> None:
        self.inflight.clear()
        self.bytes_inflight = 0
