"""Faults, by name. Each is done to a running cluster under traffic, is held for a while, and is undone; a chain of them is a run.

A fault leaves the cluster as it found it but for what the fault itself destroys, so that the next can be any other.
"""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import Awaitable, Callable

import grpc.aio

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc

from .cluster import Member
from .run import Run
from .validate import CLOCKS_LIE

Fault = Callable[[Run], Awaitable[None]]
PROCESSES: dict[str, Fault] = {}
PARTITIONS: dict[str, Fault] = {}
MAINTENANCE: dict[str, Fault] = {}
#: Only on members whose disk is ours.
DISKS: dict[str, Fault] = {}
#: Only on members whose clocks are ours.
CLOCKS: dict[str, Fault] = {}
#: An election takes about one of these.
ELECTION_SECONDS = 0.8


def among(group: dict[str, Fault]) -> Callable[[Fault], Fault]:
    """Enter a fault into a group, under its name with dashes."""

    def enter(fault: Fault) -> Fault:
        group[fault.__name__.replace("_", "-")] = fault
        return fault

    return enter


async def hold(run: Run, longest: float = 3.0) -> None:
    """Long enough for an election most of the time, too short for one sometimes."""
    await asyncio.sleep(run.rng.uniform(0.2, longest) * ELECTION_SECONDS)


async def leader(run: Run) -> Member:
    """The leader, or where there is none just now, anybody."""
    try:
        return await run.cluster.leader(seconds=3)
    except TimeoutError:
        return anyone(run)


def anyone(run: Run) -> Member:
    return run.rng.choice(run.cluster.members)


def others(run: Run, member: Member) -> list[Member]:
    return [one for one in run.cluster.members if one is not member]


# Processes.


@among(PROCESSES)
async def kill_one(run: Run) -> None:
    await _kill_and_start(run, [anyone(run)])


@among(PROCESSES)
async def kill_the_leader(run: Run) -> None:
    await _kill_and_start(run, [await leader(run)])


