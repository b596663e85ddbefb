"""The consensus core driven by sockets, a disk and a clock: its caller, whose duties :mod:`.consensus` lists.

Whatever comes in goes into the core at once, and what comes out is done in the same turn of the loop: messages are sent, committed entries applied, and
what has to be on disk is gathered for the next write. One write is on its way at a time, in a thread, while the next one gathers; so a slow disk makes
larger writes, not longer queues. A small write on a disk that has been quick lately is done in place: handing it to a thread and back would cost a lone
client a third of its waiting. The only timer is for the core's next deadline, and a cluster of one has none.

A batch whose leader is lost is proposed again to the next one; the state machine knows second copies (see :meth:`.state.State.first_time`). So a failover
is a delay to whoever waits, not an error.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.barrier import Barriers
from kubeling.etcdlite.consensus.codec import BadMessage, decode, encode
from kubeling.etcdlite.consensus.configuration import Configuration, decode_configuration, tag_of
from kubeling.etcdlite.consensus.core import Core
from kubeling.etcdlite.consensus.messages import InstallSnapshot
from kubeling.etcdlite.consensus.types import Entry, Kind, Output
from kubeling.etcdlite.errors import NO_SPACE, STOPPED
from kubeling.etcdlite.journal import Batch, Journal, NoSpace
from kubeling.etcdlite.ops import batch_id
from kubeling.etcdlite.proposer import Proposer

log = get_logger("etcdlite.engine")

#: After so long others get their turn.
_TURN_SECONDS = 0.02
_FULL_RETRY_SECONDS = 0.5
_STAND_ASIDE_SECONDS = 0.2
#: As in etcd.
_SLOW_APPLY_SECONDS = 0.1
_MAX_INBOX = 10_000
_CORE_KINDS = range(1, 33)
#: A cluster of one has no follower that might need old entries: they are forgotten after so many bytes.
_FORGET_BYTES = 4 << 20


@dataclass(slots=True)
class Hooks:
    """What the engine has done for it. `install` makes the state that of the leader's snapshot and gives the file that is to be the newest one."""

    send: Callable[[int, bytes], bool]
    lead: Callable[[], None]
    fatal: Callable[[BaseException], None]
    configured: Callable[[Configuration], None]
    committed: Callable[[Configuration, bytes], None]
    install: Callable[[int], Path]
    adopt: Callable[[Path, int], None]
    ship: Callable[[int], None]
    recovered: Callable[[], None]


