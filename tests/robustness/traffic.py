"""Traffic: clients that do what clients of etcd do, from a seed, on few keys, so that they meet.

Values are never written twice, so an answer tells whose write it shows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from .client import Client
from .cluster import Member
from .history import History
from .linearize import shown
from .model import prefix_end
from .operations import (
    KV,
    OK,
    Compact,
    Compare,
    Delete,
    Grant,
    KeepAlive,
    LeaseBody,
    Operation,
    Put,
    Range,
    Request,
    Revoke,
    Txn,
)

PREFIX = "r/"
KEYS = tuple(f"{PREFIX}{name}" for name in ("a", "b", "c", "d", "e", "f", "g", "h"))
LEASED = tuple(f"{PREFIX}l/{number}" for number in range(4))
KEPT = f"{PREFIX}k"
#: What large values are filled with.
PADDING = "."
#: The last write of a run: who has seen it has seen all.
MARKER = f"{PREFIX}~end"


class Traffic:
    """Clients that go on until they are told to stop. `every` is a client's mean pause between two requests, in seconds."""

    def __init__(self, history: History, members: Sequence[Member], seed: str, clients: int = 6, every: float = 0.02) -> None:
        self.history, self.members = history, members
        self._seed, self._clients, self._every = seed, clients, every
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._values = 0
        self._leases = 1000
        #: The newest form of each key that any client has been shown.
        self._known: dict[str, KV] = {}
        self.highest = 1
        self.acknowledged = 0
        self._goal, self._reached = 0, asyncio.Event()

    async def __aenter__(self) -> Traffic:
        for number in range(self._clients):
            self._tasks.append(asyncio.ensure_future(self._work(number)))
        self._tasks += [asyncio.ensure_future(self._lease_holder()), asyncio.ensure_future(self._lease_keeper())]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def pause(self, seconds: float) -> bool:
        """Wait; True when the traffic is over."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    async def progress(self, writes: int, seconds: float = 20.0) -> None:
        """Wait until so many more writes are acknowledged. Raises TimeoutError."""
        self._goal, self._reached = self.acknowledged + writes, asyncio.Event()
        async with asyncio.timeout(seconds):
            await self._reached.wait()

    async def _work(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/client/{number}")
        client = Client(f"c{number}", self.history)
        member = self.members[number % len(self.members)]
        try:
            while not await self.pause(rng.expovariate(1 / self._every)):
                op = await client.do(member, self._request(rng))
                self._learn(op)
                if op.outcome != OK or rng.random() < 0.02:
                    member = rng.choice(self.members)
        finally:
            await client.close()

    def _learn(self, op: Operation) -> None:
        if op.outcome != OK:
            return
        self.highest = max(self.highest, op.revision)
        self.acknowledged += isinstance(op.request, (Put, Txn, Delete))
        if self.acknowledged >= self._goal:
            self._reached.set()
        for kv in shown(op.body):
            if kv is not None and kv.mod > self._known.get(kv.key, kv._replace(mod=0)).mod:
                self._known[kv.key] = kv

    def value(self) -> str:
        """One that nobody has written; some are large enough to cross sectors and pages, and to fill logs."""
        self._values += 1
        return f"v{self._values}" + PADDING * (self._values * 37 % 4000 if self._values % 6 == 0 else 0)

    def _request(self, rng: random.Random) -> Request:
        key = rng.choice(KEYS)
        match rng.choices(range(9), (28, 14, 8, 10, 7, 18, 10, 2, 3))[0]:
            case 0:
                return Put(key, self.value())
            case 1:
                return Range(key)
            case 2:
                return Range(PREFIX, prefix_end(PREFIX), limit=rng.choice((0, 0, 3)))
            case 3:
                return Range(*rng.choice(((key, ""), (PREFIX, prefix_end(PREFIX)))), serializable=True)
            case 4:
                return Delete(key)
            case 5:
                return self._compare_and_set(rng, key)
            case 6:
                return self._transfer(rng)
            case 7:
                first, last = sorted(rng.sample(KEYS, 2))
                return Delete(first, last)
            case _:
                past = max(1, self.highest - rng.randrange(30))
                return Range(PREFIX, prefix_end(PREFIX), revision=past)

    def _compare_and_set(self, rng: random.Random, key: str) -> Txn:
        """As Kubernetes writes: if the key is as I know it, then put; else show me how it is."""
        known = self._known.get(key)
        if known is None or rng.random() < 0.2:
            compare = Compare(key, "create", "=", 0)
        elif rng.random() < 0.5:
            compare = Compare(key, "mod", rng.choice("=<"), known.mod + (rng.random() < 0.2))
        else:
            compare = Compare(key, "value", rng.choice(("=", "!=")), known.value)
        change = Delete(key) if rng.random() < 0.15 else Put(key, self.value())
        return Txn((compare,), (change,), (Range(key),))

    def _transfer(self, rng: random.Random) -> Txn:
        """Several keys in one transaction, with a condition on one more."""
        one, two, three = rng.sample(KEYS, 3)
        known = self._known.get(three)
        condition = (
            Compare(three, "version", ">", 0) if known is None or rng.random() < 0.5 else Compare(three, "mod", "=", known.mod)
        )
        value = self.value()
        return Txn(
            (condition,), (Put(one, value), Put(two, value + "'"), Range(three)), (Delete(one), Range(two), Put(three, value))
        )

    async def _lease_holder(self) -> None:
        """Grants leases, puts keys under them, keeps some alive, revokes some, and lets the others end."""
        rng = random.Random(f"{self._seed}/leases")
        client = Client("leases", self.history)
        try:
            while not await self.pause(rng.uniform(0.05, 0.3)):
                member = rng.choice(self.members)
                self._leases += 1
                lease = self._leases
                granted = await client.do(member, Grant(lease, rng.choice((1, 2))))
                if granted.outcome != OK or not isinstance(granted.body, LeaseBody):
                    continue
                for key in rng.sample(LEASED, rng.randrange(1, 3)):
                    self._learn(await client.do(member, Put(key, self.value(), lease)))
                if rng.random() < 0.4:
                    await self.pause(rng.uniform(0.0, 1.0))
                    await client.do(rng.choice(self.members), KeepAlive(lease))
                if rng.random() < 0.5:
                    await client.do(rng.choice(self.members), Revoke(lease))
        finally:
            await client.close()

    async def _lease_keeper(self) -> None:
        """As a leader election does it: one key under a lease that is kept alive, through whichever member, for as long as that succeeds."""
        rng = random.Random(f"{self._seed}/keeper")
        client = Client("keeper", self.history, timeout=1.0)
        try:
            while not await self.pause(0.1):
                self._leases += 1
                lease = self._leases
                granted = await client.do(rng.choice(self.members), Grant(lease, 2))
                put = (
                    await client.do(rng.choice(self.members), Put(KEPT, self.value(), lease))
                    if granted.outcome == OK
                    else granted
                )
                self._learn(put)
                kept = put
                while put.outcome == OK and not (isinstance(kept.body, LeaseBody) and kept.body.ttl == 0):
                    if await self.pause(rng.uniform(0.1, 0.6)):
                        return
                    kept = await client.do(rng.choice(self.members), KeepAlive(lease))
        finally:
            await client.close()


async def compacting(traffic: Traffic, seed: str, every: float = 0.7) -> None:
    """Compact away what is older than the last few dozen revisions, again and again, until cancelled."""
    rng = random.Random(f"{seed}/compactions")
    client = Client("compactor", traffic.history)
    try:
        while not await traffic.pause(rng.uniform(0.5, 1.5) * every):
            revision = traffic.highest - rng.randrange(5, 60)
            if revision > 1:
                await client.do(rng.choice(traffic.members), Compact(revision))
    finally:
        await client.close()
