"""Locks and elections as services, beside etcdctl's own ones, and what is left when a client goes away."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from kubeling.proto import election_pb2, election_pb2_grpc, lock_pb2, lock_pb2_grpc
from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc

from .members import Member, single
from .test_auth import CHEAP, Client, denied
from .test_differential import real_etcd
from .test_service import refused

pytestmark = pytest.mark.live


@pytest.fixture(params=["etcdlite", "etcd"])
async def channel(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A single member of ours, and of the real thing: what is said below is true of both."""
    if request.param == "etcdlite":
        async with single(tmp_path) as member:
            assert member.channel is not None
            yield member.channel
    else:
        async with real_etcd(tmp_path) as address, grpc.aio.insecure_channel(address) as channel:
            await rpc.KVStub(channel).Range(pb.RangeRequest(key=b"k"), wait_for_ready=True, timeout=20)
            yield channel


async def grant(channel: grpc.aio.Channel, *ids: int, ttl: int = 600) -> None:
    for number in ids:
        await rpc.LeaseStub(channel).LeaseGrant(pb.LeaseGrantRequest(ID=number, TTL=ttl), timeout=10)


async def keys(channel: grpc.aio.Channel) -> list[bytes]:
    found = await rpc.KVStub(channel).Range(pb.RangeRequest(key=b"\x00", range_end=b"\x00"), timeout=10)
    return [kv.key for kv in found.kvs]


async def until_keys(channel: grpc.aio.Channel, wanted: list[bytes]) -> None:
    """Wait until these keys, and no others, are there."""
    call = rpc.WatchStub(channel).Watch()
    await call.write(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"\x00", range_end=b"\x00")))
    async with asyncio.timeout(15):
        while await keys(channel) != wanted:
            await call.read()
    call.cancel()


async def test_locks_are_given_in_the_order_of_asking(channel: grpc.aio.Channel) -> None:
    locks = lock_pb2_grpc.LockStub(channel)
    await grant(channel, 0x1F, 0x2F, 0x3F)
    first = await locks.Lock(lock_pb2.LockRequest(name=b"n", lease=0x1F), timeout=10)
    assert first.key == b"n/1f"
    assert first.header.revision == 2
    again = await locks.Lock(lock_pb2.LockRequest(name=b"n", lease=0x1F), timeout=10)
    assert again.key == first.key
    waiting = []
    for number in (0x2F, 0x3F):
        waiting.append(asyncio.ensure_future(locks.Lock(lock_pb2.LockRequest(name=b"n", lease=number), timeout=20)))
        await until_keys(channel, [b"n/1f", b"n/2f", b"n/3f"][: len(waiting) + 1])
    other = await locks.Lock(lock_pb2.LockRequest(name=b"n2", lease=0x1F), timeout=10)
    assert other.key == b"n2/1f"
    await locks.Unlock(lock_pb2.UnlockRequest(key=first.key), timeout=10)
    assert (await waiting[0]).key == b"n/2f"
    assert not waiting[1].done()
    await locks.Unlock(lock_pb2.UnlockRequest(key=b"n/2f"), timeout=10)
    assert (await waiting[1]).key == b"n/3f"


async def test_who_gives_up_is_not_waited_for(channel: grpc.aio.Channel) -> None:
    locks, elections = lock_pb2_grpc.LockStub(channel), election_pb2_grpc.ElectionStub(channel)
    await grant(channel, 1, 2, 3)
    await locks.Lock(lock_pb2.LockRequest(name=b"n", lease=1), timeout=10)
    await elections.Campaign(election_pb2.CampaignRequest(name=b"e", lease=1), timeout=10)
    calls = [
        locks.Lock(lock_pb2.LockRequest(name=b"n", lease=2)),
        elections.Campaign(election_pb2.CampaignRequest(name=b"e", lease=2)),
    ]
    await until_keys(channel, [b"e/1", b"e/2", b"n/1", b"n/2"])
    for call in calls:
        call.cancel()
    await until_keys(channel, [b"e/1", b"n/1"])


async def test_who_has_lost_the_lease_does_not_get_the_lock(tmp_path: Path) -> None:
    """etcd 3.4 gave it to them."""
    async with single(tmp_path) as member:
        channel = member.channel
        assert channel is not None
        locks, leases = lock_pb2_grpc.LockStub(channel), rpc.LeaseStub(channel)
        await grant(channel, 1, 2, 3)
        await locks.Lock(lock_pb2.LockRequest(name=b"n", lease=1), timeout=10)
        waiting = []
        for number in (2, 3):
            waiting.append(locks.Lock(lock_pb2.LockRequest(name=b"n", lease=number), timeout=20))
            await until_keys(channel, [b"n/1", b"n/2", b"n/3"][:number])
        await leases.LeaseRevoke(pb.LeaseRevokeRequest(ID=2), timeout=10)
        await leases.LeaseRevoke(pb.LeaseRevokeRequest(ID=1), timeout=10)
        assert await refused(waiting[0]) == ("UNKNOWN", "mutex: session is expired")
        assert (await waiting[1]).key == b"n/3"


