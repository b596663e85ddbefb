"""The other members as one member deals with them: messages by their kind, questions to the leader, snapshots on their way, changes of the membership."""

from __future__ import annotations

import asyncio
import json
import secrets
import struct
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import TypeVar

from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError
from kubeling.etcdlite import asks, membership, shipping
from kubeling.etcdlite.asks import Asks
from kubeling.etcdlite.config import Config
from kubeling.etcdlite.consensus import errors as refusals
from kubeling.etcdlite.consensus.configuration import Change, ChangeKind, Configuration
from kubeling.etcdlite.consensus.messages import InstallSnapshot
from kubeling.etcdlite.engine import Engine, is_core
from kubeling.etcdlite.errors import (
    BAD_LEADER_TRANSFEREE,
    LEADER_CHANGED,
    LEADER_TRANSFER_TIMEOUT,
    LEARNER_NOT_READY,
    MEMBER_EXISTS,
    MEMBER_NOT_FOUND,
    MEMBER_NOT_LEARNER,
    NO_LEADER,
    NOT_LEADER,
    TIMEOUT,
    TOO_FEW_STARTED,
    TOO_MANY_LEARNERS,
    TOO_MANY_REQUESTS,
    UNHEALTHY,
    EtcdError,
)
from kubeling.etcdlite.joining import Place
from kubeling.etcdlite.membership import Published
from kubeling.etcdlite.peer_transport import Callbacks, PeerTransport
from kubeling.etcdlite.shipping import Incoming, Outgoing
from kubeling.etcdlite.snapshot import SnapshotDirectory
from kubeling.proto import etcd_pb2 as pb

log = get_logger("etcdlite.cluster")

T = TypeVar("T")

_LEASE, _CHANGE = 1, 2
_LEASE_QUESTION = struct.Struct(">?q")
_LEASE_ANSWER = struct.Struct(">q")
_ASK_SECONDS = 5.0
_CHANGE_SECONDS = 7.0
#: A voter that was heard of within this counts as healthy.
_HEALTH_SECONDS = 5.0
#: What clients of a member that was removed get to hear that from it.
_LEAVE_SECONDS = 1.0

_REFUSALS: dict[type[refusals.Refused], EtcdError] = {
    refusals.NotLeader: LEADER_CHANGED,
    refusals.ChangeInFlight: TIMEOUT,
    refusals.NotInSync: LEARNER_NOT_READY,
    refusals.NoSuchMember: MEMBER_NOT_FOUND,
    refusals.AlreadyMember: MEMBER_EXISTS,
    refusals.NotLearner: MEMBER_NOT_LEARNER,
    refusals.LastVoter: TOO_FEW_STARTED,
    refusals.TooMany: TOO_MANY_REQUESTS,
    refusals.BadTransferee: BAD_LEADER_TRANSFEREE,
}


