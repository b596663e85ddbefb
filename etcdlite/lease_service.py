"""etcdserverpb.Lease. Granting and revoking are replicated; renewing and asking for the time left go to the member that counts the time."""

from __future__ import annotations

import random
from typing import Any

from kubeling.etcdlite.access import Access
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.ops import Kind
from kubeling.etcdlite.rpc import Context, Service, answer, both_streams, service, unary
from kubeling.proto import etcd_pb2 as pb


def handler(member: Member, access: Access) -> Service:
    """The Lease service of `member`."""
    lease = _Lease(member, access)
    methods = {
        "LeaseGrant": unary(lease.grant),
        "LeaseRevoke": unary(lease.revoke),
        "LeaseKeepAlive": both_streams(lease.keep_alive),
        "LeaseTimeToLive": unary(lease.time_to_live),
        "LeaseLeases": unary(lease.leases),
    }
    return service("etcdserverpb.Lease", methods)


class _Lease:
    def __init__(self, member: Member, access: Access) -> None:
        self._member = member
        self._access = access
        self._leases = member.state.leases

    def _header(self) -> bytes:
        return self._member.header(self._member.state.store.revision)

    async def grant(self, raw: bytes, context: Context) -> bytes:
        request = pb.LeaseGrantRequest.FromString(raw)
        if not request.ID:
            # 62 random bits: a clash answers "lease already exists", which nobody will live to see.
            request.ID = random.getrandbits(62) | 1
            raw = request.SerializeToString()
        return answer(await self._member.proposer.submit(Kind.LEASE_GRANT, raw, request))

    async def revoke(self, raw: bytes, context: Context) -> bytes:
        request = pb.LeaseRevokeRequest.FromString(raw)
        return answer(await self._access.submit(context, Kind.LEASE_REVOKE, raw, request))

    async def keep_alive(self, incoming: Any, context: Context) -> None:
        async for raw in incoming:
            lease_id = pb.LeaseKeepAliveRequest.FromString(raw).ID
            ttl = await self._member.renew_lease(lease_id)
            await context.write(self._header() + pb.LeaseKeepAliveResponse(ID=lease_id, TTL=ttl).SerializeToString())

    async def time_to_live(self, raw: bytes, context: Context) -> bytes:
        request = pb.LeaseTimeToLiveRequest.FromString(raw)
        await self._member.engine.barrier()
        if request.keys and self._access.auth.enabled:
            self._access.guard.lease_keys(await self._access.identify(context), request.ID)
        if request.ID not in self._leases:
            return self._header() + pb.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1).SerializeToString()
        lease = self._leases.get(request.ID)
        left = await self._member.lease_remaining(request.ID)
        response = pb.LeaseTimeToLiveResponse(ID=lease.id, TTL=left, grantedTTL=lease.ttl)
        if request.keys:
            response.keys.extend(sorted(lease.keys))
        return self._header() + response.SerializeToString()

    async def leases(self, raw: bytes, context: Context) -> bytes:
        await self._member.engine.barrier()
        found = pb.LeaseLeasesResponse(leases=[pb.LeaseStatus(ID=lease.id) for lease in self._leases])
        return self._header() + found.SerializeToString()