async def test_a_lock_hangs_on_a_lease(channel: grpc.aio.Channel) -> None:
    locks, leases = lock_pb2_grpc.LockStub(channel), rpc.LeaseStub(channel)
    await grant(channel, 1, 2)
    await locks.Lock(lock_pb2.LockRequest(name=b"n", lease=1), timeout=10)
    waiting = asyncio.ensure_future(locks.Lock(lock_pb2.LockRequest(name=b"n", lease=2), timeout=20))
    await until_keys(channel, [b"n/1", b"n/2"])
    await leases.LeaseRevoke(pb.LeaseRevokeRequest(ID=1), timeout=10)
    assert (await waiting).key == b"n/2"
    gone = locks.Lock(lock_pb2.LockRequest(name=b"n", lease=99), timeout=10)
    # In etcd the code gets lost here.
    assert (await refused(gone))[1] == "etcdserver: requested lease not found"
    # Without a lease one of a minute is made.
    made = await locks.Lock(lock_pb2.LockRequest(name=b"other"), timeout=10)
    number = int(made.key.rpartition(b"/")[2], 16)
    left = await leases.LeaseTimeToLive(pb.LeaseTimeToLiveRequest(ID=number, keys=True), timeout=10)
    assert left.grantedTTL == 60
    assert list(left.keys) == [made.key]


async def test_a_leader_is_elected_proclaims_and_resigns(channel: grpc.aio.Channel) -> None:
    elections = election_pb2_grpc.ElectionStub(channel)
    await grant(channel, 1, 2)
    leader = election_pb2.LeaderRequest(name=b"e")
    assert await refused(elections.Leader(leader, timeout=10)) == ("UNKNOWN", "election: no leader")
    observing = elections.Observe(leader)
    first = await elections.Campaign(election_pb2.CampaignRequest(name=b"e", lease=1, value=b"one"), timeout=10)
    assert (first.leader.name, first.leader.key, first.leader.lease) == (b"e", b"e/1", 1)
    assert first.leader.rev == first.header.revision
    second = asyncio.ensure_future(elections.Campaign(election_pb2.CampaignRequest(name=b"e", lease=2, value=b"two"), timeout=20))
    await until_keys(channel, [b"e/1", b"e/2"])

    async def seen() -> Any:
        async with asyncio.timeout(10):
            return await observing.read()

    told = await seen()
    assert (told.kv.key, told.kv.value) == (b"e/1", b"one")
    # Campaigning again with another value proclaims it.
    again = await elections.Campaign(election_pb2.CampaignRequest(name=b"e", lease=1, value=b"uno"), timeout=10)
    assert again.leader.rev == first.leader.rev
    assert (await seen()).kv.value == b"uno"
    await elections.Proclaim(election_pb2.ProclaimRequest(leader=first.leader, value=b"eins"), timeout=10)
    told = await seen()
    assert told.kv.value == b"eins"
    assert told.header.revision == told.kv.mod_revision
    assert (await elections.Leader(leader, timeout=10)).kv.value == b"eins"
    await elections.Resign(election_pb2.ResignRequest(leader=first.leader), timeout=10)
    assert (await second).leader.key == b"e/2"
    assert (await seen()).kv.value == b"two"
    late = elections.Proclaim(election_pb2.ProclaimRequest(leader=first.leader, value=b"x"), timeout=10)
    assert await refused(late) == ("UNKNOWN", "election: not leader")
    # Resigning from what one has not is no error.
    await elections.Resign(election_pb2.ResignRequest(leader=first.leader), timeout=10)
    for call in (elections.Proclaim(election_pb2.ProclaimRequest()), elections.Resign(election_pb2.ResignRequest())):
        assert await refused(call) == ("UNKNOWN", '"leader" field must be provided')
    observing.cancel()


async def test_locks_and_elections_need_permissions(tmp_path: Path) -> None:
    async with single(tmp_path, CHEAP) as member:
        assert isinstance(member, Member)
        nobody = Client(member)
        await nobody.set_up()
        ann, root = await nobody.log_in("ann", "ann's"), await nobody.log_in("root", "root's")
        assert member.channel is not None
        locks = lock_pb2_grpc.LockStub(member.channel)
        await root.ask(locks.Lock, lock_pb2.LockRequest(name=b"n"))
        with denied():
            await ann.ask(locks.Lock, lock_pb2.LockRequest(name=b"n"))
        with denied("INVALID_ARGUMENT", "etcdserver: user name is empty"):
            await nobody.ask(locks.Lock, lock_pb2.LockRequest(name=b"n"))
        elections = election_pb2_grpc.ElectionStub(member.channel)
        with denied():
            await ann.ask(elections.Leader, election_pb2.LeaderRequest(name=b"e"))


async def test_the_gateway_locks_and_elects_too(tmp_path: Path) -> None:
    async with single(tmp_path) as member, httpx.AsyncClient(base_url=f"http://{member.endpoint}/v3", timeout=10) as web:
        name = base64.b64encode(b"n").decode()
        assert base64.b64decode((await web.post("/lock/lock", json={"name": name})).json()["key"]).startswith(b"n/")
        won = (await web.post("/election/campaign", json={"name": base64.b64encode(b"m").decode(), "value": "b25l"})).json()
        assert "leader" in won
        async with web.stream("POST", "/election/observe", json={"name": won["leader"]["name"]}) as observing:
            lines = observing.aiter_lines()
            assert json.loads(await anext(lines))["result"]["kv"]["value"] == "b25l"
            await web.post("/election/proclaim", json={"leader": won["leader"], "value": "dHdv"})
            assert json.loads(await anext(lines))["result"]["kv"]["value"] == "dHdv"
        assert (await web.post("/election/resign", json={"leader": won["leader"]})).status_code == 200
        refusal = await web.post("/election/leader", json={"name": won["leader"]["name"]})
        assert (refusal.status_code, refusal.json()["message"]) == (500, "election: no leader")
