"""A client: sends one request, waits for its end, and writes down what it knows of the outcome."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc

from . import wire
from .cluster import Member
from .history import History
from .operations import (
    FAILED,
    OK,
    UNKNOWN,
    Body,
    Compact,
    Delete,
    Grant,
    KeepAlive,
    LeaseBody,
    Operation,
    Put,
    Range,
    Request,
    Revoke,
    Txn,
)

#: The store refused before it did anything.
_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_NEVER_SENT = ("failed to connect to all addresses", "connections to all backends failing")


class Client:
    """Requests under one name, each to the member that the caller names."""

    def __init__(self, name: str, history: History, timeout: float = 2.0) -> None:
        self.name, self._history, self._timeout = name, history, timeout
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, member: Member) -> grpc.aio.Channel:
        if member.name not in self._channels:
            self._channels[member.name] = member.channel()
        return self._channels[member.name]

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        self._channels = {}

    async def do(self, member: Member, request: Request, timeout: float = 0) -> Operation:
        """Send `request` to `member`; never raises for what the store or the network does."""
        op = Operation(len(self._history.operations), self.name, member.name, request, self._history.now())
        self._history.operations.append(op)
        try:
            revision, body = await self._send(self.channel(member), request, timeout or self._timeout)
            op.returned = self._history.now()
            op.outcome, op.revision, op.body = OK, revision, body
        except grpc.aio.AioRpcError as error:
            op.returned = self._history.now()
            detail = error.details() or ""
            never = error.code() == grpc.StatusCode.UNAVAILABLE and any(text in detail for text in _NEVER_SENT)
            op.outcome = FAILED if error.code() in _REFUSALS or never else UNKNOWN
            op.error = f"{error.code().name}: {detail[:200]}"
        return op

    async def _send(self, channel: grpc.aio.Channel, request: Request, timeout: float) -> tuple[int, Body]:
        answer: Any
        match request:
            case Put():
                answer = await rpc.KVStub(channel).Put(wire.put(request), timeout=timeout)
                return answer.header.revision, wire.put_body(answer)
            case Range():
                answer = await rpc.KVStub(channel).Range(wire.get(request), timeout=timeout)
                return answer.header.revision, wire.range_body(answer)
            case Delete():
                answer = await rpc.KVStub(channel).DeleteRange(wire.delete(request), timeout=timeout)
                return answer.header.revision, wire.delete_body(answer)
            case Txn():
                answer = await rpc.KVStub(channel).Txn(wire.txn(request), timeout=timeout)
                return answer.header.revision, wire.txn_body(answer)
            case Grant(id, ttl):
                answer = await rpc.LeaseStub(channel).LeaseGrant(pb.LeaseGrantRequest(ID=id, TTL=ttl), timeout=timeout)
                return 0, LeaseBody(answer.TTL)
            case Revoke(id):
                await rpc.LeaseStub(channel).LeaseRevoke(pb.LeaseRevokeRequest(ID=id), timeout=timeout)
                return 0, None
            case KeepAlive(id):
                return 0, LeaseBody(await _keep_alive(channel, id, timeout))
            case Compact(revision):
                await rpc.KVStub(channel).Compact(pb.CompactionRequest(revision=revision), timeout=timeout)
                return 0, None


async def _keep_alive(channel: grpc.aio.Channel, lease: int, timeout: float) -> int:
    call = rpc.LeaseStub(channel).LeaseKeepAlive(timeout=timeout)
    try:
        await call.write(pb.LeaseKeepAliveRequest(ID=lease))
        answer = await call.read()
        if answer is grpc.aio.EOF:
            # Raises what ended the stream; where it ended well without an answer, that is no answer either.
            await call
            raise AssertionError("a keep-alive stream ended without an answer")
        return int(answer.TTL)
    finally:
        call.cancel()