class Engine:
    """One member. `applied_term` is the term of the newest entry that is in the state already."""

    def __init__(
        self, core: Core, journal: Journal, disk: ThreadPoolExecutor, proposer: Proposer, hooks: Hooks, applied_term: int
    ) -> None:
        self.core = core
        self._journal = journal
        self._disk = disk
        self._proposer = proposer
        self._hooks = hooks
        self._loop = asyncio.get_running_loop()
        self.applied_index = core.applied
        self.applied_term = applied_term
        self.leader_changes = 0
        self.slow_applies = 0
        self.stopped = False
        self._acting = False
        self._scheduled = False
        self._seen = (0, 0)
        self._configuration = core.configuration
        self._outstanding: dict[int, bytes] = {}
        self._inbox: list[tuple[int, bytes]] = []
        self._sequence = 0
        self._installs: list[tuple[Path, int]] = []
        self._writing = False
        self.disk_full = False
        self._durable_waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.barriers = Barriers(core)
        self._recovery: asyncio.Task[None] | None = None
        self._awaited: list[tuple[Callable[[], bool], asyncio.Future[bool]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._forget_at = _FORGET_BYTES
        self._forgotten = 0

    # What others ask.

    @property
    def window(self) -> int:
        """How many batches of this member may be on their way at once."""
        return 1 if self.core.alone else 4

    @property
    def alone(self) -> bool:
        """Whether an answer from this member's own state is linearizable as it is, since there is no other voter."""
        return self.core.alone and self.core.applied == self.core.commit

    @property
    def leader_id(self) -> int:
        return self.core.leader

    @property
    def term(self) -> int:
        return self.core.term

    @property
    def last_index(self) -> int:
        return self.core.last_index

    def propose(self, number: int, data: bytes) -> None:
        """Make `data` durable on a quorum. The outcome comes later, except that an impossible proposal may fail at once."""
        if self.stopped:
            self._proposer.failed(number, STOPPED)
        elif self.disk_full:
            self._proposer.failed(number, NO_SPACE)
        else:
            self._outstanding[number] = data
            self.core.propose(data)
            self.act()

    def forget(self, number: int) -> None:
        """Nobody waits for this batch any more."""
        self._outstanding.pop(number, None)

    async def barrier(self) -> None:
        """Return once this member's state is no older than this call was: after it a local read is linearizable. Raises EtcdError."""
        if self.alone:
            return
        future = self.barriers.add()
        # All that come in this turn of the loop ask together.
        self.schedule()
        await future

    async def durable(self, index: int) -> None:
        """Return once this member's own disk has all entries up to `index`."""
        if self.core.durable_index < index:
            future: asyncio.Future[None] = self._loop.create_future()
            self._durable_waiters.append((index, future))
            await future

    def compacted(self, index: int) -> None:
        """Everything up to `index` is in a durable snapshot."""
        self.core.compact(index)

    # What comes in.

    def received(self, member: int, data: bytes) -> None:
        """A message of the core's has come."""
        if len(self._inbox) < _MAX_INBOX:
            self._inbox.append((member, data))
        self.schedule()

    def offer(self, message: InstallSnapshot) -> None:
        """A snapshot is whole and on disk."""
        self.core.step(message, self._loop.time())
        self.act()

    def lost(self, member: int) -> None:
        """The connection to a member is gone."""
        self.core.unreachable(member)
        self.schedule()

    def shipped(self, member: int, index: int, sound: bool) -> None:
        """How sending a snapshot went."""
        self.core.snapshot_done(member, index, sound)
        self.schedule()

    def schedule(self) -> None:
        """Act at the end of this turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._act_later)

    def _act_later(self) -> None:
        self._scheduled = False
        self.act()

    def _timeout(self) -> None:
        self._timer = None
        # What has come in meanwhile is looked at first: after a pause it may say that the leader lives.
        self._loop.call_soon(self.act, True)

    async def start(self) -> None:
        """Begin to take part. A cluster of one has everything applied then."""
        self.act(tick=True)
        if self.core.configuration.voters == (self.core.me,):
            await self.until(lambda: self.alone or self.disk_full or self.stopped, math.inf)

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a turn of this member's ends with that being so; False where it did not come to it in time."""
        if condition():
            return True
        future: asyncio.Future[bool] = self._loop.create_future()
        one = (condition, future)
        self._awaited.append(one)
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                return await future
        except TimeoutError:
            return False
        finally:
            self._awaited.remove(one)

    async def hand_over(self, seconds: float) -> None:
        """Before a planned stop: let another voter lead, if there is one and this member leads."""
        if not self.stopped and self.core.is_leader and self.core.transfer_to_best():
            self.act()
            await self.until(lambda: bool(self.core.leader) and not self.core.is_leader, seconds)

    async def stop(self) -> None:
        """Take no more part."""
        self.stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._proposer.fail_all(STOPPED)
        self.barriers.fail_all(STOPPED)
        for _, future in self._durable_waiters:
            future.cancel()

    # The turn.

    def act(self, tick: bool = False) -> None:
        """Do all that the core wants done."""
        if self._acting or self.stopped:
            return
        self._acting = True
        core = self.core
        try:
            self._take_inbox()
            if tick:
                core.tick(self._loop.time())
            self.barriers.begin()
            began = self._loop.time()
            while core.has_output:
                self._do(core.take())
                self._write()
                if self._loop.time() - began > _TURN_SECONDS:
                    self.schedule()
                    break
        except Exception as error:
            self.stopped = True
            self._hooks.fatal(error)
        finally:
            self._acting = False
        self._notice()
        self._arm()
        if self._awaited:
            for condition, future in self._awaited:
                if not future.done() and condition():
                    future.set_result(True)

    def _take_inbox(self) -> None:
        if not self._inbox:
            return
        now, me = self._loop.time(), self.core.me
        inbox, self._inbox = self._inbox, []
        for member, data in inbox:
            try:
                message = decode(member, me, data)
            except BadMessage as error:
                log.error("a peer sent something unreadable", peer=f"{member:x}", error=str(error))
                continue
            self.core.step(message, now)

    def _do(self, output: Output) -> None:
        self._sequence = output.sequence
        if output.install is not None:
            mark = output.install
            self._installs.append((self._hooks.install(mark.index), mark.index))
            self._journal.start_after(mark.index, mark.term)
            self.applied_index, self.applied_term = mark.index, mark.term
            self._hooks.committed(decode_configuration(mark.configuration), b"")
        if output.hard_state is not None:
            self._journal.set_vote(output.hard_state.term, output.hard_state.vote)
        for entry in output.entries:
            self._journal.add_entry(entry.index, entry.term, entry.data)
        send = self._hooks.send
        for message in output.messages:
            send(message.to, encode(message))
        for entry in output.committed:
            self._apply(entry)
        self.barriers.answered(output.reads, self.applied_index)
        for member in output.snapshots_for:
            self._hooks.ship(member)
        if output.recovered:
            log.info("everything is here again")
            # Its mark on disk may go no sooner than what it stands for is there.
            self._recovery = self._loop.create_task(self._recovered())
        if output.repropose:
            for data in list(self._outstanding.values()):
                self.core.propose(data)
        if self.core.configuration is not self._configuration:
            self._configuration = self.core.configuration
            self._hooks.configured(self._configuration)

    def _apply(self, entry: Entry) -> None:
        # The entry counts as applied before the chores that follow it look at the index.
        self.applied_index, self.applied_term = entry.index, entry.term
        kind = entry.data[0]
        if kind == Kind.NORMAL:
            session, number = batch_id(entry.data)
            if session == self._proposer.session:
                self._outstanding.pop(number, None)
            began = self._loop.time()
            self._proposer.applied(entry)
            took = self._loop.time() - began
            if took > _SLOW_APPLY_SECONDS:
                self.slow_applies += 1
                log.warning("applying an entry took long", index=entry.index, bytes=len(entry.data), seconds=round(took, 3))
            if self.core.alone:
                self._forget(len(entry.data))
        elif kind == Kind.CONFIGURATION:
            self._hooks.committed(decode_configuration(entry.data), tag_of(entry.data))

    def _forget(self, size: int) -> None:
        self._forgotten += size
        if self._forgotten > self._forget_at:
            self._forgotten = 0
            self.core.compact(self.core.applied)

    async def _recovered(self) -> None:
        try:
            await self.durable(self.core.last_index)
            self._hooks.recovered()
        except OSError as error:
            self._hooks.fatal(error)

    def _notice(self) -> None:
        now = (self.core.leader, self.core.term)
        if now == self._seen:
            return
        before, self._seen = self._seen, now
        if now[0] != before[0]:
            log.info("the leader is", leader=f"{now[0]:x}" if now[0] else "unknown", term=now[1])
            self.leader_changes += bool(now[0])
        self._hooks.lead()

    def _arm(self) -> None:
        due = self.core.next_deadline()
        if self._timer is not None:
            if due is not None and self._timer_due <= due:
                # It rings early at worst, and is set anew then: cheaper than a new timer for each heartbeat.
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_due = due
            self._timer = self._loop.call_at(due, self._timeout)

    # The disk.

    def _write(self) -> None:
        if self._writing or not (self._journal.pending or self._installs):
            return
        batch, sequence = self._journal.take(), self._sequence
        installs, self._installs = self._installs, []
        if not installs and self._journal.quick(batch.size):
            try:
                self._journal.write(batch)
            except (OSError, NoSpace) as error:
                self._writing = True
                self._failed(batch, sequence, installs, error)
            else:
                self._durable(sequence)
            return
        self._writing = True
        self._hand_to_thread(batch, sequence, installs)

    def _hand_to_thread(self, batch: Batch, sequence: int, installs: list[tuple[Path, int]]) -> None:
        if self.stopped:
            return
        writing = self._loop.run_in_executor(self._disk, self._put, batch, installs)
        writing.add_done_callback(lambda done: self._written(batch, sequence, installs, done))

    def _put(self, batch: Batch, installs: list[tuple[Path, int]]) -> None:
        """In the thread. The leader's snapshots get their names first; a crash before the log says so is known from its contents."""
        while installs:
            self._hooks.adopt(*installs[0])
            del installs[0]
        if batch.records:
            self._journal.write(batch)

    def _written(self, batch: Batch, sequence: int, installs: list[tuple[Path, int]], done: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            self._writing = self.disk_full = False
            self._durable(sequence)
            self._write()
            self.act()
        else:
            self._failed(batch, sequence, installs, error)

    def _durable(self, sequence: int) -> None:
        self.core.persisted(sequence)
        while self._durable_waiters and self._durable_waiters[0][0] <= self.core.durable_index:
            future = self._durable_waiters.popleft()[1]
            if not future.done():
                future.set_result(None)

    def _stand_aside(self) -> None:
        """Let one lead that has room on its disk."""
        if self.disk_full and self.core.is_leader and not self.core.transferring:
            self.core.transfer_to_best()
            self.schedule()

    def _failed(self, batch: Batch, sequence: int, installs: list[tuple[Path, int]], error: BaseException) -> None:
        """Nothing may be promised until this is on disk. A full disk may get room again; after any other failure nothing is certain any more."""
        if not isinstance(error, NoSpace):
            self.stopped = True
            self._proposer.fail_all(STOPPED)
            self.barriers.fail_all(STOPPED)
            self._hooks.fatal(error)
            return
        if self.core.retract():
            log.error("the disk is full: what it has no room for is refused", error=str(error))
            self._journal.take()
            self._writing = False
            self._proposer.fail_all(NO_SPACE)
            return
        if not self.disk_full:
            log.error("the disk is full: nothing can be acknowledged until there is room", error=str(error))
            self.disk_full = True
            # What is on its way is first given the time to be decided by the others.
            self._loop.call_later(_STAND_ASIDE_SECONDS, self._stand_aside)
        self._loop.call_later(_FULL_RETRY_SECONDS, self._hand_to_thread, batch, sequence, installs)


def is_core(data: bytes) -> bool:
    """Whether a message is the core's."""
    return bool(data) and data[0] in _CORE_KINDS
