"""One member put together: state, log, engine, leases and watches, and the chores between them.

Chores are driven by what happens and by single timers, never by polling: compacted records are freed in slices between requests, leases are
revoked when the next one is due, a snapshot is made when the log has grown enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError
from kubeling.etcdlite.config import Config
from kubeling.etcdlite.errors import BAD_LEADER_TRANSFEREE, EtcdError
from kubeling.etcdlite.frames import CorruptLog
from kubeling.etcdlite.histogram import Histogram
from kubeling.etcdlite.journal import SEGMENT_BYTES, Entry, Journal, sync_directory
from kubeling.etcdlite.mvcc import Record
from kubeling.etcdlite.ops import Kind, batch_id
from kubeling.etcdlite.proposer import Engine, Proposer
from kubeling.etcdlite.snapshot import Meta, SnapshotDirectory, decode, encode
from kubeling.etcdlite.solo import Solo
from kubeling.etcdlite.state import State
from kubeling.etcdlite.watch import Hub
from kubeling.etcdlite.wire import HeaderMaker
from kubeling.proto import etcd_pb2 as pb

if TYPE_CHECKING:
    from kubeling.etcdlite.raft import Raft

log = get_logger("etcdlite")

#: Raft's convention here: entry 1 is the empty beginning, the first real entry is number 2.
FIRST_INDEX = 1

_SCRUB_SLICE = 2000
_SNAPSHOT_RETRY_SECONDS = 10.0
_REVOKE_RETRY_SECONDS = 1.0
_LEADERLESS_SECONDS = 3.0


class Member:
    """Made and started by :func:`kubeling.etcdlite.server.run`; the services take what they need from its attributes."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.id = config.me.id
        self.cluster_id = config.cluster_id
        self.header = HeaderMaker(self.cluster_id, self.id)
        self.state = State(self.header, clock.monotonic)
        self.hub = Hub(self.state)
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.proposer = Proposer(self.state, random.getrandbits(63), self._publish)
        self._loop = asyncio.get_running_loop()
        self._disk = ThreadPoolExecutor(1, "disk")
        self._snapshots = SnapshotDirectory(config.data_dir / "snap")
        self.fsync_seconds = Histogram()
        self.journal = Journal(
            config.data_dir / "wal",
            self.cluster_id,
            self.id,
            # Small enough that a snapshot lets whole segments go.
            min(SEGMENT_BYTES, max(64 << 10, config.snapshot_bytes // 2)),
            observe=self.fsync_seconds.observe,
            now=clock.monotonic,
        )
        self._lock = -1
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
        self.engine: Engine
        self.raft: Raft | None = None

    # Life.

    async def start(self) -> None:
        """Read what is on disk and take part in the cluster. Raises UsageError with what is wrong with the data directory."""
        self._take_directory()
        try:
            base = self._load_snapshot()
            entries = self.journal.open(base[0])
        except CorruptLog as error:
            raise UsageError(f"{self.config.data_dir}: {error}") from None
        if self.config.others:
            await self._start_raft(base, entries)
        else:
            self._start_solo(base, entries)
        store = self.state.store
        log.info("started", member=f"{self.id:x}", revision=store.revision, keys=len(store), log_entries=len(entries))

    def _start_solo(self, base: tuple[int, int], entries: list[Entry]) -> None:
        for entry in entries:
            if entry.data[:1] == b"\x00" and self.state.first_time(*batch_id(entry.data)):
                self.state.replay(entry.data)
        self.state.take_events()
        applied = (entries[-1].index, entries[-1].term) if entries else base
        self.engine = self.proposer.engine = Solo(self.journal, self._disk, self.proposer, self.id, applied, self._fatal)
        self._lead(True)

    async def _start_raft(self, base: tuple[int, int], entries: list[Entry]) -> None:
        from kubeling.etcdlite.raft import Raft
        from kubeling.etcdlite.raft_log import RaftLog
        from kubeling.etcdlite.shipping import Shipping

        raft_log = RaftLog(self.journal, *base, entries)

        def become(meta: Meta, data: bytes) -> None:
            self._restore(meta, decode(data, "the leader's snapshot")[1])
            raft_log.restart(meta.index, meta.term)

        self.raft = Raft(
            self.config,
            self.journal,
            raft_log,
            self._disk,
            self.proposer,
            lambda transport: Shipping(self._snapshots, transport.unsent, self._begin_snapshot, become),
            self._lease_seconds,
            self._lead,
            self._fatal,
            self._joining(bool(entries) or base[0] > FIRST_INDEX or self.journal.term > 0),
        )
        self.engine = self.proposer.engine = self.raft
        await self.raft.start()

    def _joining(self, has_data: bool) -> Callable[[], None] | None:
        """What to call when a member that joins with an empty disk has caught up; None for any other. A file remembers it across restarts."""
        mark = self.config.data_dir / "joining"
        if self.config.existing and not has_data:
            mark.touch()
            sync_directory(self.config.data_dir)
        return mark.unlink if mark.exists() else None

    async def stop(self) -> None:
        """Take no more requests, and let what is on its way to the disk get there."""
        await self.engine.stop()
        for timer in (self._lease_timer, self._leaderless):
            if timer is not None:
                timer.cancel()
        for task in list(self._background):
            with contextlib.suppress(Exception):
                await task
        await self._loop.run_in_executor(self._disk, self.journal.close)
        self._disk.shutdown(wait=False)
        if self._lock >= 0:
            os.close(self._lock)

    def _take_directory(self) -> None:
        directory = self.config.data_dir
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{directory} is in use by another etcdlite: stop that one, or give another --data-dir") from None
        except OSError as error:
            raise UsageError(f"--data-dir {directory}: {error.strerror}") from None

    def _load_snapshot(self) -> tuple[int, int]:
        """Index and term of the newest entry that the snapshot on disk covers."""
        found = self._snapshots.load()
        if found is None:
            return FIRST_INDEX, 0
        self._restore(*found)
        return found[0].index, found[0].term

    def _restore(self, meta: Meta, records: Iterable[bytes]) -> None:
        former = self.state.store.revision
        self.state.restore(meta, records)
        self.hub.resume_all(former + 1)
        if self._primary:
            self.state.leases.promote(self.clock.monotonic())

    def _fatal(self, error: BaseException) -> None:
        log.error("the disk has failed", error=repr(error))
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

    def _lead(self, primary: bool) -> None:
        """This member leads, and so counts the leases' time, from now on, or no longer does."""
        self.header.term = self.engine.term
        self._primary = primary
        if self._leaderless is not None:
            self._leaderless.cancel()
        self._leaderless = None if self.engine.leader_id else self._loop.call_later(_LEADERLESS_SECONDS, self._tell_leaderless)
        if primary:
            self.state.leases.promote(self.clock.monotonic())
        else:
            self.state.leases.demote()
        self._arm_leases()

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
            request = pb.LeaseRevokeRequest(ID=lease_id)
            revoked = self.proposer.submit(Kind.LEASE_REVOKE, request.SerializeToString(), request)
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
        seconds = self._lease_seconds(True, lease_id) if self.raft is None else await self.raft.ask_lease(True, lease_id)
        return max(0, seconds)

    async def lease_remaining(self, lease_id: int) -> int:
        """Seconds left of a lease, -1 where there is no such lease. Raises EtcdError where nobody can tell."""
        return self._lease_seconds(False, lease_id) if self.raft is None else await self.raft.ask_lease(False, lease_id)

    def _lease_seconds(self, renew: bool, lease_id: int) -> int:
        leases, now = self.state.leases, self.clock.monotonic()
        try:
            return leases.renew(lease_id, now) if renew else leases.remaining(lease_id, now)
        except EtcdError:
            return -1

    # The cluster.

    def members(self) -> list[pb.Member]:
        """All members, as MemberList shows them."""
        return [
            pb.Member(
                ID=peer.id,
                name=peer.name,
                peerURLs=peer.peer_urls,
                clientURLs=self._client_urls(peer.id),
            )
            for peer in self.config.members
        ]

    async def move_leader(self, target: int) -> None:
        """Hand leadership to `target`. Raises EtcdError."""
        if self.raft is not None:
            await self.raft.move_leader(target)
        elif target != self.id:
            raise BAD_LEADER_TRANSFEREE

    def _client_urls(self, member: int) -> tuple[str, ...]:
        if member == self.id:
            return self.config.advertise_client_urls
        return self.raft.transport.client_urls.get(member, ()) if self.raft is not None else ()

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
        return self.state.describe(self.engine.applied_index, self.engine.applied_term)

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
            await self._loop.run_in_executor(None, self._snapshots.save, meta.index, encode(meta, records))
            await self._loop.run_in_executor(self._disk, self.journal.release, meta.index)
            self.engine.compacted(meta.index)
            self._snapshot_mark = mark
            log.info("snapshot made", index=meta.index, records=meta.records, seconds=round(self._loop.time() - began, 3))
        except OSError as error:
            log.error("no snapshot could be made; the log stays as it is", error=str(error))
            self._snapshot_not_before = self._loop.time() + _SNAPSHOT_RETRY_SECONDS
        finally:
            self._snapshotting = False
