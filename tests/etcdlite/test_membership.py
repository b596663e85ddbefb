"""Members that come and go while others write; learners; leadership handed over before a planned stop."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import grpc.aio
import pytest

from kubeling.proto import etcd_pb2 as pb

from .members import Member, Writers, joining, leader_of, single, trio

T = TypeVar("T")

pytestmark = pytest.mark.live


async def refusal(call: grpc.aio.UnaryUnaryCall) -> tuple[str, str]:
    """The code and the text of the error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code().name, error.value.details() or ""


async def retried(call: Callable[[], Awaitable[T]], *expected: str) -> T:
    """Make a call again as long as it is refused with one of these texts."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.details() not in expected:
                    raise
            await asyncio.sleep(0.05)


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await check():
                return
            await asyncio.sleep(0.02)


NOT_IN_SYNC = "etcdserver: can only promote a learner member which is in sync with leader"
UNHEALTHY = "etcdserver: unhealthy cluster"
TOO_FEW = "etcdserver: re-configuration failed due to not enough started members"


async def add(by: Member, new: Member, *, learner: bool = False) -> int:
    """Add a member, as soon as the one that was added before is heard of; its id."""
    request = pb.MemberAddRequest(peerURLs=[new.peer_url], isLearner=learner)
    answer = await retried(lambda: by.cluster.MemberAdd(request, timeout=10), UNHEALTHY, TOO_FEW)
    return answer.member.ID


async def remove(by: Member, member: int) -> None:
    await retried(lambda: by.cluster.MemberRemove(pb.MemberRemoveRequest(ID=member), timeout=10), UNHEALTHY)


async def started(by: Member) -> set[str]:
    found = (await by.cluster.MemberList(pb.MemberListRequest(linearizable=True), timeout=10)).members
    return {one.name for one in found}


async def test_one_becomes_three_becomes_five_and_back_while_clients_write(tmp_path: Path) -> None:
    async with (
        single(tmp_path, "--snapshot-log-bytes=262144") as first,
        contextlib.AsyncExitStack() as rest,
        asyncio.timeout(150),
    ):
        members = [first]
        ids = {}
        writers = await rest.enter_async_context(Writers([first], 6))
        await writers.progress(300)
        for name in ("b", "c", "d", "e"):
            new = joining(tmp_path, name, members, "--snapshot-log-bytes=262144")
            rest.push_async_callback(new.close)
            ids[name] = await add(members[-1], new)
            await new.start()
            members.append(new)
            await writers.progress(100)

        async def all_known() -> bool:
            return await started(first) == {"solo", "b", "c", "d", "e"}

        await eventually(all_known)
        # Two of five may be gone, whoever they are.
        for gone in members[3:]:
            await gone.kill()
        await writers.progress(200)
        for gone in members[3:]:
            await gone.start()
        for name in ("c", "e", "b", "d"):
            member = next(one for one in members if one.name == name)
            await remove(first, ids[name])
            assert await member.ended() != 0
            assert "was removed from the cluster" in member.log
            await writers.progress(100)
        assert await started(first) == {"solo"}
        await writers.__aexit__()
        stored = await first.all()
        assert {key: stored.get(key) for key in writers.acknowledged} == writers.acknowledged


async def test_a_learner_catches_up_before_it_votes(tmp_path: Path) -> None:
    async with trio(tmp_path) as members, asyncio.timeout(60):
        leader = await leader_of(members)
        for number in range(200):
            await leader.put(b"/k/%d" % number, bytes(1000))
        new = joining(tmp_path, "d", members)
        try:
            await new.connect()
            follower = next(one for one in members if one is not leader)
            learner = await add(follower, new, learner=True)
            assert await refusal(leader.cluster.MemberPromote(pb.MemberPromoteRequest(ID=learner))) == (
                "FAILED_PRECONDITION",
                NOT_IN_SYNC,
            )
            again = pb.MemberAddRequest(peerURLs=["http://127.0.0.1:9"], isLearner=True)
            assert await refusal(leader.cluster.MemberAdd(again)) == (
                "FAILED_PRECONDITION",
                "etcdserver: too many learner members in cluster",
            )
            await new.launch()

            async def caught_up() -> bool:
                return (await status(new)).raftAppliedIndex >= (await leader.status()).raftAppliedIndex

            await eventually(caught_up)
            assert (await new.status()).isLearner
            assert await new.get(b"/k/7", serializable=True) == bytes(1000)
            assert await refusal(new.kv.Range(pb.RangeRequest(key=b"/k/7"))) == (
                "UNAVAILABLE",
                "etcdserver: rpc not supported for learner",
            )
            assert await refusal(leader.maintenance.MoveLeader(pb.MoveLeaderRequest(targetID=learner))) == (
                "FAILED_PRECONDITION",
                "etcdserver: bad leader transferee",
            )
            promote = pb.MemberPromoteRequest(ID=learner)
            await retried(lambda: follower.cluster.MemberPromote(promote, timeout=10), NOT_IN_SYNC)
            assert await new.get(b"/k/7") == bytes(1000)
            assert await refusal(leader.cluster.MemberPromote(pb.MemberPromoteRequest(ID=learner))) == (
                "FAILED_PRECONDITION",
                "etcdserver: can only promote a learner member",
            )
        finally:
            await new.close()


async def status(member: Member) -> pb.StatusResponse:
    return await member.maintenance.Status(pb.StatusRequest(), timeout=10, wait_for_ready=True)


async def test_changes_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    async with trio(tmp_path) as members, asyncio.timeout(60):
        leader = await leader_of(members)
        cluster = leader.cluster
        own = (await leader.status()).header.member_id
        for call, code, text in (
            (cluster.MemberAdd(pb.MemberAddRequest(peerURLs=["nonsense"])), "INVALID_ARGUMENT", "given member URLs are invalid"),
            (cluster.MemberAdd(pb.MemberAddRequest()), "INVALID_ARGUMENT", "given member URLs are invalid"),
            (
                cluster.MemberAdd(pb.MemberAddRequest(peerURLs=[members[0].peer_url])),
                "FAILED_PRECONDITION",
                "Peer URLs already exists",
            ),
            (cluster.MemberRemove(pb.MemberRemoveRequest(ID=77)), "NOT_FOUND", "member not found"),
            (cluster.MemberPromote(pb.MemberPromoteRequest(ID=77)), "NOT_FOUND", "member not found"),
            (cluster.MemberUpdate(pb.MemberUpdateRequest(ID=77, peerURLs=["http://h:1"])), "NOT_FOUND", "member not found"),
            (
                cluster.MemberPromote(pb.MemberPromoteRequest(ID=own)),
                "FAILED_PRECONDITION",
                "can only promote a learner member",
            ),
        ):
            assert await refusal(call) == (code, f"etcdserver: {text}")
        gone, other = [member for member in members if member is not leader]
        await gone.kill()
        # It counts as healthy for five seconds after it was last heard of.
        await asyncio.sleep(5.5)
        request = pb.MemberAddRequest(peerURLs=["http://127.0.0.1:9"])
        assert await refusal(cluster.MemberAdd(request)) == ("UNAVAILABLE", UNHEALTHY)
        # Of two that are left of three, neither may go: the rest could not decide anything.
        assert await refusal(cluster.MemberRemove(pb.MemberRemoveRequest(ID=(await other.status()).header.member_id))) == (
            "UNAVAILABLE",
            UNHEALTHY,
        )


async def test_a_rolling_restart_is_not_noticed_by_clients_that_retry(tmp_path: Path) -> None:
    async with trio(tmp_path) as members, asyncio.timeout(90):
        await leader_of(members)
        async with Writers(members, 4) as writers:
            await writers.progress(100)
            for _ in range(2):
                for member in members:
                    leads = await leader_of(members) is member
                    me = f'leader="{(await member.status()).header.member_id:x}"'
                    await member.stop()
                    if leads:
                        # It saw another lead before it ended: nobody had to wait until it was missed.
                        seen = [line for line in member.log.splitlines() if "the leader is" in line]
                        assert me not in seen[-1]
                        assert "unknown" not in seen[-1]
                    await writers.progress(20)
                    await member.start()
        stored = await members[0].all()
        assert {key: stored.get(key) for key in writers.acknowledged} == writers.acknowledged


async def test_a_member_without_its_disk_and_one_that_was_removed(tmp_path: Path) -> None:
    async with trio(tmp_path) as members, asyncio.timeout(90):
        leader = await leader_of(members)
        await leader.put(b"k", b"v")
        lost, third = [member for member in members if member is not leader]
        await lost.kill()
        shutil.rmtree(lost.data)
        await lost.start("--initial-cluster-state=existing")
        assert await lost.get(b"k") == b"v"
        await third.kill()
        await lost.put(b"k", b"its word counts again")
        await third.start()
        gone = (await third.status()).header.member_id
        await third.kill()
        await remove(leader, gone)
        await third.launch()
        assert await third.ended() != 0
        assert "was removed from the cluster" in third.log
        assert await lost.get(b"k") == b"its word counts again"
