"""Nothing that was acknowledged is lost: kill -9 of one, of the leader, of all members, while they are written to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc.aio
import pytest

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc

from .members import Writers, leader_of, single, trio

pytestmark = pytest.mark.live


async def test_a_single_member_keeps_every_acknowledged_write_across_kill_9(tmp_path: Path) -> None:
    async with single(tmp_path, "--snapshot-log-bytes=200000") as member:
        for _ in range(4):
            async with Writers([member], 16) as writers:
                await writers.progress(1500)
                await member.kill()
            await member.start()
            stored = await member.all()
            assert writers.acknowledged.items() <= stored.items()
        # The log was cut by snapshots on the way, or this would not have tested them.
        assert "snapshot made" in member.log


async def test_three_members_survive_kill_9_of_the_leader_and_of_all(tmp_path: Path) -> None:
    async with trio(tmp_path, "--snapshot-log-bytes=300000") as members:
        async with Writers(members, 12) as writers:
            await writers.progress(500)
            for _ in range(2):
                leader = await leader_of(members)
                await leader.kill()
                stood_still = await writers.progress(50)
                assert stood_still < 5
                await leader.start()
                await writers.progress(200)
            for member in members:
                member.signal(9)
            for member in members:
                await member.ended()
            for member in members:
                await member.launch()
            for member in members:
                await member.wait_ready()
            await writers.progress(200)
        for member in members:
            stored = await member.all()
            assert writers.acknowledged.items() <= stored.items()
        revision = (await members[0].status()).header.revision
        answers = [await member.maintenance.HashKV(pb.HashKVRequest(revision=revision)) for member in members]
        assert len({answer.hash for answer in answers}) == 1


async def test_a_member_that_lost_its_disk_is_given_a_snapshot(tmp_path: Path) -> None:
    async with trio(tmp_path, "--snapshot-log-bytes=100000") as members:
        async with Writers(members, 8) as writers:
            await writers.progress(300)
        leader = await leader_of(members)
        victim = next(member for member in members if member is not leader)
        await victim.kill()
        others = [member for member in members if member is not victim]
        # Few at a time, so that they are many entries of the log: more than a leader keeps behind its snapshot.
        async with Writers(others, 2) as more:
            await more.progress(4000, 60)
        for path in sorted(victim.data.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        await victim.start("--initial-cluster-state=existing")
        stored = await victim.all()
        assert stored == await leader.all()
        assert stored.keys() >= writers.acknowledged.keys() | more.acknowledged.keys()
        assert "installed a snapshot" in victim.log


async def test_a_paused_leader_does_not_answer_from_the_past(tmp_path: Path) -> None:
    async with trio(tmp_path) as members:
        leader = await leader_of(members)
        others = [member for member in members if member is not leader]
        await leader.put(b"k", b"old")
        leader.signal(19)
        await leader_of(others)
        await others[0].put(b"k", b"new")
        leader.signal(18)
        assert await leader.get(b"k") == b"new"


@pytest.mark.parametrize("survivor", ["leader", "follower"])
async def test_without_a_majority_nothing_is_promised_and_streams_that_need_a_leader_end(tmp_path: Path, survivor: str) -> None:
    async with trio(tmp_path) as members, asyncio.timeout(60):
        leader = await leader_of(members)
        last = leader if survivor == "leader" else next(member for member in members if member is not leader)
        await last.put(b"k", b"v")
        watch = rpc.WatchStub(last.channel).Watch(metadata=(("hasleader", "true"),))
        await watch.write(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k")))
        assert (await watch.read()).created
        for member in members:
            if member is not last:
                await member.kill()
        write, read = await asyncio.gather(last.put(b"k", b"never"), last.get(b"k"), return_exceptions=True)
        for error in (write, read):
            assert isinstance(error, grpc.aio.AioRpcError)
            assert (error.code().name, error.details()) == ("UNAVAILABLE", "etcdserver: request timed out")
        assert await last.get(b"k", serializable=True) == b"v"
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watch.read()
        assert ended.value.details() == "etcdserver: no leader"
