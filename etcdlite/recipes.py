"""What locks and elections have in common, done with the member's own services: the same checks, permissions and errors as for any client.

Whoever wants something puts a key that has its lease's id (in hex) as its last part, under the thing's name. Who has put first, has it; the others wait until all
keys that are older than theirs are gone, each watching the youngest of those only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.errors import COMPACTED, EtcdError
from kubeling.etcdlite.follower import following
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.rpc import Context, Service, answer
from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import mvcc_pb2

log = get_logger("etcdlite.recipes")

#: Of a lease that is granted because the client has named none.
_TTL = 60


class Recipes:
    """`services` are those of the member that do the work."""

    def __init__(self, member: Member, services: Iterable[Service]) -> None:
        self.hub = member.hub
        methods = {service.name: service.methods for service in services}
        self._kv, self._lease = methods["etcdserverpb.KV"], methods["etcdserverpb.Lease"]
        self._cleaning: set[asyncio.Task[None]] = set()

    async def range(self, request: pb.RangeRequest, context: Context) -> pb.RangeResponse:
        return pb.RangeResponse.FromString(await self._call(self._kv["Range"].call, request, context))

    async def txn(self, request: pb.TxnRequest, context: Context) -> pb.TxnResponse:
        return pb.TxnResponse.FromString(await self._call(self._kv["Txn"].call, request, context))

    async def delete(self, key: bytes, context: Context) -> pb.DeleteRangeResponse:
        request = pb.DeleteRangeRequest(key=key)
        return pb.DeleteRangeResponse.FromString(await self._call(self._kv["DeleteRange"].call, request, context))

    async def lease(self, number: int, context: Context) -> int:
        """The client's lease, or a new one where it named none."""
        if number:
            return number
        granted = await self._call(self._lease["LeaseGrant"].call, pb.LeaseGrantRequest(TTL=_TTL), context)
        return pb.LeaseGrantResponse.FromString(granted).ID

    async def wait_deletes(self, prefix: bytes, created: int, context: Context) -> None:
        """Return when nothing is left under `prefix` that was created at revision `created` or before."""
        youngest = newest(prefix)
        youngest.max_create_revision = created
        while True:
            found = await self.range(youngest, context)
            if not found.kvs:
                return
            try:
                await self._wait_delete(found.kvs[0].key, found.header.revision)
            except EtcdError as error:
                if error is not COMPACTED:
                    raise

    async def _wait_delete(self, key: bytes, revision: int) -> None:
        async with following(self.hub, key, b"", revision) as answers:
            async for told in answers:
                if any(event.type == mvcc_pb2.Event.DELETE for event in told.events):
                    return

    def clean_up(self, work: Coroutine[Any, Any, object]) -> None:
        """Have `work` done although the client is gone. Where that fails the lease will see to it."""
        task = asyncio.get_running_loop().create_task(self._quietly(work))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    @staticmethod
    async def _quietly(work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except EtcdError as error:
            log.info("a key is left to its lease", error=error.text)

    @staticmethod
    async def _call(call: Any, request: Any, context: Context) -> bytes:
        result = call(request.SerializeToString(), context)
        return answer(result if isinstance(result, bytes) else await result)


def _of_prefix(prefix: bytes, order: pb.RangeRequest.SortOrder) -> pb.RangeRequest:
    # A prefix ends with a slash, so its end is simple.
    end = prefix[:-1] + bytes((prefix[-1] + 1,))
    return pb.RangeRequest(key=prefix, range_end=end, limit=1, sort_order=order, sort_target=pb.RangeRequest.CREATE)


def oldest(prefix: bytes) -> pb.RangeRequest:
    """The key under `prefix` that was created first."""
    return _of_prefix(prefix, pb.RangeRequest.ASCEND)


def newest(prefix: bytes) -> pb.RangeRequest:
    """The key under `prefix` that was created last."""
    return _of_prefix(prefix, pb.RangeRequest.DESCEND)


def created_at(key: bytes, revision: int) -> pb.Compare:
    """That a key was created at that revision; 0: that there is none."""
    return pb.Compare(key=key, target=pb.Compare.CREATE, result=pb.Compare.EQUAL, create_revision=revision)


def put(key: bytes, value: bytes, lease: int) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def get(request: pb.RangeRequest) -> pb.RequestOp:
    return pb.RequestOp(request_range=request)
