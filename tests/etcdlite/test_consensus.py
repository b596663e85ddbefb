"""The consensus core under a virtual clock: seeded schedules of loss, delay, partitions, crashes and lost unsynced writes, invariants checked at each step.

The core is the real one over the real journal; network, time and the moment of each fsync are the test's. A crash loses what was not yet synced and
everything on the wire. The messages go through the real codec.
"""

from __future__ import annotations

import random
from pathlib import Path

import pysyncobj.syncobj
import pytest

from kubeling.etcdlite import raft_core
from kubeling.etcdlite.journal import Entry, Journal
from kubeling.etcdlite.peer_codec import Message, decode, encode
from kubeling.etcdlite.raft_core import RaftCore
from kubeling.etcdlite.raft_log import RaftLog

MEMBERS = [1, 2, 3]
PROMISES = frozenset(("next_node_idx", "response_vote", "request_vote"))


class NoSnapshots:
    """These schedules are short enough to need none."""

    def piece_for(self, member: int) -> None:
        return None

    def forget(self, member: int) -> None:
        """Nothing was begun."""

    def take_piece(self, piece: tuple[bytes, bool, bool]) -> None:
        return None

    def install(self) -> None:
        raise AssertionError("there are no snapshots")


class Node:
    """One member, driven as :class:`kubeling.etcdlite.raft.Raft` drives it, with the fsync as a step of its own."""

    def __init__(self, world: World, member: int) -> None:
        self.world, self.member = world, member
        self.directory = world.path / str(member)
        self.up = False
        self.boot()

    def boot(self) -> None:
        self.journal = Journal(self.directory, 1, self.member, 1 << 20)
        log = RaftLog(self.journal, 1, 0, self.journal.open(1))
        self.applied: list[tuple[int, int, bytes]] = []
        self.held: list[tuple[int, bytes]] = []
        self.inbox: list[tuple[int, bytes]] = []
        others = [other for other in MEMBERS if other != self.member]
        self.core = RaftCore(self.member, others, self.journal, log, NoSnapshots(), self.send, self.apply, 0.1, 1.0, None)
        self.syncing = False
        self.up = True

    def send(self, to: int, message: Message) -> None:
        data = encode(message, self.core.term)
        vote_pending = (self.journal.term, self.journal.vote) != self.durable_vote
        if message["type"] in PROMISES or message["type"] == "term" or vote_pending or self.held:
            self.held.append((to, data))
        else:
            self.world.post(self.member, to, data)

    @property
    def durable_vote(self) -> tuple[int, int]:
        return self.world.votes[self.member]

    def apply(self, entry: Entry) -> None:
        self.applied.append((entry.index, entry.term, entry.data))
        self.world.check_applied(entry)

    def turn(self) -> None:
        """What has come in, and what is due; nothing while an fsync is running."""
        if self.syncing:
            return
        inbox, self.inbox = self.inbox, []
        for sender, data in inbox:
            self.core.receive(sender, *decode(data))
        self.core.tick()
        self.world.check_leader(self)
        if self.journal.pending:
            self.syncing = True
        else:
            self.release()

    def sync(self) -> None:
        """The fsync returns."""
        if self.syncing:
            self.journal.write(self.journal.take())
            self.world.votes[self.member] = (self.journal.term, self.journal.vote)
            self.syncing = False
            self.release()

    def release(self) -> None:
        held, self.held = self.held, []
        for to, data in held:
            self.world.post(self.member, to, data)

    def crash(self) -> None:
        """What was gathered and not synced never was; the file descriptor is closed as the kernel would."""
        self.up = False
        self.journal.close()


