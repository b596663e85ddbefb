"""One run: a cluster, traffic and watchers on it, what a scenario does to it, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc

from .client import Client
from .cluster import Cluster, Member
from .history import History
from .linearize import Verdict
from .model import prefix_end
from .network import HUB, Network
from .operations import OK, Operation, Put, Range, WatchOpen
from .traffic import KEYS, MARKER, PREFIX, Traffic, compacting
from .validate import validate
from .watching import Watcher

#: From the end of all faults to the first acknowledged write.
RECOVERY_SECONDS = 30.0


class Run:
    """What a scenario is given. `seconds` is how long its traffic is to go on, where it has no end of its own."""

    def __init__(self, store: str, seed: str, seconds: float, directory: Path, broken: str = "") -> None:
        self.store, self.seed, self.seconds, self.directory, self.broken = store, seed, seconds, directory, broken
        #: Where a scenario chains faults, only these; empty: all.
        self.only: set[str] = set()
        self.rng = random.Random(f"{seed}/faults")
        self.history = History()
        self.network = Network()
        self.watchers: list[Watcher] = []
        self.complaints: list[str] = []
        self.cluster: Cluster
        self.traffic: Traffic

    # The cluster.

    async def form(self, size: int, *flags: str) -> Cluster:
        """Make a cluster; it does not run yet."""
        self.cluster = Cluster(self.store, self.network, self.directory, size, flags, self.broken)
        return self.cluster

    @contextlib.asynccontextmanager
    async def load(self, clients: int = 0, every: float = 0.02, *, compact: float = 0.7) -> AsyncIterator[Traffic]:
        """Traffic (of so many clients; 0: as the seed has it), watchers and (every `compact` seconds; 0: never) compactions, until the block ends."""
        if not clients:
            clients, every = random.Random(f"{self.seed}/load").choice(((6, 0.02), (6, 0.02), (3, 0.05), (16, 0.01)))
        self.traffic = Traffic(self.history, self.cluster.members, self.seed, clients, every)
        self.watch_everything()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.traffic)
            if compact:
                compactor = asyncio.ensure_future(compacting(self.traffic, self.seed, compact))
                stack.push_async_callback(_cancel, compactor)
            yield self.traffic

    def watch(
        self, name: str, request: WatchOpen, *, at: Member | None = None, restless: float = 0.0, slow: float = 0.0
    ) -> Watcher:
        """One more watcher (only `at` one member where that is said), followed to the end of the run."""
        members = [at] if at else self.cluster.members
        watcher = Watcher(name, self.history, members, self.seed, request, restless=restless, slow=slow)
        self.watchers.append(watcher.start())
        return watcher

    def watch_everything(self) -> None:
        """The usual watchers: all and some keys, with and without filters and bookmarks, faithful, restless, slow, from the past and from the future."""
        end = prefix_end(PREFIX)
        self.watch("all", WatchOpen(PREFIX, end, start=1, previous=True))
        self.watch("restless", WatchOpen(PREFIX, end, start=1, progress=True), restless=1.0)
        self.watch("slow", WatchOpen(PREFIX, end, start=1), slow=0.05, restless=0.3)
        self.watch("one", WatchOpen(KEYS[0], previous=True, progress=True), restless=0.5)
        self.watch("puts", WatchOpen(KEYS[1], KEYS[5], start=1, filters=("nodelete",)))
        self.watch("deletions", WatchOpen(PREFIX, end, filters=("noput",)), restless=0.5)
        self.watch("future", WatchOpen(PREFIX, end, start=60), restless=0.2)

    # Faults of processes; those of networks and disks are where these are.

    def note(self, what: str, **more: object) -> None:
        self.history.note(what, **more)

    async def kill(self, member: Member) -> None:
        self.note("kill", member=member.name)
        await member.kill()

    async def kill_all(self) -> None:
        """As near to the same moment as can be."""
        self.note("kill all")
        for member in self.cluster.members:
            member.signal(signal.SIGKILL)
        for member in self.cluster.members:
            await member.kill()

    async def start(self, *members: Member) -> None:
        self.note("start", members=[one.name for one in members])
        for member in members:
            await member.start()

    def isolate(self, member: Member, *, clients: bool = False) -> None:
        """Cut a member off from the others, and where asked from the clients."""
        self.note("isolate", member=member.name, clients=clients)
        others = [one.address for one in self.cluster.members if one is not member]
        self.network.part([member.address], others + ([HUB] if clients else []))

    def heal(self) -> None:
        self.note("heal")
        self.network.heal()

    # The end.

    async def settle(self) -> None:
        """All faults end; the cluster has to serve again, from every member, and to agree."""
        self.heal()
        for member in self.cluster.members:
            member.resume()
            if member.storage is not None:
                await member.storage.set(fsync_error=0, capacity=1 << 40, fsync_seconds=0)
            if not member.running:
                await self.start(member)
        await self.cluster.ready()

    async def finish(self) -> tuple[Verdict, list[str]]:
        """Recover, write the last key, let every watcher see it, and judge."""
        await self.settle()
        client = Client("last", self.history)
        try:
            final = await self._mark(client)
            patience = 3.0 if self.broken else RECOVERY_SECONDS
            ends = [watcher.finish(final.revision, patience) for watcher in self.watchers]
            for outcome in await asyncio.gather(*ends, return_exceptions=True):
                if isinstance(outcome, AssertionError):
                    self.complaints.append(str(outcome))
                elif isinstance(outcome, BaseException):
                    raise outcome
            for member in self.cluster.members:
                op = await client.do(member, Range(PREFIX, prefix_end(PREFIX)), timeout=10)
                if op.outcome != OK:
                    self.complaints.append(f"{member.name} does not serve after all faults have ended: {op.error}")
            self.complaints += await self._hashes(final.revision)
        finally:
            await client.close()
        verdict, violations = validate(self.history)
        return verdict, self.complaints + violations

    async def _mark(self, client: Client) -> Operation:
        """The last write; it has to succeed some time."""
        number = 0
        async with asyncio.timeout(RECOVERY_SECONDS):
            while True:
                for member in self.cluster.members:
                    number += 1
                    op = await client.do(member, Put(MARKER, f"end{number}"))
                    if op.outcome == OK:
                        return op
                await asyncio.sleep(0.1)

    async def _hashes(self, revision: int) -> list[str]:
        """All members hold the same: their hashes at one revision agree."""
        answers = {}
        for member in self.cluster.members:
            stub = rpc.MaintenanceStub(self.cluster.channel(member))
            try:
                answer = await stub.HashKV(pb.HashKVRequest(revision=revision), timeout=10)
            except grpc.aio.AioRpcError as error:
                return [f"{member.name} has no hash at revision {revision}: {error.details()}"]
            answers[member.name] = (answer.compact_revision, answer.hash)
        if len({found for _, found in answers.values()}) > 1 and len({compacted for compacted, _ in answers.values()}) == 1:
            return [f"members differ at revision {revision}: {answers}"]
        return []

    async def close(self) -> None:
        """End everything, however far it came."""
        for watcher in self.watchers:
            await watcher.stop()
        if hasattr(self, "cluster"):
            await self.cluster.close()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
