"""Three members as one service: leases through any of them, leadership handed over, watches that go on elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from pathlib import Path

import grpc.aio
import pytest

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc

from .members import leader_of, trio

pytestmark = pytest.mark.live


async def test_leases_and_leadership_through_any_member(tmp_path: Path) -> None:
    async with trio(tmp_path) as members, asyncio.timeout(60):
        leader = await leader_of(members)
        follower, third = [member for member in members if member is not leader]
        await follower.lease.LeaseGrant(pb.LeaseGrantRequest(ID=7, TTL=3))
        await third.put(b"held", b"", lease=7)
        alive = follower.lease.LeaseKeepAlive()
        await alive.write(pb.LeaseKeepAliveRequest(ID=7))
        assert (await alive.read()).TTL == 3
        left = await third.lease.LeaseTimeToLive(pb.LeaseTimeToLiveRequest(ID=7, keys=True))
        assert 1 <= left.TTL <= 3
        assert list(left.keys) == [b"held"]

        target = (await third.status()).header.member_id
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await follower.maintenance.MoveLeader(pb.MoveLeaderRequest(targetID=target))
        assert error.value.details() == "etcdserver: not leader"
        await leader.maintenance.MoveLeader(pb.MoveLeaderRequest(targetID=target))
        assert await leader_of(members) is third

        # A new leader gives the lease its whole time again, and ends it when that is over.
        await third.kill()
        assert await follower.get(b"held") == b""
        watch = follower.watch(pb.WatchCreateRequest(key=b"held"))
        assert (await watch.read()).created
        ended = (await watch.read()).events[0]
        assert ended.kv.key == b"held"
        assert await leader.get(b"held") is None
        watch.cancel()

        found = (await rpc.ClusterStub(follower.channel).MemberList(pb.MemberListRequest())).members
        assert {one.name for one in found} == {"a", "b", "c"}
        assert all(one.clientURLs for one in found)
        check = follower.channel.unary_unary("/grpc.health.v1.Health/Check")  # type: ignore[union-attr]
        assert await check(b"") == b"\x08\x01"


async def test_a_watch_can_be_resumed_at_another_member_without_a_gap(tmp_path: Path) -> None:
    async with trio(tmp_path) as members, asyncio.timeout(60):
        seen: list[int] = []
        revision = await members[0].put(b"k", b"0")
        for number in range(6):
            member = members[number % 3]
            watch = member.watch(pb.WatchCreateRequest(key=b"k", start_revision=revision if not seen else seen[-1] + 1))
            assert (await watch.read()).created
            await members[(number + 1) % 3].put(b"k", b"x")
            last = await members[(number + 2) % 3].put(b"k", b"y")
            while not seen or seen[-1] < last:
                seen += [event.kv.mod_revision for event in (await watch.read()).events]
            watch.cancel()
        assert seen == list(range(revision, revision + 13))


async def test_a_member_with_a_full_disk_lets_another_lead_and_comes_back(tmp_path: Path) -> None:
    async with trio(tmp_path, "--snapshot-log-bytes=131072") as members, asyncio.timeout(60):
        leader = await leader_of(members)
        others = [member for member in members if member is not leader]
        await leader.put(b"k", b"before")
        unlimited = resource.prlimit(leader.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        # The others have room, and they are a quorum. (Should leadership pass on meanwhile, nobody here learns of that in time.)
        try:
            await leader.put(b"k", bytes(8000))
        except grpc.aio.AioRpcError as error:
            assert error.details() == "etcdserver: request timed out"  # noqa: PT017
        assert await leader_of(others) is not leader
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await leader.put(b"k", b"refused")
        assert (error.value.code().name, error.value.details()) == (
            "RESOURCE_EXHAUSTED",
            "etcdserver: mvcc: database space exceeded",
        )
        await others[0].put(b"k", b"after")
        watch = leader.watch(pb.WatchCreateRequest(key=b"k"))
        assert (await watch.read()).created
        resource.prlimit(leader.pid, resource.RLIMIT_FSIZE, unlimited)
        while (await watch.read()).events[-1].kv.value != b"after":
            pass
        watch.cancel()
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await leader.put(b"k", b"again")
                break
        await others[0].kill()
        # Now its disk is needed.
        assert await others[1].get(b"k") == b"again"
        await others[1].put(b"k", b"and again")
        await leader.kill()
        await leader.start()
        assert await leader.get(b"k") == b"and again"