class World:
    """Three members, a network and a clock."""

    def __init__(self, path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.rand, self.now = path, random.Random(seed), 100.0
        monkeypatch.setattr(pysyncobj.syncobj, "monotonicTime", lambda: self.now)
        monkeypatch.setattr(raft_core, "monotonic", lambda: self.now)
        random.seed(seed)
        self.votes = dict.fromkeys(MEMBERS, (0, 0))
        self.wire: dict[tuple[int, int], list[bytes]] = {}
        self.cut: set[tuple[int, int]] = set()
        self.leaders: dict[int, int] = {}
        self.history: dict[int, tuple[int, bytes]] = {}
        self.proposed = 0
        self.nodes = {member: Node(self, member) for member in MEMBERS}
        for one in MEMBERS:
            for other in MEMBERS:
                self.link(one, other)

    def link(self, one: int, other: int) -> None:
        """A connection is there (again): what was on the former one is lost."""
        for here, there in ((one, other), (other, one)):
            self.wire[here, there] = []
            if here != there and self.nodes[here].up and self.nodes[there].up:
                self.nodes[here].core.connected(there)

    def unlink(self, one: int, other: int) -> None:
        for here, there in ((one, other), (other, one)):
            self.wire[here, there] = []
            if self.nodes[here].up:
                self.nodes[here].core.disconnected(there)

    def post(self, sender: int, to: int, data: bytes) -> None:
        if (sender, to) not in self.cut:
            self.wire[sender, to].append(data)

    # What must hold.

    def check_leader(self, node: Node) -> None:
        if node.core._isLeader():
            former = self.leaders.setdefault(node.core.term, node.member)
            assert former == node.member, f"two leaders in term {node.core.term}"

    def check_applied(self, entry: Entry) -> None:
        known = self.history.setdefault(entry.index, (entry.term, entry.data))
        assert known == (entry.term, entry.data), f"entry {entry.index} was applied as {known}, and as {entry}"

    # What happens.

    def step(self) -> None:
        dice = self.rand.random()
        up = [node for node in self.nodes.values() if node.up]
        if dice < 0.45:
            lanes = [lane for lane, queue in self.wire.items() if queue and self.nodes[lane[1]].up]
            if lanes:
                sender, to = self.rand.choice(lanes)
                self.nodes[to].inbox.append((sender, self.wire[sender, to].pop(0)))
        elif dice < 0.7 and up:
            self.rand.choice(up).turn()
        elif dice < 0.88 and up:
            self.rand.choice(up).sync()
        elif dice < 0.95:
            self.now += self.rand.choice([0.01, 0.05, 0.2])
        elif dice < 0.98 and up:
            node = self.rand.choice(up)
            if node.core.leader:
                self.proposed += 1
                node.core.submit(b"\0%d" % self.proposed)
        elif dice < 0.99:
            self.trouble()
        else:
            for pair in list(self.cut):
                self.cut.discard(pair)
                self.link(*pair)

    def trouble(self) -> None:
        one, other = self.rand.sample(MEMBERS, 2)
        kind = self.rand.random()
        if kind < 0.3:
            # One way only, silently: TCP has not noticed.
            self.cut.add((one, other))
        elif kind < 0.5:
            self.unlink(one, other)
            self.link(one, other)
        elif self.nodes[one].up:
            self.nodes[one].crash()
            for peer in MEMBERS:
                if peer != one:
                    self.unlink(one, peer)
        else:
            self.restart(one)

    def restart(self, member: int) -> None:
        self.nodes[member].boot()
        for peer in MEMBERS:
            if peer != member and self.nodes[peer].up:
                self.link(member, peer)

    def heal(self) -> None:
        """Everything works again: all must agree and go on."""
        for member in MEMBERS:
            if not self.nodes[member].up:
                self.restart(member)
        self.cut.clear()
        for one in MEMBERS:
            for other in MEMBERS:
                if one < other:
                    self.unlink(one, other)
                    self.link(one, other)
        goal = b"\0the end"
        sent_in = 0
        for _ in range(4000):
            self.now += 0.02
            for node in self.nodes.values():
                for (sender, to), queue in self.wire.items():
                    if to == node.member:
                        node.inbox += [(sender, data) for data in queue]
                        queue.clear()
                node.turn()
                node.sync()
            leader = next((node for node in self.nodes.values() if node.core._isLeader()), None)
            if leader is not None and leader.core.term != sent_in:
                sent_in = leader.core.term
                leader.core.submit(goal)
            if all(any(data == goal for _, _, data in node.applied) for node in self.nodes.values()):
                return
        raise AssertionError("the healed cluster does not come to agree")


@pytest.mark.parametrize("seed", range(25))
def test_members_agree_under_any_schedule(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, seed, monkeypatch)
    for _ in range(4000):
        world.step()
    world.heal()
    assert len(world.history) > 1
    for node in world.nodes.values():
        # An entry that was once applied anywhere is in the log of everybody who has come so far.
        for index, (term, data) in world.history.items():
            item = next(iter(node.core._log.after(index - 1, index)), None)
            assert item == (data, index, term)
