"""One simulated member: the core, and the caller's duties in their simplest form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubeling.etcdlite.consensus import messages as m
from kubeling.etcdlite.consensus.configuration import encode_configuration
from kubeling.etcdlite.consensus.core import Core
from kubeling.etcdlite.consensus.types import Entry, Output, SnapshotMark

from .checker import Violation
from .disk import Disk, Snapshot

if TYPE_CHECKING:
    from .world import World


class SimMember:
    """`state` is the sequence of entry terms and payload numbers applied, as a rolling hash and the index: enough to compare members."""

    def __init__(self, world: World, member: int, disk: Disk) -> None:
        self.world = world
        self.id = member
        self.disk = disk
        self.up = False
        self.paused = False
        self.life = 0
        self.slow = 1.0
        #: Its disk was emptied and it has not recovered yet.
        self.wiped = False
        self.inbox: list[m.Message] = []
        self.gone = False
        self.start()

    def start(self) -> None:
        """Begin a new life from what the disk holds."""
        self.life += 1
        self.up, self.paused = True, False
        self.inbox = []
        start = self.disk.load(self.wiped)
        self.index = start.base_index
        self.digest = self.disk.snapshot[1][0] if self.disk.snapshot is not None else 0
        self.seen_commit = start.base_index
        self.core = Core(self.id, self.world.settings, start, self.world.dice(), self.world.now)
        self.outstanding: dict[int, bytes] = {}
        self.reads: dict[int, tuple[int, int]] = {}
        self.shipped: dict[int, Snapshot] = {}
        self.timer: float | None = None
        self.syncing = False
        self.led = (0, 0)
        self.act()

    def crash(self) -> None:
        self.up = False
        self.disk.crash(self.world.rand)

    # What comes in.

    def receive(self, message: m.Message, payload: Snapshot | None) -> None:
        if not self.up:
            return
        if payload is not None:
            # A snapshot is whole: its bytes wait in a temporary file while the core decides.
            self.shipped[payload[0].index] = payload
        if self.paused:
            self.inbox.append(message)
            return
        self.core.step(message, self.world.now)
        self.act()

    def resume(self) -> None:
        """Go on after a stop, with all that has come meanwhile before looking at the clock."""
        self.paused = False
        inbox, self.inbox = self.inbox, []
        for message in inbox:
            self.core.step(message, self.world.now)
        # Clients were waiting too: does it still think that it leads?
        self.read(self.world.number())
        self.tick()

    def lost(self, member: int) -> None:
        """The connection to a member is gone."""
        if self.up and not self.paused:
            self.core.unreachable(member)
            self.act()

    def tick(self) -> None:
        self.core.tick(self.world.now)
        self.act()

    def propose(self, number: int) -> None:
        data = b"\0%d" % number
        self.outstanding[number] = data
        self.core.propose(data)
        self.act()

    def read(self, number: int) -> None:
        self.reads[number] = (self.world.checker.floor, 0)
        self.core.read(number)
        self.act()

    # What goes out.

    def act(self) -> None:
        core, world = self.core, self.world
        world.checker.stepped(self)
        if core.is_leader and (core.term, core.commit) != self.led:
            self.led = (core.term, core.commit)
            world.ambushed(self)
        for _ in range(1000):
            if not core.has_output:
                break
            self._do(core.take())
            world.checker.stepped(self)
        else:
            raise Violation(f"{self.id} never comes to rest")
        world.arm(self)

    def _do(self, output: Output) -> None:
        core, world = self.core, self.world
        shipped = None
        if output.install is not None:
            shipped = self.shipped.pop(output.install.index)
            self.index, self.digest = output.install.index, shipped[1][0]
            self.seen_commit = max(self.seen_commit, self.index)
            self._serve_reads()
        if output.entries:
            world.checker.writing(core, output.entries)
        if output.must_write:
            self.disk.begin(output, shipped)
            world.sync_later(self)
        for message in output.messages:
            if isinstance(message, m.VoteReply) and message.granted:
                world.checker.voted(self.id, message.term, message.to)
                world.ambushed(self)
            world.send(message, None)
        for entry in output.committed:
            self._apply(entry)
        for ready in output.reads:
            if ready.id in self.reads:
                self.reads[ready.id] = (self.reads[ready.id][0], ready.index)
        self._serve_reads()
        for follower in output.snapshots_for:
            self._ship(follower)
        if output.recovered:
            self.wiped = False
        if output.repropose:
            for data in list(self.outstanding.values()):
                core.propose(data)

    def _apply(self, entry: Entry) -> None:
        if entry.index != self.index + 1:
            raise Violation(f"{self.id} is given entry {entry.index} to apply after {self.index}")
        self.index = entry.index
        self.digest = hash((self.digest, entry.term, entry.data))
        if self.world.digests.setdefault(entry.index, self.digest) != self.digest:
            raise Violation(f"applied prefixes: {self.id} is in another state after entry {entry.index}")
        if entry.data[0] == 0:
            number = int(entry.data[1:])
            if self.outstanding.pop(number, None) is not None:
                self.world.checker.acknowledged(entry.index)
                self.world.done += 1

    def _serve_reads(self) -> None:
        for number, (floor, index) in list(self.reads.items()):
            if index and self.index >= index:
                if self.index < floor:
                    raise Violation(
                        f"linearizable reads: a read at {self.id} sees up to {self.index}, but {floor} was seen before it began"
                    )
                self.world.checker.acknowledged(self.index)
                self.world.reads_done += 1
                del self.reads[number]

    # Disk and snapshots.

    def synced(self) -> None:
        """The disk has written all that was begun."""
        self.syncing = False
        self.core.persisted(self.disk.sync())
        self.act()

    def snapshot(self) -> None:
        """Make a snapshot of what is applied, unless the log on disk does not reach that far yet."""
        core = self.core
        if self.index <= core.durable_index and not self.disk.pending:
            mark = SnapshotMark(
                self.index, core.term_at(self.index) or 0, encode_configuration(core.configuration_at(self.index))
            )
            if core.term_at(self.index) is not None:
                self.disk.save((mark, (self.digest,)), self.world.rand.random() < 0.7)
                core.compact(self.index)
                self.act()
                if core.is_leader and self.world.rand.random() < 0.3:
                    # One that nobody asked for must do no harm either.
                    others = [member for member in core.configuration.members if member != self.id]
                    if others:
                        self._ship(self.world.rand.choice(others))

    def _ship(self, follower: int) -> None:
        world, core = self.world, self.core
        snapshot = self.disk.snapshot
        if snapshot is None or snapshot[0].index < core.first_index - 1 or world.rand.random() < 0.1:
            core.snapshot_done(follower, 0, False)
            return
        message = m.InstallSnapshot(self.id, follower, core.term, snapshot[0])
        arrived = world.send(message, snapshot)
        core.snapshot_done(follower, snapshot[0].index, arrived)