@among(PROCESSES)
async def kill_a_majority(run: Run) -> None:
    await _kill_and_start(run, run.rng.sample(run.cluster.members, len(run.cluster.members) // 2 + 1))


@among(PROCESSES)
async def kill_all(run: Run) -> None:
    await run.kill_all()
    await run.start(*run.cluster.members)
    await run.cluster.ready()


async def _kill_and_start(run: Run, members: list[Member]) -> None:
    for member in members:
        await run.kill(member)
    await hold(run)
    await run.start(*members)
    if run.rng.random() < 0.7:
        await run.cluster.ready()


@among(PROCESSES)
async def stop_and_start(run: Run) -> None:
    """A planned restart."""
    member = await leader(run) if run.rng.random() < 0.5 else anyone(run)
    run.note("stop", member=member.name)
    await member.stop()
    await run.start(member)
    await run.cluster.ready()


@among(PROCESSES)
async def pause_the_leader(run: Run) -> None:
    """SIGSTOP: it is deposed without noticing, and goes on in the middle of what it did."""
    member = await leader(run)
    run.note("pause", member=member.name)
    member.pause()
    await hold(run, 4)
    member.resume()
    run.note("resume", member=member.name)


@among(PROCESSES)
async def pause_all_in_turn(run: Run) -> None:
    for member in run.rng.sample(run.cluster.members, len(run.cluster.members)):
        run.note("pause", member=member.name)
        member.pause()
        await hold(run, 2)
        member.resume()


# Networks.


@among(PARTITIONS)
async def isolate_the_leader(run: Run) -> None:
    """Symmetric; the clients reach both sides."""
    run.isolate(await leader(run))
    await hold(run, 4)
    run.heal()


@among(PARTITIONS)
async def isolate_the_leader_and_its_clients(run: Run) -> None:
    """Nobody reaches it, so connections to it just hang."""
    run.isolate(await leader(run), clients=True)
    await hold(run, 4)
    run.heal()


@among(PARTITIONS)
async def isolate_one(run: Run) -> None:
    run.isolate(anyone(run))
    await hold(run, 4)
    run.heal()


@among(PARTITIONS)
async def isolate_all(run: Run) -> None:
    """No majority anywhere."""
    run.note("isolate all")
    members = run.cluster.members
    run.network.cut([(a.address, b.address) for a in members for b in members if a is not b])
    await hold(run, 3)
    run.heal()


@among(PARTITIONS)
async def the_leader_is_not_heard(run: Run) -> None:
    """One way: it hears all, and says what reaches nobody."""
    await _one_way(run, outgoing=True)


@among(PARTITIONS)
async def the_leader_does_not_hear(run: Run) -> None:
    """One way: its heartbeats arrive, so nobody stands for election, but it gets no answer."""
    await _one_way(run, outgoing=False)


async def _one_way(run: Run, *, outgoing: bool) -> None:
    member = await leader(run)
    run.note("one way", member=member.name, outgoing=outgoing)
    pairs = [(member.address, one.address) for one in others(run, member)]
    run.network.cut(pairs if outgoing else [(b, a) for a, b in pairs])
    await hold(run, 4)
    run.heal()


@among(PARTITIONS)
async def not_transitive(run: Run) -> None:
    """Two members do not hear each other, but both hear the third."""
    one, other = run.rng.sample(run.cluster.members, 2)
    run.note("not transitive", members=[one.name, other.name])
    run.network.part([one.address], [other.address])
    await hold(run, 4)
    run.heal()


@among(PARTITIONS)
async def flapping(run: Run) -> None:
    """The leader's link goes and comes, faster than elections."""
    member = await leader(run)
    for _ in range(run.rng.randrange(4, 10)):
        run.isolate(member)
        await asyncio.sleep(run.rng.uniform(0.02, 0.6))
        run.heal()
        await asyncio.sleep(run.rng.uniform(0.02, 0.3))


@among(PARTITIONS)
async def lossy_links(run: Run) -> None:
    """Three packets of ten are lost, both ways, between all members."""
    run.note("lossy links")
    members = run.cluster.members
    run.network.lose([(a.address, b.address) for a in members for b in members if a is not b])
    await hold(run, 4)
    run.heal()


@among(PARTITIONS)
async def isolated_and_killed(run: Run) -> None:
    """The leader is cut off, writes that cannot be committed reach its log, and it dies with them; the others go on meanwhile."""
    member = await leader(run)
    run.isolate(member)
    await hold(run, 3)
    await run.kill(member)
    run.heal()
    await hold(run, 2)
    await run.start(member)
    await run.cluster.ready()


# Disks.


@among(DISKS)
async def power_failure_of_one(run: Run) -> None:
    await power_failure(run, [anyone(run)])


@among(DISKS)
async def power_failure_of_the_leader(run: Run) -> None:
    await power_failure(run, [await leader(run)])


@among(DISKS)
async def power_failure_of_all(run: Run) -> None:
    await power_failure(run, run.cluster.members)


async def power_failure(run: Run, members: list[Member]) -> None:
    """kill -9, and what was not fsynced is gone: all of it, or any part."""
    torn = run.rng.random() < 0.5
    run.note("power failure", members=[one.name for one in members], torn=torn)
    for member in members:
        member.signal(signal.SIGKILL)
    for member in members:
        await member.kill()
        assert member.storage is not None
        await member.storage.power_failure(str(run.rng.random()) if torn else None)
    if len(members) < len(run.cluster.members):
        await hold(run)
    await run.start(*members)
    await run.cluster.ready()


@among(DISKS)
async def fsync_fails(run: Run) -> None:
    """fsync answers EIO, and what it was called for never gets to the disk. The member may stop; it may not go on as if nothing were; then the power fails."""
    member = await leader(run) if run.rng.random() < 0.5 else anyone(run)
    run.note("fsync fails", member=member.name)
    assert member.storage is not None
    await member.storage.set(fsync_error=errno.EIO)
    await hold(run, 2)
    await member.storage.set(fsync_error=0)
    await hold(run, 1)
    await power_failure(run, [member])


@among(DISKS)
async def disk_is_full(run: Run) -> None:
    """Nothing more fits. Whatever the member does then, it has to be well when there is room again."""
    member = await leader(run) if run.rng.random() < 0.5 else anyone(run)
    assert member.storage is not None
    used = (await member.storage.set())["used"]
    run.note("disk is full", member=member.name, used=used)
    await member.storage.set(capacity=used)
    await hold(run, 3)
    if run.rng.random() < 0.5:
        await run.kill(member)
        await run.start(member)
        await hold(run, 1)
    await member.storage.set(capacity=1 << 40)
    await hold(run, 1)
    if not member.running:
        await run.start(member)
    await run.cluster.ready()


@among(DISKS)
async def slow_disk(run: Run) -> None:
    """Each fsync of one member takes longer than a heartbeat."""
    member = await leader(run) if run.rng.random() < 0.5 else anyone(run)
    run.note("slow disk", member=member.name)
    assert member.storage is not None
    await member.storage.set(fsync_seconds=run.rng.uniform(0.02, 0.3))
    await hold(run, 3)
    await member.storage.set(fsync_seconds=0)


# Clocks.


@among(CLOCKS)
async def the_wall_clock_jumps(run: Run) -> None:
    """By up to a day, either way, at some members. Nothing may come of it."""
    for member in run.rng.sample(run.cluster.members, run.rng.randrange(1, 4)):
        seconds = run.rng.choice((-1, 1)) * 10 ** run.rng.uniform(-1, 5)
        run.note("wall clock jumps", member=member.name, seconds=seconds)
        assert member.clock is not None
        member.clock.jump(wall=seconds)
        await hold(run, 1)


@among(CLOCKS)
async def the_monotonic_clock_jumps(run: Run) -> None:
    """Forwards: the leader, or another, believes that much time has gone by. Leases may end, elections may come; nothing may be lost or stale."""
    member = await leader(run) if run.rng.random() < 0.7 else anyone(run)
    seconds = 10 ** run.rng.uniform(-1, 3)
    run.note(CLOCKS_LIE, member=member.name, seconds=seconds)
    assert member.clock is not None
    member.clock.jump(monotonic=seconds)
    await hold(run, 2)


@among(CLOCKS)
async def restart_on_another_clock(run: Run) -> None:
    """As after a reboot: the monotonic clock says something else altogether."""
    member = anyone(run)
    await run.kill(member)
    run.note("another clock", member=member.name)
    assert member.clock is not None
    member.clock.jump(monotonic=10 ** run.rng.uniform(1, 6), wall=run.rng.uniform(-1e6, 1e6))
    await run.start(member)
    await run.cluster.ready()


# What an operator does meanwhile.


@among(MAINTENANCE)
async def backup(run: Run) -> None:
    """A snapshot is downloaded, while the rest goes on."""
    member = anyone(run)
    run.note("backup", member=member.name)
    size = 0
    try:
        async for piece in rpc.MaintenanceStub(run.cluster.channel(member)).Snapshot(pb.SnapshotRequest(), timeout=10):
            size += len(piece.blob)
    except grpc.aio.AioRpcError as error:
        run.note("backup failed", error=error.details())
    else:
        assert size > 0


@among(MAINTENANCE)
async def defragment(run: Run) -> None:
    member = anyone(run)
    run.note("defragment", member=member.name)
    try:
        await rpc.MaintenanceStub(run.cluster.channel(member)).Defragment(pb.DefragmentRequest(), timeout=10)
    except grpc.aio.AioRpcError as error:
        run.note("defragment failed", error=error.details())


@among(MAINTENANCE)
async def move_the_leader(run: Run) -> None:
    """Leadership is handed over on request."""
    try:
        member = await leader(run)
        status = await run.cluster.status(run.rng.choice(others(run, member)))
        target = status.header.member_id if status else 0
        run.note("move leader", member=member.name, target=target)
        await rpc.MaintenanceStub(run.cluster.channel(member)).MoveLeader(pb.MoveLeaderRequest(targetID=target), timeout=5)
    except grpc.aio.AioRpcError as error:
        run.note("move leader failed", error=error.details())


async def chain(run: Run, faults: dict[str, Fault]) -> None:
    """One fault after another, at random, until the run's time is over; each at least once where there is time."""
    end = run.history.now() + run.seconds * 1e9
    order: list[str] = []
    while run.history.now() < end:
        if not order:
            names = sorted(set(faults) & run.only if run.only else faults)
            order = run.rng.sample(names, len(names))
        name = order.pop()
        run.note(f"fault: {name}")
        await faults[name](run)
        await hold(run, 1)
