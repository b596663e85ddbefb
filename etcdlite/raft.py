"""The engine of a cluster of several members: the loop that drives :class:`.raft_core.RaftCore` by its rules.

Each turn: take the messages that have come, let the core act, put what it gathered on disk in a thread, and only then let those messages leave that
promise something (acknowledgements, votes, and everything of a term whose vote is not yet on disk). Entries may travel to followers while this member's
own fsync is still running, since the core counts its own copy no sooner than the next turn. The loop sleeps until the next message, proposal,
heartbeat or election.

A batch whose leader is lost is proposed again to the next one; the state machine knows second copies (see :meth:`.state.State.first_time`). So a failover
is a delay to whoever waits, not an error.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.config import Config
from kubeling.etcdlite.errors import (
    BAD_LEADER_TRANSFEREE,
    LEADER_TRANSFER_TIMEOUT,
    NO_LEADER,
    NO_SPACE,
    NOT_LEADER,
    STOPPED,
    TIMEOUT,
)
from kubeling.etcdlite.journal import Entry, Journal, NoSpace
from kubeling.etcdlite.ops import batch_id
from kubeling.etcdlite.peer_codec import BadMessage, Message, decode, encode
from kubeling.etcdlite.peer_transport import Callbacks, PeerTransport
from kubeling.etcdlite.proposer import Proposer
from kubeling.etcdlite.raft_core import RaftCore
from kubeling.etcdlite.raft_log import RaftLog
from kubeling.etcdlite.shipping import Shipping

log = get_logger("etcdlite.raft")

_FREE = frozenset(("append_entries", "apply_command", "pre_vote", "pre_vote_granted", "lease_ask", "lease_told", "timeout_now"))
_MAX_INBOX = 10_000
_KEEP_ENTRIES = 2000
_FULL_RETRY_SECONDS = 0.5
_ASK_SECONDS = 5.0


class Raft:
    """One member among several. `lead` is called when this member begins or ceases to lead, `fatal` with what cannot be survived.

    `caught_up` is given for a member that joins a running cluster with an empty disk, and called when it has what the others have.
    """

    window = 4
    alone = False

    def __init__(
        self,
        config: Config,
        journal: Journal,
        raft_log: RaftLog,
        disk: ThreadPoolExecutor,
        proposer: Proposer,
        shipping: Callable[[PeerTransport], Shipping],
        lease: Callable[[bool, int], int],
        lead: Callable[[bool], None],
        fatal: Callable[[BaseException], None],
        caught_up: Callable[[], None] | None,
    ) -> None:
        self._config = config
        self._journal = journal
        self._log = raft_log
        self._disk = disk
        self._proposer = proposer
        self._lease = lease
        self._lead = lead
        self._fatal = fatal
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._inbox: list[tuple[int, bytes]] = []
        self._held: list[tuple[int, bytes]] = []
        self._vote_written = (journal.term, journal.vote)
        self._outstanding: dict[int, bytes] = {}
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._ask_ids = itertools.count(1)
        self._disk_full = False
        self._seen = (0, 0)
        self.leader_changes = 0
        self.transport = PeerTransport(config, Callbacks(self._received, self._connected, self._disconnected))
        self._core = RaftCore(
            config.me.id,
            [peer.id for peer in config.others],
            journal,
            raft_log,
            shipping(self.transport),
            self._send,
            self._apply,
            config.heartbeat_seconds,
            config.election_seconds,
            caught_up,
        )
        self.applied_term = int(raft_log[0][2])
        self._driver: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen for the other members and begin to take part. Raises UsageError."""
        await self.transport.start()
        self._driver = self._loop.create_task(self._drive())

    async def stop(self) -> None:
        """Take no more part."""
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)
        self._proposer.fail_all(STOPPED)
        await self.transport.stop()

    # What others ask.

    @property
    def leader_id(self) -> int:
        return self._core.leader

    @property
    def term(self) -> int:
        return self._core.term

    @property
    def last_index(self) -> int:
        return self._core.last_index

    @property
    def applied_index(self) -> int:
        return self._log.applied_index

    def propose(self, number: int, data: bytes) -> None:
        """Have a batch put into the log, now or when there is a leader."""
        if self._disk_full:
            self._proposer.failed(number, NO_SPACE)
            return
        self._outstanding[number] = data
        if self._core.leader:
            self._core.submit(data)
            self._wake.set()

    def forget(self, number: int) -> None:
        self._outstanding.pop(number, None)

    def compacted(self, index: int) -> None:
        self._log.trim(index, _KEEP_ENTRIES)

    async def ask_lease(self, renew: bool, lease: int) -> int:
        """Have the leader renew a lease, or say what is left of it: seconds. Raises NO_LEADER and TIMEOUT."""
        leader = self._core.leader
        if not leader:
            raise NO_LEADER
        if leader == self._config.me.id:
            return self._lease(renew, lease)
        request = next(self._ask_ids)
        answer: asyncio.Future[int] = self._loop.create_future()
        self._asked[request] = answer
        self._send(leader, {"type": "lease_ask", "request": request, "renew": renew, "lease": lease, "seconds": 0})
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await answer
        except TimeoutError:
            raise TIMEOUT from None
        finally:
            del self._asked[request]

    async def move_leader(self, target: int) -> None:
        """Hand leadership over. Raises NOT_LEADER, BAD_LEADER_TRANSFEREE and LEADER_TRANSFER_TIMEOUT."""
        if self._core.leader != self._config.me.id:
            raise NOT_LEADER
        if target == self._config.me.id:
            return
        if target not in {peer.id for peer in self._config.others}:
            raise BAD_LEADER_TRANSFEREE
        deadline = self._loop.time() + 2 * self._config.election_seconds
        while self._core.leader != target:
            if self._loop.time() > deadline:
                raise LEADER_TRANSFER_TIMEOUT
            self._core.hand_over(target)
            self._wake.set()
            await asyncio.sleep(self._config.heartbeat_seconds)

    # The loop.

    async def _drive(self) -> None:
        try:
            while True:
                self._turn()
                if self._journal.pending:
                    await self._write()
                    self._wake.set()
                self._release()
                delay = self._core.due_in
                if delay > 0 and not self._wake.is_set():
                    timer = self._loop.call_later(delay, self._wake.set)
                    try:
                        await self._wake.wait()
                    finally:
                        timer.cancel()
                else:
                    await asyncio.sleep(0)
                self._wake.clear()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fatal(error)

    def _turn(self) -> None:
        inbox, self._inbox = self._inbox, []
        for member, data in inbox:
            try:
                message, stamp = decode(data)
            except BadMessage as error:
                log.error("a peer sent something unreadable", peer=f"{member:x}", error=str(error))
                continue
            if message["type"] == "lease_ask":
                self._told(member, message)
            elif message["type"] == "lease_told":
                answer = self._asked.get(message["request"])
                if answer is not None and not answer.done():
                    answer.set_result(message["seconds"])
            else:
                self._core.receive(member, message, stamp)
        self._core.tick()
        self._notice_leader()

    def _notice_leader(self) -> None:
        now = (self._core.leader, self._core.term)
        if now == self._seen:
            return
        before, self._seen = self._seen, now
        me = self._config.me.id
        if now[0] != before[0]:
            log.info("the leader is", leader=f"{now[0]:x}" if now[0] else "unknown", term=now[1])
        self._lead(now[0] == me)
        if now[0]:
            self.leader_changes += 1
            # Whatever was on its way to an earlier leader may be lost.
            for data in self._outstanding.values():
                self._core.submit(data)
            self._wake.set()

    async def _write(self) -> None:
        taken = self._journal.take()
        vote = (self._journal.term, self._journal.vote)
        while True:
            try:
                await self._loop.run_in_executor(self._disk, self._journal.write, taken)
                self._vote_written = vote
                self._disk_full = False
                return
            except NoSpace as error:
                # Nothing may be promised until this is on disk, so this member stands still; the others go on without it.
                if not self._disk_full:
                    log.error("the disk is full: this member takes no part until there is room", error=str(error))
                self._disk_full = True
                # What is on its way may yet be done, so its answer must not say that it was refused.
                self._proposer.fail_all(TIMEOUT)
                await asyncio.sleep(_FULL_RETRY_SECONDS)

    # Messages.

    def _send(self, member: int, message: Message) -> None:
        data = encode(message, self._core.term)
        vote_pending = (self._journal.term, self._journal.vote) != self._vote_written
        if message["type"] in _FREE and not vote_pending and not self._held:
            self.transport.send(member, data)
        else:
            self._held.append((member, data))

    def _release(self) -> None:
        held, self._held = self._held, []
        for member, data in held:
            self.transport.send(member, data)

    def _received(self, member: int, data: bytes) -> None:
        if len(self._inbox) < _MAX_INBOX:
            self._inbox.append((member, data))
        self._wake.set()

    def _connected(self, member: int) -> None:
        self._core.connected(member)
        if member == self._core.leader:
            # What was sent over the connection before this one may be lost.
            for data in self._outstanding.values():
                self._core.submit(data)
        self._wake.set()

    def _disconnected(self, member: int) -> None:
        self._core.disconnected(member)

    def _told(self, member: int, message: Message) -> None:
        if self._core.leader == self._config.me.id:
            seconds = self._lease(message["renew"], message["lease"])
            self._send(member, message | {"type": "lease_told", "seconds": seconds})

    def _apply(self, entry: Entry) -> None:
        self.applied_term = entry.term
        session, number = batch_id(entry.data)
        if session == self._proposer.session:
            self._outstanding.pop(number, None)
        # The entry counts as applied before the chores that follow it look at the index.
        self._log.applied_index = entry.index
        self._proposer.applied(entry)
