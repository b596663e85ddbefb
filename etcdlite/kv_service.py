"""etcdserverpb.KV: the hot path. A write is one await on the proposer; a read is done in place, after a read barrier where there are other members."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubeling.etcdlite import requests
from kubeling.etcdlite.access import Access
from kubeling.etcdlite.auth import Who
from kubeling.etcdlite.errors import NO_SPACE, REQUEST_TOO_LARGE, EtcdError
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.ops import Kind
from kubeling.etcdlite.rpc import Context, Service, answer, direct, service, unary
from kubeling.proto import etcd_pb2 as pb


def handler(member: Member, access: Access) -> Service:
    """The KV service of `member`."""
    kv = _KV(member, access)
    methods = {
        "Range": direct(kv.range),
        "Put": direct(kv.put),
        "DeleteRange": unary(kv.delete_range),
        "Txn": unary(kv.txn),
        "Compact": unary(kv.compact),
    }
    return service("etcdserverpb.KV", methods)


class _KV:
    def __init__(self, member: Member, access: Access) -> None:
        self._member = member
        self._access = access
        self._auth = member.state.auth
        self._state = member.state
        self._proposer = member.proposer
        self._max_request = member.config.max_request_bytes

    def range(self, raw: bytes, context: Context) -> bytes | Awaitable[bytes]:
        request = pb.RangeRequest.FromString(raw)
        requests.check_range(request)
        if request.serializable or self._member.engine.alone:
            if not self._auth.enabled:
                return self._range(request)
            if (who := self._access.known_already(context)) is not None:
                self._access.guard.range(who, request)
                return self._range(request)
        return self._range_later(request, context)

    async def _range_later(self, request: pb.RangeRequest, context: Context) -> bytes:
        if not request.serializable:
            await self._member.engine.barrier()
        if self._auth.enabled:
            self._access.guard.range(await self._access.identify(context), request)
        return self._range(request)

    def _range(self, request: pb.RangeRequest) -> bytes:
        state = self._state
        return state.header(state.store.revision) + state.evaluator.range(request)

    def put(self, raw: bytes, context: Context) -> Awaitable[bytes | EtcdError]:
        request = pb.PutRequest.FromString(raw)
        requests.check_put(request)
        if len(raw) > self._max_request:
            raise REQUEST_TOO_LARGE
        if self._member.over_quota(len(raw)):
            return self._refuse_for_space(context, lambda who: self._access.guard.put(who, request))
        return self._access.submit(context, Kind.PUT, raw, request)

    async def _refuse_for_space(self, context: Context, check: Callable[[Who], None]) -> EtcdError:
        if self._auth.enabled:
            # Whoever may not write shall raise no alarm either.
            check(await self._access.identify(context))
        await self._member.raise_no_space()
        return NO_SPACE

    async def delete_range(self, raw: bytes, context: Context) -> bytes:
        request = pb.DeleteRangeRequest.FromString(raw)
        requests.check_delete(request)
        return answer(await self._access.submit(context, Kind.DELETE_RANGE, raw, request))

    async def txn(self, raw: bytes, context: Context) -> bytes:
        request = pb.TxnRequest.FromString(raw)
        requests.check_txn(request, self._member.config.max_txn_ops)
        if requests.is_write(request):
            if len(raw) > self._max_request:
                raise REQUEST_TOO_LARGE
            if self._member.over_quota(len(raw)) and requests.puts(request):
                raise await self._refuse_for_space(context, lambda who: self._access.guard.txn(who, request))
            return answer(await self._access.submit(context, Kind.TXN, raw, request))
        if not requests.is_serializable(request):
            await self._member.engine.barrier()
        if self._auth.enabled:
            self._access.guard.txn(await self._access.identify(context), request)
        state = self._state
        return state.header(state.store.revision) + state.evaluator.read_txn(request)

    async def compact(self, raw: bytes, context: Context) -> bytes:
        request = pb.CompactionRequest.FromString(raw)
        result = answer(await self._proposer.submit(Kind.COMPACT, raw, request))
        if request.physical:
            await self._member.scrubbed.wait()
        return result
