"""What is done to the cluster, by name. A scenario is a function of a run; :data:`SCENARIOS` holds them with the size that they need."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .client import Client
from .faults import CLOCKS, DISKS, MAINTENANCE, PARTITIONS, PROCESSES, Fault, anyone, chain, hold, leader, others, power_failure
from .membership import MEMBERSHIP
from .model import prefix_end
from .operations import Compare, Put, Range, Txn, WatchOpen
from .run import Run
from .traffic import KEYS, PADDING, PREFIX


@dataclass(frozen=True)
class Scenario:
    """`script` does its faults while its own traffic runs; recovery and verdict come after it."""

    script: Callable[[Run], Awaitable[None]]
    disk: bool = False
    clock: bool = False


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    *, disk: bool = False, clock: bool = False
) -> Callable[[Callable[[Run], Awaitable[None]]], Callable[[Run], Awaitable[None]]]:
    """Enter a function under its name, with dashes."""

    def enter(script: Callable[[Run], Awaitable[None]]) -> Callable[[Run], Awaitable[None]]:
        SCENARIOS[script.__name__.replace("_", "-")] = Scenario(script, disk, clock)
        return script

    return enter


@scenario()
async def calm(run: Run) -> None:
    """Nothing happens. What the checker finds here is its own."""
    await (await run.form(3)).start()
    async with run.load() as traffic:
        await traffic.pause(run.seconds)


@scenario()
async def single_member_crash(run: Run) -> None:
    """kill -9 of a cluster of one, again and again: what was acknowledged is there when it is back."""
    cluster = await run.form(1)
    await cluster.start()
    member = cluster.members[0]
    async with run.load() as traffic:
        end = run.history.now() + run.seconds * 1e9
        while run.history.now() < end:
            await traffic.progress(run.rng.randrange(20, 200))
            await run.kill(member)
            await run.start(member)
            await cluster.ready()


@scenario()
async def processes(run: Run) -> None:
    """Members are killed, paused and restarted, and backups taken meanwhile."""
    await _chain(run, PROCESSES | MAINTENANCE)


@scenario()
async def partitions(run: Run) -> None:
    """The network between the members breaks in every way, and backups are taken meanwhile."""
    await _chain(run, PARTITIONS | {"backup": MAINTENANCE["backup"]})


@scenario()
async def maintenance(run: Run) -> None:
    """Backups, defragmentation, handing over of the leadership."""
    await _chain(run, MAINTENANCE)


async def _chain(run: Run, faults: dict[str, Fault], *, disk: bool = False) -> None:
    cluster = await run.form(3)
    if disk:
        await cluster.mount()
    await cluster.start()
    async with run.load():
        await chain(run, faults)


@scenario()
async def membership(run: Run) -> None:
    """Members are added and removed, while others die and are cut off."""
    await _chain(
        run,
        MEMBERSHIP
        | {name: PROCESSES[name] for name in ("kill-one", "pause-the-leader")}
        | {"isolate-one": PARTITIONS["isolate-one"]},
    )


@scenario(disk=True)
async def membership_with_power_failures(run: Run) -> None:
    """Members are added and removed, and what was not fsynced of it is lost."""
    await _chain(run, MEMBERSHIP | {name: DISKS[name] for name in DISKS if name.startswith("power-failure")}, disk=True)


@scenario(clock=True)
async def clocks(run: Run) -> None:
    """Clocks jump under the members."""
    cluster = await run.form(3)
    cluster.wind()
    await cluster.start()
    async with run.load():
        await chain(run, CLOCKS | {name: PROCESSES[name] for name in ("kill-the-leader", "pause-the-leader")})


@scenario(disk=True)
async def disks(run: Run) -> None:
    """Disks lose what was not fsynced, fail, fill up and are slow."""
    await _chain(run, DISKS, disk=True)


@scenario(disk=True)
async def disk_of_a_single_member(run: Run) -> None:
    """The same where there is no other to ask."""
    cluster = await run.form(1)
    await cluster.mount()
    await cluster.start()
    async with run.load():
        await chain(run, DISKS)


@scenario(disk=True)
async def power_failures(run: Run) -> None:
    """All members lose their power at once, again and again, and with it all that they had not fsynced."""
    cluster = await run.form(3)
    await cluster.mount()
    await cluster.start()
    async with run.load() as traffic:
        end = run.history.now() + run.seconds * 1e9
        while run.history.now() < end:
            await traffic.progress(run.rng.randrange(10, 150))
            await power_failure(run, cluster.members)


@scenario(disk=True)
async def power_failures_of_a_single_member(run: Run) -> None:
    """A cluster of one loses what it had not fsynced: so it may acknowledge nothing before."""
    cluster = await run.form(1)
    await cluster.mount()
    await cluster.start()
    async with run.load() as traffic:
        end = run.history.now() + run.seconds * 1e9
        while run.history.now() < end:
            await traffic.progress(run.rng.randrange(10, 200))
            await power_failure(run, cluster.members)


@scenario()
async def compaction_while_a_watch_catches_up(run: Run) -> None:
    """Watches begin in a long past while it is compacted away under them; they get all from where it is left, or are told what is gone."""
    cluster = await run.form(3)
    await cluster.start()
    async with run.load(8, 0.01, compact=0.15) as traffic:
        await traffic.progress(150)
        for number in range(24):
            start = max(1, traffic.highest - run.rng.randrange(120))
            slow = run.rng.choice((0.0, 0.02))
            run.watch(
                f"late{number}",
                WatchOpen(PREFIX, prefix_end(PREFIX), start=start, previous=True, progress=True),
                slow=slow,
                restless=0.4,
            )
            await traffic.progress(run.rng.randrange(5, 25))
            if number == 12:
                member = anyone(run)
                await run.kill(member)
                await run.start(member)


@scenario()
async def resume_of_a_watch_after_a_partition(run: Run) -> None:
    """A watched member is cut off, history goes on and is compacted elsewhere, and the watch has to go on where it was when the member is back."""
    cluster = await run.form(3)
    await cluster.start()
    async with run.load(compact=0.4) as traffic:
        for number in range(1 + min(1, int(run.seconds / 3))):
            for member in cluster.members:
                request = WatchOpen(PREFIX, prefix_end(PREFIX), start=traffic.highest, previous=True, progress=True)
                run.watch(f"at-{member.name}-{number}", request, at=member)
            await traffic.progress(20)
            cut = await leader(run) if number else others(run, await leader(run))[0]
            run.isolate(cut, clients=bool(number))
            await traffic.progress(60)
            await hold(run, 2)
            run.heal()
            await traffic.progress(20)


@scenario()
async def read_on_a_paused_leader_that_was_deposed(run: Run) -> None:
    """It is asked while it sleeps, after others have written under a new leader; when it wakes up it may not answer from its past."""
    cluster = await run.form(3)
    await cluster.start()
    readers = [Client(f"reader{number}", run.history, timeout=6.0) for number in range(4)]
    async with run.load(3, 0.03, compact=0):
        for _ in range(max(2, int(run.seconds / 2))):
            old = await cluster.leader()
            rest = others(run, old)
            run.note("pause", member=old.name)
            old.pause()
            await cluster.leader(rest)
            written = await readers[0].do(rest[0], Put(KEYS[0], run.traffic.value()))
            asked = [asyncio.ensure_future(reader.do(old, Range(KEYS[0]))) for reader in readers]
            await asyncio.sleep(0.1)
            old.resume()
            run.note("resume", member=old.name)
            answers = await asyncio.gather(*asked)
            run.note("asked", written=written.outcome, answered=[op.outcome for op in answers])
            await cluster.ready()
    for reader in readers:
        await reader.close()


@scenario()
async def watch_on_a_future_revision(run: Run) -> None:
    """Watches of what is not yet there begin exactly there, also on a member that is behind, and across changes of the leader."""
    cluster = await run.form(3)
    await cluster.start()
    async with run.load() as traffic:
        for number in range(1 + min(2, int(run.seconds / 3))):
            behind = others(run, await leader(run))[0]
            run.isolate(behind)
            await traffic.progress(30)
            for ahead in (0, 1, 7, 40):
                # Of these some revisions are there already, only not at the member that is behind.
                request = WatchOpen(PREFIX, prefix_end(PREFIX), start=traffic.highest + ahead, previous=True)
                run.watch(f"ahead{number}-{ahead}", request, at=behind)
                run.watch(f"ahead{number}-{ahead}-there", request, restless=0.5)
            await traffic.progress(20)
            run.heal()
            await traffic.progress(30)
            await PROCESSES[("kill-the-leader", "pause-the-leader", "kill-one")[number]](run)


@scenario()
async def rejoin_by_snapshot(run: Run) -> None:
    """A member is away until the log has gone on without it, so it is given a snapshot; watches at it go on over the jump, and somebody may die in the middle."""
    await _rejoin(run, disk=False)


@scenario(disk=True)
async def rejoin_by_snapshot_with_power_failures(run: Run) -> None:
    """The same, and who dies in the middle loses what it had not fsynced of it."""
    await _rejoin(run, disk=True)


async def _rejoin(run: Run, *, disk: bool) -> None:
    cluster = await run.form(3)
    if disk:
        await cluster.mount()
    await cluster.start()
    async with run.load() as traffic:
        client = Client("bulk", run.history, timeout=10.0)
        for number in range(1 + min(3, int(run.seconds / 4))):
            away = others(run, await leader(run))[0]
            run.watch(f"at-{number}", WatchOpen(PREFIX, prefix_end(PREFIX), start=traffic.highest, previous=True), at=away)
            await traffic.progress(10)
            run.isolate(away)
            there = others(run, away)
            for _ in range(14):
                # Much log, and no change: the condition is false.
                bulk = Txn((Compare("bulk", "version", ">", 0),), (Put("bulk", traffic.value() + PADDING * 1_000_000),))
                await client.do(run.rng.choice(there), bulk)
            await traffic.progress(20)
            run.heal()
            if number % 2 or disk:
                await asyncio.sleep(run.rng.uniform(0, 0.5))
                victims = run.rng.choice(([away], [await leader(run)], cluster.members if disk else [away]))
                if disk:
                    await power_failure(run, victims)
                else:
                    await run.kill(victims[0])
                    await run.start(victims[0])
            await cluster.ready()
            run.note(
                "snapshots installed", member=away.name, count=away.log.read_text(errors="replace").count("installed a snapshot")
            )
        await client.close()