class Cluster:
    """`lease` renews a lease or says what is left of it; `removed` is called when this member is none any more."""

    engine: Engine

    def __init__(
        self,
        config: Config,
        place: Place,
        snapshots: SnapshotDirectory,
        disk: Executor,
        published: Callable[[], Published],
        make_snapshot: Callable[[], Awaitable[None]],
        lease: Callable[[bool, int], int],
        removed: Callable[[BaseException], None],
    ) -> None:
        self.me = place.who.member
        self._config = config
        self._place = place
        self._published = published
        self._lease = lease
        self._removed = removed
        self._loop = asyncio.get_running_loop()
        callbacks = Callbacks(self._received, self._lost, self._was_removed, self._describe)
        self.transport = PeerTransport(place.who.cluster, self.me, config.peer_tls, callbacks)
        self.asks = Asks(self.transport.send, {_LEASE: self._answer_lease, _CHANGE: self._answer_change})
        self._outgoing = Outgoing(snapshots, self.transport, make_snapshot, self._shipped)
        self._incoming = Incoming(self.me, snapshots.incoming, disk, self.transport.send, self._offer)
        #: The members as of the newest committed change, and those that are none any more.
        self.configuration = Configuration()
        self.removed: set[int] = set()
        self._tags: dict[bytes, asyncio.Future[None]] = {}

    async def listen(self) -> None:
        """Take connections of other members. Raises UsageError."""
        try:
            await self.transport.listen(self._config.listen_peer_urls)
        except UsageError as error:
            if self._config.peer_urls_given:
                raise
            # A lone member that nobody told where peers are to find it needs none to.
            log.warning("no other member can join this one", error=str(error))

    def begin(self, configuration: Configuration) -> None:
        """Connect to those who were members when this one last ran."""
        self.configuration = configuration
        self.configured(configuration)

    async def stop(self) -> None:
        await self._outgoing.stop()
        await self._incoming.stop()
        await self.asks.stop()
        await self.transport.stop()

    # What the engine says.

    def configured(self, configuration: Configuration) -> None:
        """Another configuration is in effect: connect to those who are in it."""
        self.transport.set_peers(membership.peer_urls(configuration) if configuration.members else self._place.urls)

    def committed(self, configuration: Configuration, tag: bytes) -> None:
        """A configuration is committed: whoever waits for this change is told, and who is gone is let in no more."""
        gone = set(self.configuration.members) - set(configuration.members)
        if gone:
            self.removed |= gone
            self.transport.removed = frozenset(self.removed)
            log.info("members were removed", members=",".join(f"{member:x}" for member in gone))
        self.configuration = configuration
        waiting = self._tags.get(tag)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        if self.me in gone:
            self._loop.call_later(_LEAVE_SECONDS, self._was_removed)

    def restore(self, removed: list[int]) -> None:
        """A snapshot says who is no member any more."""
        self.removed |= set(removed)
        self.transport.removed = frozenset(self.removed)

    def ship(self, member: int) -> None:
        """A follower needs a snapshot."""
        self._outgoing.begin(member, self.engine.term, self.engine.core.first_index)

    def _shipped(self, member: int, index: int, sound: bool) -> None:
        self.engine.shipped(member, index, sound)

    def _offer(self, message: InstallSnapshot) -> None:
        self.engine.offer(message)

    # What the other members say.

    def _received(self, member: int, data: bytes) -> None:
        if is_core(data):
            self.engine.received(member, data)
        elif data[:1] in (bytes((asks.QUESTION,)), bytes((asks.ANSWER,))):
            self.asks.received(member, data)
        elif data[:1] == bytes((shipping.PIECE,)):
            self._incoming.piece(member, data)
        elif data[:1] == bytes((shipping.LAST,)):
            self._incoming.last(member, data)
        elif data[:1] == bytes((shipping.OUTCOME,)):
            self._outgoing.outcome(member, data)
        else:
            log.error("a peer sent something unreadable", peer=f"{member:x}")

    def _lost(self, member: int) -> None:
        self.asks.lost(member)
        self._outgoing.lost(member)
        self._incoming.lost(member)
        self.engine.lost(member)

    def _describe(self) -> bytes:
        configuration = self.engine.core.configuration
        if not configuration.members:
            return b""
        return membership.description(self.transport.cluster, configuration, self._published())

    def _was_removed(self) -> None:
        self._removed(UsageError("this member was removed from the cluster: empty its --data-dir before it is added again"))

    # Leases.

    async def ask_lease(self, renew: bool, lease: int) -> int:
        """Have the leader renew a lease, or say what is left of it: seconds. Raises NO_LEADER, TIMEOUT and whatever the leader says."""
        question = _LEASE_QUESTION.pack(renew, lease)

        async def once(leader: int) -> int:
            if leader == self.me:
                return await self._count_lease(renew, lease)
            (seconds,) = _LEASE_ANSWER.unpack(await self.asks.ask(leader, _LEASE, question, _ASK_SECONDS))
            return int(seconds)

        return await self._with_leader(once, _ASK_SECONDS)

    async def _with_leader(self, once: Callable[[int], Awaitable[T]], seconds: float) -> T:
        """Have something done by the leader: by the next one where it turns out that another leads. Raises NO_LEADER where there is none in time."""
        backoff = Backoff(base=0.02, limit=0.2)
        deadline = self._loop.time() + seconds
        while True:
            try:
                if self.engine.leader_id:
                    return await once(self.engine.leader_id)
            except EtcdError as error:
                if error is not LEADER_CHANGED or self._loop.time() > deadline:
                    raise
            if self._loop.time() > deadline:
                raise NO_LEADER
            await asyncio.sleep(backoff.next())

    async def _answer_lease(self, body: bytes) -> bytes:
        return _LEASE_ANSWER.pack(await self._count_lease(*_LEASE_QUESTION.unpack(body)))

    async def _count_lease(self, renew: bool, lease: int) -> int:
        # A leader that does not know yet that it leads no more must not promise time that its successor does not give. Whoever succeeds one that still led
        # when this was asked begins to count later.
        await self.engine.barrier()
        if self.engine.leader_id != self.me:
            raise LEADER_CHANGED
        return self._lease(renew, lease)

    # Changes.

    async def move_leader(self, target: int) -> None:
        """Hand leadership over. Raises NOT_LEADER, BAD_LEADER_TRANSFEREE and LEADER_TRANSFER_TIMEOUT."""
        core = self.engine.core
        if not core.is_leader:
            raise NOT_LEADER
        if target == self.me:
            return
        try:
            core.transfer(target)
        except refusals.Refused as error:
            raise _REFUSALS[type(error)] from None
        self.engine.schedule()
        if not await self.engine.until(lambda: core.leader == target, 2 * self._config.election_seconds):
            raise LEADER_TRANSFER_TIMEOUT

    async def change(self, kind: ChangeKind, member: int, urls: tuple[str, ...] = ()) -> list[pb.Member]:
        """Change the membership, here or by the leader; the members as they are then. Raises EtcdError."""
        question = json.dumps([int(kind), member, urls]).encode()

        async def once(leader: int) -> list[pb.Member]:
            if leader == self.me:
                return await self._change_here(kind, member, urls)
            said = await self.asks.ask(leader, _CHANGE, question, _CHANGE_SECONDS)
            return list(pb.MemberListResponse.FromString(said).members)

        return await self._with_leader(once, _CHANGE_SECONDS)

    async def _answer_change(self, body: bytes) -> bytes:
        kind, member, urls = json.loads(body)
        if self.engine.leader_id != self.me:
            raise LEADER_CHANGED
        members = await self._change_here(ChangeKind(kind), int(member), tuple(urls))
        return pb.MemberListResponse(members=members).SerializeToString()

    async def _change_here(self, kind: ChangeKind, member: int, urls: tuple[str, ...]) -> list[pb.Member]:
        core = self.engine.core
        await self.engine.until(lambda: not core.configuration_pending or not core.is_leader, _CHANGE_SECONDS)
        known = core.configuration.members.get(member)
        if kind not in (ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER) and known is None:
            raise MEMBER_NOT_FOUND
        if urls:
            membership.checked_urls(urls, core.configuration, member)
        if kind is ChangeKind.PROMOTE and known is not None and known.learner and not core.in_sync(member):
            # Before the others' health is looked at, as in etcd.
            raise LEARNER_NOT_READY
        if kind is ChangeKind.ADD_LEARNER and len(core.configuration.learners) >= self._config.max_learners:
            raise TOO_MANY_LEARNERS
        learner_goes = kind is ChangeKind.REMOVE and known is not None and known.learner
        if self._config.strict_reconfig and kind is not ChangeKind.UPDATE and not learner_goes:
            self._check_health(kind, member)
        tag = secrets.token_bytes(16)
        committed = self._tags[tag] = self._loop.create_future()
        try:
            index, term = core.change(Change(kind, member, membership.encode_urls(urls) if urls else b"", tag)), core.term
            self.engine.act()
            if not await self.engine.until(
                lambda: committed.done() or (core.is_leader and core.term == term and core.decided(index)), _CHANGE_SECONDS
            ):
                raise TIMEOUT
        except refusals.Refused as error:
            raise _REFUSALS[type(error)] from None
        finally:
            del self._tags[tag]
        log.info("the membership was changed", change=kind.name.lower(), member=f"{member:x}")
        return self.members()

    def members(self) -> list[pb.Member]:
        """The members as they count from now on."""
        return membership.listed(self.engine.core.configuration, self._published())

    def _check_health(self, kind: ChangeKind, member: int) -> None:
        """As etcd does it with ``--strict-reconfig-check``: no change that the members who are alive could not outvote. Raises EtcdError."""
        core, published = self.engine.core, self._published()
        since = self._loop.time() - _HEALTH_SECONDS
        voters = core.configuration.voters
        healthy = {voter for voter in voters if voter in core.progress and core.progress[voter].active_at > since} | {self.me}
        if kind is ChangeKind.REMOVE:
            rest = [voter for voter in voters if voter != member]
            if len([voter for voter in rest if voter in published]) < len(rest) // 2 + 1:
                raise TOO_FEW_STARTED
            if member in healthy and len(healthy) - 1 < 1 + (len(voters) - 1) // 2:
                raise UNHEALTHY
            return
        started = len([voter for voter in voters if voter in published])
        if kind is ChangeKind.ADD_VOTER:
            if len(voters) > 1 and started < (len(voters) + 1) // 2 + 1:
                raise TOO_FEW_STARTED
        elif kind is ChangeKind.PROMOTE and started + (member in published) < (len(voters) + 1) // 2 + 1:
            raise TOO_FEW_STARTED
        if kind is not ChangeKind.PROMOTE and len(healthy) < len(voters):
            raise UNHEALTHY
