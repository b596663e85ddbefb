"""etcdserverpb.Cluster: who the members are, and who is to be one. Any member takes a change; the leader makes it."""

from __future__ import annotations

import time

from kubeling.etcdlite import membership
from kubeling.etcdlite.consensus.configuration import ChangeKind
from kubeling.etcdlite.errors import NO_LEADER, NOT_FOR_LEARNER
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.rpc import Context, Method, Service, header, service, unary
from kubeling.proto import etcd_pb2 as pb

#: What a learner answers: nothing that could be stale without the client's asking for it.
_OF_LEARNERS = {
    "etcdserverpb.Maintenance/Status",
    "etcdserverpb.Maintenance/Snapshot",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
}
_RANGE = "etcdserverpb.KV/Range"


def handler(member: Member) -> Service:
    """The Cluster service of `member`."""
    own = _Cluster(member)
    methods = {
        "MemberList": unary(own.list),
        "MemberAdd": unary(own.add),
        "MemberRemove": unary(own.remove),
        "MemberUpdate": unary(own.update),
        "MemberPromote": unary(own.promote),
    }
    return service("etcdserverpb.Cluster", methods)


class _Cluster:
    def __init__(self, member: Member) -> None:
        self._member = member

    def _header(self) -> bytes:
        # The members are no keys: etcd gives no revision here.
        return self._member.header(0)

    async def list(self, raw: bytes, context: Context) -> bytes:
        if pb.MemberListRequest.FromString(raw).linearizable:
            await self._member.engine.barrier()
        return self._header() + pb.MemberListResponse(members=self._member.cluster.members()).SerializeToString()

    async def add(self, raw: bytes, context: Context) -> bytes:
        request = pb.MemberAddRequest.FromString(raw)
        urls = membership.checked_urls(tuple(request.peerURLs), self._member.engine.core.configuration)
        member = membership.new_id(urls, self._member.config.token, time.time_ns())
        kind = ChangeKind.ADD_LEARNER if request.isLearner else ChangeKind.ADD_VOTER
        members = await self._member.cluster.change(kind, member, urls)
        added = pb.Member(ID=member, peerURLs=urls, isLearner=request.isLearner)
        return self._header() + pb.MemberAddResponse(member=added, members=members).SerializeToString()

    async def remove(self, raw: bytes, context: Context) -> bytes:
        members = await self._member.cluster.change(ChangeKind.REMOVE, pb.MemberRemoveRequest.FromString(raw).ID)
        return self._header() + pb.MemberRemoveResponse(members=members).SerializeToString()

    async def update(self, raw: bytes, context: Context) -> bytes:
        request = pb.MemberUpdateRequest.FromString(raw)
        urls = membership.checked_urls(tuple(request.peerURLs), self._member.engine.core.configuration, request.ID)
        members = await self._member.cluster.change(ChangeKind.UPDATE, request.ID, urls)
        return self._header() + pb.MemberUpdateResponse(members=members).SerializeToString()

    async def promote(self, raw: bytes, context: Context) -> bytes:
        members = await self._member.cluster.change(ChangeKind.PROMOTE, pb.MemberPromoteRequest.FromString(raw).ID)
        return self._header() + pb.MemberPromoteResponse(members=members).SerializeToString()


def guarded(services: list[Service], member: Member) -> list[Service]:
    """The same services, refusing what etcd's learners refuse while this member is one, and while there is no leader those who ask for one."""
    return [
        Service(one.name, {name: _guarded(f"{one.name}/{name}", method, member) for name, method in one.methods.items()})
        for one in services
    ]


def _guarded(path: str, method: Method, member: Member) -> Method:
    if path in _OF_LEARNERS:
        return method
    call, core = method.call, member.engine.core

    def guarded(raw: bytes, context: Context) -> object:
        if not core.leader and header(context, "hasleader") == "true":
            raise NO_LEADER
        if core.is_learner and not (path == _RANGE and pb.RangeRequest.FromString(raw).serializable):
            raise NOT_FOR_LEARNER
        return call(raw, context)

    return Method(method.kind, guarded)
