"""Seats, queues and turns: the decisions of fair queuing, without I/O and without a clock of its own.

A priority level has seats. A request takes one (a large list several) and gives it back at its end. Where none is free it waits in a queue. A flow (a user, or a
namespace) is dealt a small hand of a level's queues and uses the shortest of them: two flows rarely share all of theirs, so one flow cannot fill everybody's. Whose turn
it is goes by the seat time that the queues have used (start-time fair queuing): the one that has used least goes next. A level may also use seats that others are not
using, as far as these lend them, and loses them as they are wanted back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

#: What a request is thought to take before it is known, in seconds.
_GUESS = 0.003
#: Where a configuration asks for more, it is refused by validation.
_MAX_HAND = 32


@dataclass(slots=True, eq=False)
class Ticket:
    """A request's place: waiting, or seated. `on_start` is called when its turn has come."""

    level: Level
    width: int
    queue: Queue | None = None
    began: float = -1.0
    on_start: Callable[[], None] | None = None

    @property
    def seated(self) -> bool:
        return self.began >= 0


@dataclass(slots=True, eq=False)
class Queue:
    """Requests that wait; `start` is the virtual time at which the first of them would begin."""

    waiting: deque[Ticket] = field(default_factory=deque)
    start: float = 0.0
    running: int = 0


class Refused(Exception):
    """There is no room; the text is upstream's name of the reason."""


class Level:
    """A priority level. `nominal` is its share of the seats; without `queues` it refuses what it has no seat for."""

    __slots__ = ("borrowable", "hand", "lendable", "length", "name", "nominal", "queues", "seats", "virtual", "waiting")

    def __init__(
        self,
        name: str,
        nominal: int,
        lendable: int = 0,
        borrowable: int | None = None,
        queues: int = 0,
        hand: int = 1,
        length: int = 0,
    ) -> None:
        self.name = name
        self.nominal = max(1, nominal)
        self.lendable = lendable
        self.borrowable = borrowable
        self.queues = [Queue() for _ in range(queues)]
        self.hand = min(hand, queues, _MAX_HAND)
        self.length = length
        #: Seats that are taken, requests that wait, and the virtual time.
        self.seats = 0
        self.waiting = 0
        self.virtual = 0.0

    def shortest(self, flow: str) -> Queue:
        """The queue that a request of a flow waits in."""
        return min(
            (self.queues[each] for each in deal(flow, len(self.queues), self.hand)),
            key=lambda each: (len(each.waiting), each.running),
        )

    def next(self) -> Queue:
        """The queue whose turn it is; some are not empty."""
        return min((each for each in self.queues if each.waiting), key=lambda each: each.start)


@lru_cache(maxsize=4096)
def deal(flow: str, deck: int, hand: int) -> tuple[int, ...]:
    """The cards that a flow is dealt: the same every time, and spread evenly over all flows."""
    number = int.from_bytes(blake2b(flow.encode(), digest_size=16).digest())
    dealt: list[int] = []
    for taken in range(hand):
        number, card = divmod(number, deck - taken)
        for each in sorted(dealt):
            card += card >= each
        dealt.append(card)
    return tuple(dealt)


class Levels:
    """All priority levels, which lend each other seats."""

    def __init__(self, levels: Iterable[Level] = ()) -> None:
        self._levels = list(levels)

    def __iter__(self) -> Iterator[Level]:
        return iter(self._levels)

    def enter(self, level: Level, flow: str, width: int, now: float) -> Ticket:
        """A request comes: it is seated, or it waits. Raises Refused."""
        ticket = Ticket(level, max(1, min(width, level.nominal)))
        if not level.queues:
            if not self._room(level, ticket.width):
                raise Refused("concurrency-limit")
            self._seat(ticket, now)
            return ticket
        queue = ticket.queue = level.shortest(flow)
        if not level.waiting and self._room(level, ticket.width):
            queue.start = max(queue.start, level.virtual)
            self._take_turn(ticket, queue, now)
            return ticket
        if len(queue.waiting) >= level.length:
            raise Refused("queue-full")
        if not queue.waiting:
            queue.start = max(queue.start, level.virtual)
        queue.waiting.append(ticket)
        level.waiting += 1
        return ticket

    def leave(self, ticket: Ticket, now: float) -> None:
        """A request is over, or has given up waiting. Others may begin."""
        level, queue = ticket.level, ticket.queue
        if not ticket.seated:
            if queue is not None and ticket in queue.waiting:
                queue.waiting.remove(ticket)
                level.waiting -= 1
            return
        level.seats -= ticket.width
        if queue is not None:
            queue.running -= 1
            # What it took is known now.
            queue.start += (now - ticket.began - _GUESS) * ticket.width
        if level.waiting:
            self._dispatch(level, now)
        for other in self._levels:
            if other.waiting and other is not level:
                self._dispatch(other, now)

    def _dispatch(self, level: Level, now: float) -> None:
        while level.waiting:
            queue = level.next()
            ticket = queue.waiting[0]
            if not self._room(level, ticket.width):
                return
            queue.waiting.popleft()
            level.waiting -= 1
            self._take_turn(ticket, queue, now)
            if ticket.on_start is not None:
                ticket.on_start()

    def _take_turn(self, ticket: Ticket, queue: Queue, now: float) -> None:
        ticket.level.virtual = max(ticket.level.virtual, queue.start)
        queue.start += _GUESS * ticket.width
        queue.running += 1
        self._seat(ticket, now)

    def _seat(self, ticket: Ticket, now: float) -> None:
        ticket.began = now
        ticket.level.seats += ticket.width

    def _room(self, level: Level, width: int) -> bool:
        """Whether there are seats: its own, or such as others lend."""
        wanted = level.seats + width - level.nominal
        if wanted <= 0 or not level.seats:
            return True
        if level.borrowable is not None and wanted > level.borrowable:
            return False
        lent = 0
        for each in self._levels:
            if each is level:
                continue
            lent += max(0, min(each.lendable, each.nominal - each.seats)) if not each.waiting else 0
            lent -= max(0, each.seats - each.nominal)
        return wanted <= lent
