"""One member put together: state, log, engine, leases and watches, and the chores between them.

Chores are driven by what happens and by single timers, never by polling: compacted records are freed in slices between requests, leases are
revoked when the next one is due, a snapshot is made when the log has grown enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError
from kubeling.etcdlite import autocompact, identity, membership
from kubeling.etcdlite.cluster import Cluster
from kubeling.etcdlite.config import Config
from kubeling.etcdlite.consensus.configuration import Configuration, decode_configuration, encode_configuration
from kubeling.etcdlite.consensus.core import Core, Start
from kubeling.etcdlite.consensus.types import HardState, Settings
from kubeling.etcdlite.engine import Engine, Hooks
from kubeling.etcdlite.errors import EtcdError
from kubeling.etcdlite.frames import CorruptLog
from kubeling.etcdlite.histogram import Histogram
from kubeling.etcdlite.joining import Place
from kubeling.etcdlite.journal import SEGMENT_BYTES, Journal
from kubeling.etcdlite.mvcc import Record
from kubeling.etcdlite.ops import Expiry, Kind
from kubeling.etcdlite.proposer import Proposer
from kubeling.etcdlite.snapshot import Meta, SnapshotDirectory, decode, encode
from kubeling.etcdlite.state import State
from kubeling.etcdlite.watch import Hub
from kubeling.etcdlite.wire import HeaderMaker
from kubeling.proto import etcd_pb2 as pb

log = get_logger("etcdlite")

#: Raft's convention here: entry 1 is the empty beginning, the first real entry is number 2.
FIRST_INDEX = 1

_SCRUB_SLICE = 2000
_SNAPSHOT_RETRY_SECONDS = 10.0
_REVOKE_RETRY_SECONDS = 1.0
_LEADERLESS_SECONDS = 3.0


class Member:
    """Made and started by :func:`kubeling.etcdlite.server.run`; the services take what they need from its attributes.

    `lock` is the file descriptor that holds the data directory.
    """

    def __init__(self, config: Config, place: Place, lock: int, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.id = place.who.member
        self.cluster_id = place.who.cluster
        self._place = place
        self._lock = lock
        self.header = HeaderMaker(self.cluster_id, self.id)
        self.state = State(self.header, clock.monotonic)
        self.hub = Hub(self.state)
        self._loop = asyncio.get_running_loop()
        self.failure: asyncio.Future[None] = self._loop.create_future()
        self.proposer = Proposer(self.state, random.getrandbits(63), self._publish)
        self._disk = ThreadPoolExecutor(1, "disk")
        self._snapshots = SnapshotDirectory(config.data_dir / "snap")
        self.fsync_seconds, self.write_seconds, self.snapshot_seconds = Histogram(), Histogram(), Histogram()
        self.journal = Journal(
            config.data_dir / "wal",
            self.cluster_id,
            self.id,
            # Small enough that a snapshot lets whole segments go.
            min(SEGMENT_BYTES, max(64 << 10, config.snapshot_bytes // 2)),
            observe=self.fsync_seconds.observe,
            observe_write=self.write_seconds.observe,
            now=clock.monotonic,
        )
        #: Set while there is nothing compacted that is still to be freed.
        self.scrubbed = asyncio.Event()
        self.scrubbed.set()
        self._snapshotting = False
        self._snapshot_mark = 0
        self._snapshot_not_before = 0.0
        #: Called when there has been no leader for a while: streams that asked for it end, so that their clients go elsewhere.
        self.needs_leader: set[Callable[[], None]] = set()
        self._leaderless: asyncio.TimerHandle | None = None
        self._lease_timer: asyncio.TimerHandle | None = None
        self._lease_due = float("inf")
        self._primary = False
        self._alarm: asyncio.Future[bytes | EtcdError] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._publishing: asyncio.Task[None] | None = None
        self._compacting: asyncio.Task[None] | None = None
        self.cluster = Cluster(
            config,
            place,
            self._snapshots,
            self._disk,
            lambda: self.state.published,
            self.snapshot_and_wait,
            self._lease_seconds,
            self._leave,
        )
        self.engine: Engine

    # Life.

    async def start(self) -> None:
        """Read what is on disk and take part in the cluster. Raises UsageError with what is wrong with the data directory."""
        config = self.config
        try:
            start = self._load()
        except CorruptLog as error:
            raise UsageError(f"{config.data_dir}: {error}") from None
        except OSError as error:
            raise UsageError(f"{config.data_dir}: {error.strerror or error}") from None
        entries = len(start.entries)
        core = Core(
            self.id,
            Settings(heartbeat=config.heartbeat_seconds, election=config.election_seconds, max_apply_bytes=256 << 10),
            start,
            random.Random(),
            self._loop.time(),
        )
        hooks = Hooks(
            send=self.cluster.transport.send,
            lead=self._lead,
            fatal=self._fatal,
            configured=self.cluster.configured,
            committed=self.cluster.committed,
            install=self._install,
            adopt=self._snapshots.adopt,
            ship=self.cluster.ship,
            recovered=self._recovered,
        )
        self.engine = Engine(core, self.journal, self._disk, self.proposer, hooks, start.base_term)
        self.proposer.engine = self.cluster.engine = self.engine
        await self.cluster.listen()
        self.cluster.begin(start.configuration)
        await self.engine.start()
        if config.auto_compaction[1]:
            self._compacting = self._loop.create_task(autocompact.run(self))
            self._compacting.add_done_callback(self._ended)
        store = self.state.store
        log.info("started", member=f"{self.id:x}", revision=store.revision, keys=len(store), log_entries=entries)

    def _load(self) -> Start:
        """What the disk holds. Raises CorruptLog and OSError."""
        who = self._place.who
        found = self._snapshots.load()
        # A cluster that runs already is learned from it; one that begins is what the flags say, the same on each of its members.
        configuration = Configuration() if self._place.joins else membership.founding(self.config)
        base = (FIRST_INDEX, 0)
        if found is not None:
            meta, records = found
            self._restore(meta, records)
            base = (meta.index, meta.term)
            if meta.configuration:
                configuration = decode_configuration(bytes.fromhex(meta.configuration))
        entries = self.journal.open(*base)
        if self.journal.empty:
            # The log is there before anything says that there is one.
            self.journal.set_vote(0, 0)
            self.journal.write(self.journal.take())
        if identity.load(self.config.data_dir, who.name) != who:
            identity.save(self.config.data_dir, who)
        hard_state = HardState(self.journal.term, self.journal.vote)
        return Start(hard_state, *base, configuration, entries, who.recovering)

    def _recovered(self) -> None:
        identity.save(self.config.data_dir, replace(self._place.who, recovering=False))

    def _install(self, index: int) -> Path:
        """The leader's snapshot that has come in is what this member's state is to be."""
        path = self._snapshots.claim(index)
        meta, records = decode(path.read_bytes(), "the leader's snapshot")
        self._restore(meta, records)
        log.info("installed a snapshot from the leader", index=meta.index, revision=meta.revision)
        return path

    def _ended(self, chore: asyncio.Task[None]) -> None:
        if not chore.cancelled() and (error := chore.exception()) is not None:
            self._fatal(error)

    def _leave(self, reason: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_exception(reason)

    async def hand_over(self) -> None:
        """Before a planned stop: another member leads, so that nobody has to wait until this one is missed."""
        await self.engine.hand_over(2 * self.config.election_seconds)

    async def stop(self) -> None:
        """Take no more requests, and let what is on its way to the disk get there."""
        for chore in (self._publishing, self._compacting):
            if chore is not None:
                chore.cancel()
        await self.engine.stop()
        await self.cluster.stop()
        for timer in (self._lease_timer, self._leaderless):
            if timer is not None:
                timer.cancel()
        for task in list(self._background):
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await task
        await self._loop.run_in_executor(self._disk, self.journal.close)
        self._disk.shutdown(wait=False)
        os.close(self._lock)

    def _restore(self, meta: Meta, records: Iterable[bytes]) -> None:
        former = self.state.store.revision
        self.state.restore(meta, records)
        self.cluster.restore(meta.removed)
        self.hub.resume_all(former + 1)
        if self._primary:
            self.state.leases.promote(self.clock.monotonic())

    def _fatal(self, error: BaseException) -> None:
        log.error("this member cannot go on", error=repr(error))
        if isinstance(error, OSError):
            error = UsageError(
                f"{self.config.data_dir}: the disk has failed ({error.strerror or error}), so nothing can be acknowledged any more. "
                "Start this member again when the disk is sound; what it has acknowledged is there, or with the others"
            )
        if not self.failure.done():
            self.failure.set_exception(error)

    # After each applied entry.

    def _publish(self, records: list[Record]) -> None:
        if records:
            self.hub.publish(records)
        if self.state.store.scrub_pending and self.scrubbed.is_set():
            self.scrubbed.clear()
            self._loop.call_soon(self._scrub)
        if self.state.leases:
            self._arm_leases()
        if self.journal.bytes_written - self._snapshot_mark > self._snapshot_threshold:
            self._begin_snapshot()

    def _scrub(self) -> None:
        if self.state.store.scrub(_SCRUB_SLICE):
            self._loop.call_soon(self._scrub)
        else:
            self.scrubbed.set()

    # Leases.

    def _lead(self) -> None:
        """Another leader or another term: the one who leads counts the leases' time, from now on."""
        self.header.term = self.engine.term
        self._primary = primary = self.engine.leader_id == self.id
        if self._leaderless is not None:
            self._leaderless.cancel()
        self._leaderless = None if self.engine.leader_id else self._loop.call_later(_LEADERLESS_SECONDS, self._tell_leaderless)
        if primary:
            self.state.leases.promote(self.clock.monotonic())
        else:
            self.state.leases.demote()
        self._arm_leases()
        if self.engine.leader_id and (self._publishing is None or self._publishing.done()):
            self._publishing = self._loop.create_task(self._publish_self())
            self._publishing.add_done_callback(self._ended)

    async def _publish_self(self) -> None:
        """Have everybody know this member's name and where clients find it, unless they do."""
        said = (self.config.name, self.config.advertise_client_urls)
        backoff = Backoff(base=0.1, limit=5.0)
        while self.state.published.get(self.id) != said:
            if self.id in self.engine.core.configuration:
                request = pb.Member(ID=self.id, name=said[0], clientURLs=said[1])
                answer = await self.proposer.submit(Kind.PUBLISH, request.SerializeToString(), request)
                if not isinstance(answer, EtcdError):
                    return
            await asyncio.sleep(backoff.next())

    def _tell_leaderless(self) -> None:
        for tell in list(self.needs_leader):
            tell()

    def _arm_leases(self) -> None:
        due = self.state.leases.next_deadline() if self._primary else None
        if due is None or due >= self._lease_due:
            return
        if self._lease_timer is not None:
            self._lease_timer.cancel()
        self._lease_due = due
        self._lease_timer = self._loop.call_later(max(0.0, due - self.clock.monotonic()), self._revoke_expired)

    def _revoke_expired(self) -> None:
        self._lease_timer, self._lease_due = None, float("inf")
        if not self._primary:
            return
        for lease_id in self.state.leases.expired(self.clock.monotonic()):
            self.proposer.counts.leases_expired += 1
            request = Expiry(lease_id, self.engine.term)
            revoked = self.proposer.submit(Kind.LEASE_EXPIRE, request.encode(), request)
            revoked.add_done_callback(lambda done, lease_id=lease_id: self._revoked(lease_id, done))  # type: ignore[misc]
        self._arm_leases()

    def _revoked(self, lease_id: int, done: asyncio.Future[bytes | EtcdError]) -> None:
        if done.cancelled() or isinstance(done.result(), EtcdError):
            self._loop.call_later(_REVOKE_RETRY_SECONDS, self._revoke_again, lease_id)

    def _revoke_again(self, lease_id: int) -> None:
        self.state.leases.revoke_failed(lease_id)
        self._arm_leases()

    async def renew_lease(self, lease_id: int) -> int:
        """A keep-alive: the time to live in seconds, 0 where there is no such lease. Raises EtcdError where nobody can tell."""
        return max(0, await self.cluster.ask_lease(True, lease_id))

    async def lease_remaining(self, lease_id: int) -> int:
        """Seconds left of a lease, -1 where there is no such lease. Raises EtcdError where nobody can tell."""
        return await self.cluster.ask_lease(False, lease_id)

    def _lease_seconds(self, renew: bool, lease_id: int) -> int:
        leases, now = self.state.leases, self.clock.monotonic()
        try:
            return leases.renew(lease_id, now) if renew else leases.remaining(lease_id, now)
        except EtcdError:
            return -1

    def problem(self) -> str | None:
        """What keeps this member from answering, or None."""
        if self.failure.done():
            return "the disk has failed"
        return None if self.engine.leader_id else "there is no leader"

    # Space.

    def over_quota(self, more: int) -> bool:
        """Whether `more` bytes would be too many."""
        return self.state.store.size + more > self.config.quota_bytes

    async def raise_no_space(self) -> None:
        """Turn the NOSPACE alarm on, unless it is; then all members refuse what needs space until somebody turns it off."""
        if (self.id, pb.NOSPACE) in self.state.alarms:
            return
        if self._alarm is None or self._alarm.done():
            log.warning("the quota is used up", quota=self.config.quota_bytes, size=self.state.store.size)
            request = pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=self.id, alarm=pb.NOSPACE)
            self._alarm = self.proposer.submit(Kind.ALARM, request.SerializeToString(), request)
        await asyncio.shield(self._alarm)

    # Snapshots.

    @property
    def _snapshot_threshold(self) -> int:
        return max(self.config.snapshot_bytes, self.state.store.size // 4)

    def snapshot_meta(self) -> Meta:
        """What a snapshot of this moment says beside the records."""
        engine = self.engine
        meta = self.state.describe(engine.applied_index, engine.applied_term)
        meta.configuration = encode_configuration(engine.core.configuration_at(engine.applied_index)).hex()
        meta.removed = sorted(self.cluster.removed)
        return meta

    def _begin_snapshot(self) -> None:
        if self._snapshotting or self._loop.time() < self._snapshot_not_before:
            return
        self._snapshotting = True
        # Right behind the entry that is being applied: then the state is that of a whole number of entries.
        self._loop.call_soon(self._snapshot_now)

    def _snapshot_now(self) -> None:
        task = self._loop.create_task(self._make_snapshot())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def snapshot_and_wait(self) -> None:
        """Make a snapshot now, unless one is being made."""
        if not self._snapshotting:
            self._snapshotting = True
            await self._make_snapshot()

    async def _make_snapshot(self) -> None:
        meta, records = self.snapshot_meta(), self.state.store.records()
        mark = self.journal.bytes_written
        began = self._loop.time()
        try:
            # Applied may be what only the others have on disk: then this log would end before the snapshot does.
            await self.engine.durable(meta.index)
            await self._loop.run_in_executor(None, self._snapshots.save, meta.index, encode(meta, records))
            while await self._loop.run_in_executor(self._disk, self.journal.release, meta.index):
                pass
            self.engine.compacted(meta.index)
            self._snapshot_mark = mark
            self.snapshot_seconds.observe(self._loop.time() - began)
            log.info("snapshot made", index=meta.index, records=meta.records, seconds=round(self._loop.time() - began, 3))
        except OSError as error:
            log.error("no snapshot could be made; the log stays as it is", error=str(error))
            self._snapshot_not_before = self._loop.time() + _SNAPSHOT_RETRY_SECONDS
        finally:
            self._snapshotting = False
