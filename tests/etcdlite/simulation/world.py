"""Clock, network, faults and traffic, all drawn from one seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import replace

from kubeling.etcdlite.consensus import messages as m
from kubeling.etcdlite.consensus.codec import decode, encode
from kubeling.etcdlite.consensus.configuration import Change, ChangeKind, Configuration, Member
from kubeling.etcdlite.consensus.errors import Refused
from kubeling.etcdlite.consensus.types import Settings

from .checker import Checker, Violation
from .disk import Disk, Snapshot
from .member import SimMember

_HEALING_SECONDS = 60.0
#: Ten times what a usual schedule takes.
_MAX_STEPS = 100_000


class Narrow(random.Random):
    """Draws that hardly differ."""

    def uniform(self, a: float, b: float) -> float:
        return super().uniform(a, a + (b - a) / 8)


class World:
    """One schedule: :meth:`run` raises Violation with what went wrong."""

    def __init__(self, seed: int, trace: bool = False) -> None:
        self.seed = seed
        self.trace = trace
        self.rand = rand = random.Random(seed)
        self.now = 1000.0
        #: In a hectic world there is an election every moment, often with several candidates, and much goes wrong in the middle of it.
        self.hectic = rand.random() < 0.5
        #: Leaders without luck: three members, entries one by one, and every other leader is lost in the middle of its first steps (the Raft paper's figure 8).
        self.luckless = rand.random() < 0.25
        self.hectic = self.hectic or self.luckless
        self.ambush = rand.choice([0.02, 0.1, 0.3]) if self.hectic else 0.0
        self.settings = Settings(
            heartbeat=0.05 if self.hectic else 0.1,
            election=0.15 if self.hectic else 0.4,
            max_append_entries=rand.choice([1, 2, 1024]),
            max_append_bytes=rand.choice([8, 1 << 20]),
            max_inflight_messages=rand.choice([2, 128]),
            max_apply_bytes=rand.choice([4, 4 << 20]),
            max_pending_bytes=rand.choice([60, 1 << 20]),
            keep_entries=rand.choice([0, 3, 20]),
            promote_lag=5,
        )
        self.checker = Checker()
        self.digests: dict[int, int] = {}
        self.done = self.reads_done = self.steps = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.loss = rand.choice([0.0, 0.02, 0.2])
        self.doubling = rand.choice([0.0, 0.05])
        self.straggling = rand.choice([0.0, 0.05, 0.2])
        self.delay = rand.choice([0.002, 0.02])
        self.burst = rand.choice([1, 1, 4])
        self.lag = rand.choice([0.2, 1.5])
        self.fsync = rand.choice([0.001, 0.01, 0.1])
        self.through_codec = rand.random() < 0.2
        self.cut: set[tuple[int, int]] = set()
        self.healing = False
        self.lost_majority = False
        size = rand.choice([1, 2, 3, 3, 3, 3, 5])
        if self.luckless:
            self.settings = replace(self.settings, max_append_entries=1, max_pending_bytes=1 << 20)
            self.ambush, self.loss, self.burst, self.delay, size = 0.3, 0.0, 4, 0.01, 3
        self.next_member = size + 1
        first = Configuration([Member(member) for member in range(1, size + 1)])
        self.members: dict[int, SimMember] = {}
        for member in first.voters:
            self.members[member] = SimMember(self, member, Disk(first))
        self._numbers = iter(range(1, 1 << 30))

    def tell(self, what: str) -> None:
        if self.trace:
            print(f"{self.now - 1000:8.4f} {what}")

    def dice(self) -> random.Random:
        """What a core draws its time-outs from. In a hectic world they are close to each other."""
        return (Narrow if self.hectic else random.Random)(self.rand.getrandbits(32))

    def number(self) -> int:
        """A new number, for a proposal or a read."""
        return next(self._numbers)

    # Time.

    def at(self, delay: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay, self._count, what))

    def arm(self, member: SimMember) -> None:
        """Have a member's next deadline looked at, unless an earlier look is due anyhow."""
        due = member.core.next_deadline()
        if due is None or (member.timer is not None and member.timer <= due):
            return
        member.timer = due
        life = member.life
        self.at(max(0.0, due - self.now) + 1e-6, lambda: self._timer(member, life))

    def _timer(self, member: SimMember, life: int) -> None:
        if member.life != life or not member.up:
            return
        member.timer = None
        if member.paused:
            return
        due = member.core.next_deadline()
        if due is not None and due <= self.now:
            member.tick()
        else:
            self.arm(member)

    def sync_later(self, member: SimMember) -> None:
        if not member.syncing:
            member.syncing = True
            life = member.life
            self.at(self.rand.expovariate(1 / (self.fsync * member.slow)), lambda: self._synced(member, life))

    def _synced(self, member: SimMember, life: int) -> None:
        if member.life != life or not member.up:
            return
        if member.paused:
            # The kernel goes on writing, but nobody is there to hear of it.
            self.at(0.05, lambda: self._synced(member, life))
            return
        member.synced()

    # Network.

    def send(self, message: m.Message, payload: Snapshot | None) -> bool:
        """False where it is lost."""
        rand = self.rand
        to = message.to
        if self.trace:
            self.tell(f"   {message}")
        if (message.sender, to) in self.cut or to not in self.members or rand.random() < self.loss:
            return False
        for _ in range(2 if rand.random() < self.doubling else 1):
            delay = rand.expovariate(1 / self.delay)
            if rand.random() < self.straggling:
                delay += rand.uniform(0, self.lag)
            self.at(delay, lambda: self._deliver(message, payload))
        return True

    def _deliver(self, message: m.Message, payload: Snapshot | None) -> None:
        if (message.sender, message.to) in self.cut:
            return
        if self.through_codec:
            message = decode(message.sender, message.to, encode(message))
        self.members[message.to].receive(message, payload)

    # Traffic and faults.

    def _someone(self) -> SimMember | None:
        running = [member for member in self.members.values() if member.up and not member.paused]
        return self.rand.choice(running) if running else None

    def _leader(self) -> SimMember | None:
        leaders = [member for member in self.members.values() if member.up and not member.paused and member.core.is_leader]
        return self.rand.choice(leaders) if leaders else None

    def _traffic(self) -> None:
        member = (self._leader() if self.rand.random() < 0.5 else None) or self._someone()
        leaders = [member for member in self.members.values() if member.up and not member.paused and member.core.is_leader]
        if len(leaders) > 1:
            # One of them does not know yet that it has been deposed.
            for leader in leaders:
                leader.propose(self.number())
                leader.read(self.number())
        if member is not None:
            dice = self.rand.random()
            if dice < 0.5:
                for _ in range(self.burst):
                    member.propose(self.number())
            elif dice < 0.9:
                member.read(self.number())
            else:
                member.snapshot()
        if not self.healing:
            self.at(self.rand.expovariate(1 / 0.05), self._traffic)

    def _trouble(self) -> None:
        if self.healing:
            return
        kinds: list[Callable[[], None]] = [
            self._crash, self._crash, self._crash_all, self._cut_one_way, self._partition, self._partition, self._join_up, self._join_up, self._pause,
            self._slow, self._hang_up, self._transfer, self._change, self._change, self._change, self._wipe,
        ]  # fmt: skip
        if self.luckless:
            kinds = [self._join_up, self._crash, self._partition, self._pause]
        self.rand.choice(kinds)()
        self.at(self.rand.expovariate(1 / (0.12 if self.hectic else 0.25)), self._trouble)

    def _crash(self) -> None:
        member = (self._leader() if self.rand.random() < 0.5 else None) or self._someone()
        if member is not None:
            self.tell(f"{member.id} crashes")
            member.crash()
            self._disconnected(member)
            self.at(self.rand.expovariate(1 / self._downtime), lambda: self._restart(member))

    def _disconnected(self, member: SimMember) -> None:
        """Some of the others are told by their kernel that a connection is gone, whether or not its other side lives."""
        for other in self.members.values():
            if other is not member and self.rand.random() < 0.7:
                self.at(self.rand.uniform(0, 0.02), lambda other=other: other.lost(member.id))  # type: ignore[misc]

    def _hang_up(self) -> None:
        member = (self._leader() if self.rand.random() < 0.5 else None) or self._someone()
        if member is not None:
            self._disconnected(member)

    def ambushed(self, member: SimMember) -> None:
        """A member has just voted, been elected or committed something: now and then this is the moment at which it crashes."""
        if not self.healing and self.rand.random() < self.ambush:
            life = member.life
            if self.rand.random() < 0.5:
                self.at(0.0, lambda: self._fall(member, life))
            else:
                # Nobody hears it any more: what it has begun stays with it, and it comes back later.
                self.tell(f"{member.id} is alone")
                self.cut |= {(member.id, other) for other in self.members}
                self.at(self.rand.uniform(0, 0.4), lambda: self._heard_again(member))

    def _heard_again(self, member: SimMember) -> None:
        self.cut -= {(member.id, other) for other in self.members}

    def _fall(self, member: SimMember, life: int) -> None:
        if member.up and member.life == life:
            self.tell(f"{member.id} crashes")
            member.crash()
            self._disconnected(member)
            self.at(self.rand.expovariate(1 / self._downtime), lambda: self._restart(member))

    @property
    def _downtime(self) -> float:
        return self.rand.choice([0.01, 0.2]) if self.hectic else 0.4

    def _crash_all(self) -> None:
        if self.rand.random() < 0.3:
            self.tell("all crash")
            for member in self.members.values():
                if member.up:
                    member.crash()
                    self.at(self.rand.expovariate(1 / 0.2), lambda member=member: self._restart(member))  # type: ignore[misc]

    def _restart(self, member: SimMember) -> None:
        if not member.up and not member.gone:
            self.tell(f"{member.id} starts")
            member.start()

    def _wipe(self) -> None:
        """A member loses its disk; a second one does only when the first has all again, else more would be lost than a majority can stand."""
        voters = self._voters()
        if len(voters) < self.rand.choice([2, 3, 3, 3]) or any(member.wiped for member in self.members.values()):
            return
        member = self.members[self.rand.choice(sorted(voters))]
        self.tell(f"{member.id} loses its disk")
        if member.up:
            member.crash()
        member.disk = Disk()
        member.wiped = True
        self.at(self.rand.expovariate(1 / 0.2), lambda: self._restart(member))

    def _voters(self) -> set[int]:
        """Who votes in the newest configuration that anybody has."""
        newest = max(self.members.values(), key=lambda member: (member.core.last_term, member.core.last_index))
        return set(newest.core.configuration.voters)

    def _cut_one_way(self) -> None:
        one, other = self.rand.choice(list(self.members)), self.rand.choice(list(self.members))
        self.tell(f"{one} no longer reaches {other}")
        self.cut.add((one, other))

    def _partition(self) -> None:
        side = {member for member in self.members if self.rand.random() < 0.4}
        self.tell(f"partition of {sorted(side)}")
        self.cut |= {(a, b) for a in self.members for b in self.members if (a in side) != (b in side)}

    def _join_up(self) -> None:
        self.tell("the network is whole")
        self.cut.clear()

    def _pause(self) -> None:
        member = (self._leader() if self.rand.random() < 0.6 else None) or self._someone()
        if member is not None:
            self.tell(f"{member.id} is stopped")
            member.paused = True
            life = member.life
            self.at(self.rand.uniform(0.05, 2), lambda: self._resume(member, life))

    def _resume(self, member: SimMember, life: int) -> None:
        if member.up and member.paused and member.life == life:
            self.tell(f"{member.id} goes on")
            member.resume()

    def _slow(self) -> None:
        member = self._someone()
        if member is not None:
            member.slow = self.rand.choice([1.0, 1.0, 20.0])

    def _transfer(self) -> None:
        leader = self._leader()
        if leader is not None and len(leader.core.configuration.voters) > 1:
            target = self.rand.choice([voter for voter in leader.core.configuration.voters if voter != leader.id] or [0])
            if target:
                self.tell(f"{leader.id} hands over to {target}")
                leader.core.transfer(target)
                leader.act()

    def _change(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        configuration = leader.core.configuration
        rand = self.rand
        kind = rand.choice(list(ChangeKind))
        member = rand.choice(list(configuration.members))
        if kind in (ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER):
            if len(configuration.members) >= 6:
                return
            member = self.next_member
        elif kind is ChangeKind.PROMOTE and configuration.learners:
            member = rand.choice(configuration.learners)
        elif kind is ChangeKind.REMOVE and len(configuration.voters) <= rand.choice([1, 2, 3]):
            return
        try:
            leader.core.change(Change(kind, member, b"%d" % rand.getrandbits(8)))
        except Refused as refused:
            self.tell(f"{leader.id} refuses {kind.name} {member}: {refused}")
            return
        self.tell(f"{leader.id} begins {kind.name} {member}")
        if member == self.next_member:
            self.next_member += 1
            self.members[member] = SimMember(self, member, Disk())
        leader.act()

    # The whole schedule.

    def run(self, seconds: float = 8.0) -> None:
        """Trouble for some seconds, then peace, in which all that is left has to agree and go on."""
        self.at(0.3, self._traffic)
        self.at(0.8, self._trouble)
        self._until(self.now + seconds, lambda: False)
        self._heal()

    def _until(self, end: float, over: Callable[[], bool]) -> bool:
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, what = heapq.heappop(queue)
            self.steps += 1
            if self.steps > _MAX_STEPS:
                raise Violation(f"a storm of messages: {self.standing()}")
            what()
            if over():
                return True
        self.now = end
        return False

    def _heal(self) -> None:
        self.healing = True
        self.tell("all is healed")
        self.cut.clear()
        self.loss = self.straggling = 0.0
        for member in list(self.members.values()):
            member.slow = 1.0
            if not member.up:
                self._restart(member)
            elif member.paused:
                self._resume(member, member.life)
        before = self.checker.highest
        asked: set[int] = set()
        end = self.now + _HEALING_SECONDS
        while self.now < end:
            self._until(self.now + 0.3, lambda: False)
            leader = self._leader()
            if leader is not None and leader.core.term not in asked:
                asked.add(leader.core.term)
                leader.propose(self.number())
            if leader is not None and self._at_rest(leader, before):
                return
        if self._majority_lost():
            self.lost_majority = True
            return
        raise Violation(f"the healed cluster does not come to agree: {self.standing()}")

    def _majority_lost(self) -> bool:
        """Whether so many disks were emptied (or, by changes, so few others are left) that nobody can be elected ever again, and rightly so."""
        newest = max(self.members.values(), key=lambda member: (member.core.last_term, member.core.last_index))
        configuration = newest.core.configuration
        return sum(not self.members[voter].wiped for voter in configuration.voters) < configuration.quorum

    def _at_rest(self, leader: SimMember, before: int) -> bool:
        if leader.index <= before or leader.outstanding or leader.core.commit != leader.core.last_index:
            return False
        members = [self.members[member] for member in leader.core.configuration.members]
        return all(member.index == leader.index and not member.wiped and not member.reads for member in members)

    def standing(self) -> str:
        """Where everybody is, for a report."""
        return "; ".join(
            f"{member.id}: {'up' if member.up else 'down'} {member.core.role.name} term {member.core.term} leader {member.core.leader} "
            f"last {member.core.last_index} commit {member.core.commit} applied {member.index} wiped {member.wiped} reads {len(member.reads)} "
            f"outstanding {len(member.outstanding)} {member.core.configuration}"
            for member in self.members.values()
        )
