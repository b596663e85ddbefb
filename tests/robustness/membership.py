"""Members come and go while everything goes on: faults like the others, only that the cluster is another one afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc.aio

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc

from .cluster import Member
from .faults import Fault, among, anyone, hold, leader
from .run import Run

MEMBERSHIP: dict[str, Fault] = {}
SMALLEST, LARGEST = 3, 5
_TRY_SECONDS = 20.0
T = TypeVar("T")


async def insist(run: Run, what: str, call: Callable[[rpc.ClusterStub], Awaitable[T]]) -> T | None:
    """Ask one member after another until one does it; None where it does not come to that. An answer that was lost is for the caller to find out about."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _TRY_SECONDS
    while loop.time() < end:
        member = anyone(run)
        try:
            return await call(rpc.ClusterStub(run.cluster.channel(member)))
        except grpc.aio.AioRpcError as error:
            run.note("refused", call=what, by=member.name, error=f"{error.code().name}: {error.details()}")
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION) and "exist" in str(
                error.details()
            ):
                return None
        await asyncio.sleep(0.2)
    return None


async def listed(run: Run) -> dict[str, pb.Member]:
    """The members by peer URL, as the cluster has it: asked of one that a linearizable read has shown to be up to date."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _TRY_SECONDS
    while True:
        channel = run.cluster.channel(anyone(run))
        try:
            await rpc.KVStub(channel).Range(pb.RangeRequest(key=b"\x00"), timeout=2)
            answer = await rpc.ClusterStub(channel).MemberList(pb.MemberListRequest(), timeout=2)
            return {url: member for member in answer.members for url in member.peerURLs}
        except grpc.aio.AioRpcError as error:
            if loop.time() > end:
                raise AssertionError(f"nobody says for {_TRY_SECONDS} s who is in the cluster: {error.details()}") from None
        await asyncio.sleep(0.1)


@among(MEMBERSHIP)
async def a_member_is_added(run: Run) -> None:
    await add(run, learner=False)


@among(MEMBERSHIP)
async def a_learner_is_added_and_promoted(run: Run) -> None:
    await add(run, learner=True)


async def add(run: Run, *, learner: bool) -> None:
    if len(run.cluster.members) >= LARGEST:
        await remove(run, anyone(run))
        return
    member = run.cluster.plug()
    run.note("add", member=member.name, learner=learner)
    request = pb.MemberAddRequest(peerURLs=[member.peer_url], isLearner=learner)
    await insist(run, "add", lambda stub: stub.MemberAdd(request, timeout=5))
    known = await listed(run)
    if member.peer_url not in known:
        run.note("not added", member=member.name)
        return
    names = ",".join(f"{one.name}={url}" for url, one in known.items() if url != member.peer_url and one.name)
    if run.cluster.members[0].storage is not None:
        await run.cluster.mount_one(member)
    run.cluster.join(member, names)
    await run.start(member)
    if learner:
        promote = pb.MemberPromoteRequest(ID=known[member.peer_url].ID)
        await insist(run, "promote", lambda stub: stub.MemberPromote(promote, timeout=5))
        if (await listed(run))[member.peer_url].isLearner:
            run.complaints.append(f"{member.name} was not promoted within {_TRY_SECONDS} s")
            await remove(run, member)
            return
    await run.cluster.ready()


@among(MEMBERSHIP)
async def a_member_is_removed(run: Run) -> None:
    await remove(run, anyone(run))


@among(MEMBERSHIP)
async def the_leader_is_removed(run: Run) -> None:
    await remove(run, await leader(run))


async def remove(run: Run, member: Member) -> None:
    """The process goes on for a while after its removal: nobody may be told anything stale by it."""
    if len(run.cluster.members) <= SMALLEST:
        await add(run, learner=run.rng.random() < 0.5)
        return
    known = (await listed(run)).get(member.peer_url)
    if known is None:
        return
    run.note("remove", member=member.name)
    await insist(run, "remove", lambda stub: stub.MemberRemove(pb.MemberRemoveRequest(ID=known.ID), timeout=5))
    if member.peer_url in await listed(run):
        run.note("not removed", member=member.name)
        return
    await hold(run, 1)
    run.cluster.members.remove(member)
    await run.kill(member)
    if member.storage is not None:
        await member.storage.close()
