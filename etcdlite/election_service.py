"""v3electionpb.Election: the oldest key under a name is the leader, its value what the leader proclaims."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from kubeling.etcdlite.errors import COMPACTED, EtcdError
from kubeling.etcdlite.follower import following
from kubeling.etcdlite.recipes import Recipes, created_at, get, oldest, put
from kubeling.etcdlite.rpc import Context, Service, server_stream, service, unary
from kubeling.proto import election_pb2, mvcc_pb2
from kubeling.proto import etcd_pb2 as pb

NOT_LEADER = EtcdError("UNKNOWN", "election: not leader")
NO_LEADER = EtcdError("UNKNOWN", "election: no leader")
MISSING_LEADER_KEY = EtcdError("UNKNOWN", '"leader" field must be provided')


def handler(recipes: Recipes) -> Service:
    """The Election service."""
    election = _Election(recipes)
    methods = {
        "Campaign": unary(election.campaign),
        "Proclaim": unary(election.proclaim),
        "Leader": unary(election.leader),
        "Observe": server_stream(election.observe),
        "Resign": unary(election.resign),
    }
    return service("v3electionpb.Election", methods)


class _Election:
    def __init__(self, recipes: Recipes) -> None:
        self._recipes = recipes

    async def campaign(self, raw: bytes, context: Context) -> bytes:
        request = election_pb2.CampaignRequest.FromString(raw)
        recipes, prefix = self._recipes, request.name + b"/"
        lease = await recipes.lease(request.lease, context)
        key = prefix + b"%x" % lease
        attempt = pb.TxnRequest(
            compare=[created_at(key, 0)],
            success=[put(key, request.value, lease)],
            failure=[get(pb.RangeRequest(key=key))],
        )
        tried = await recipes.txn(attempt, context)
        mine = tried.header.revision
        try:
            if not tried.succeeded:
                # This lease is in the race already, perhaps with another value.
                (there,) = tried.responses[0].response_range.kvs
                mine = there.create_revision
                if there.value != request.value:
                    await self._proclaim(key, mine, request.value, lease, context)
            await recipes.wait_deletes(prefix, mine - 1, context)
        except BaseException:
            recipes.clean_up(self._resign(key, mine, context))
            raise
        leader = election_pb2.LeaderKey(name=request.name, key=key, rev=mine, lease=lease)
        return election_pb2.CampaignResponse(header=tried.header, leader=leader).SerializeToString()

    async def proclaim(self, raw: bytes, context: Context) -> bytes:
        request = election_pb2.ProclaimRequest.FromString(raw)
        if not request.HasField("leader"):
            raise MISSING_LEADER_KEY
        leader = request.leader
        lease = await self._recipes.lease(leader.lease, context)
        done = await self._proclaim(leader.key, leader.rev, request.value, lease, context)
        return election_pb2.ProclaimResponse(header=done.header).SerializeToString()

    async def _proclaim(self, key: bytes, revision: int, value: bytes, lease: int, context: Context) -> pb.TxnResponse:
        change = pb.TxnRequest(compare=[created_at(key, revision)], success=[put(key, value, lease)])
        done = await self._recipes.txn(change, context)
        if not done.succeeded:
            raise NOT_LEADER
        return done

    async def resign(self, raw: bytes, context: Context) -> bytes:
        request = election_pb2.ResignRequest.FromString(raw)
        if not request.HasField("leader"):
            raise MISSING_LEADER_KEY
        done = await self._resign(request.leader.key, request.leader.rev, context)
        return election_pb2.ResignResponse(header=done.header).SerializeToString()

    async def _resign(self, key: bytes, revision: int, context: Context) -> pb.TxnResponse:
        gone = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))
        return await self._recipes.txn(pb.TxnRequest(compare=[created_at(key, revision)], success=[gone]), context)

    async def leader(self, raw: bytes, context: Context) -> bytes:
        name = election_pb2.LeaderRequest.FromString(raw).name
        found = await self._recipes.range(oldest(name + b"/"), context)
        if not found.kvs:
            raise NO_LEADER
        return election_pb2.LeaderResponse(header=found.header, kv=found.kvs[0]).SerializeToString()

    async def observe(self, raw: bytes, context: Context) -> AsyncIterator[bytes]:
        """Each leader, and what it proclaims; one that has come and gone while another was told may be left out."""
        first = oldest(election_pb2.LeaderRequest.FromString(raw).name + b"/")
        while True:
            found = await self._recipes.range(first, context)
            try:
                if found.kvs:
                    header, kv = found.header, found.kvs[0]
                else:
                    header, kv = await self._first_put(first, found.header.revision)
                yield election_pb2.LeaderResponse(header=header, kv=kv).SerializeToString()
                async with following(self._recipes.hub, kv.key, b"", header.revision + 1) as answers:
                    async for header, kv in _until_deleted(answers):
                        yield election_pb2.LeaderResponse(header=header, kv=kv).SerializeToString()
            except EtcdError as error:
                # What was missed counts no more: the leader of now does.
                if error is not COMPACTED:
                    raise

    async def _first_put(self, where: pb.RangeRequest, revision: int) -> tuple[Any, Any]:
        async with following(self._recipes.hub, where.key, where.range_end, revision) as answers:
            async for told in answers:
                for event in told.events:
                    if event.type == mvcc_pb2.Event.PUT:
                        return _at(told.header, event.kv), event.kv
        raise AssertionError("a watch of our own has no end")


async def _until_deleted(answers: AsyncIterator[Any]) -> AsyncIterator[tuple[Any, Any]]:
    async for told in answers:
        for event in told.events:
            if event.type == mvcc_pb2.Event.DELETE:
                return
            yield _at(told.header, event.kv), event.kv


def _at(header: Any, kv: Any) -> Any:
    """The header as of the event: there may be several in one answer."""
    header.revision = kv.mod_revision
    return header
