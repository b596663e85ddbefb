"""etcdserverpb.Watch: one task reads a stream's requests, one writes what the hub has queued for it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from kubeling.etcdlite.errors import NO_LEADER
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.rpc import Context, both_streams, fail, service
from kubeling.etcdlite.watch import MAX_QUEUED_BYTES, Stream
from kubeling.proto import etcd_pb2 as pb

#: How often a watch that asked for progress notifications and had no events is told the current revision (etcd's default).
PROGRESS_SECONDS = 600.0


def handler(member: Member) -> grpc.GenericRpcHandler:
    """The Watch service of `member`."""

    async def watch(incoming: Any, context: Context) -> None:
        await _serve(member, incoming, context)

    return service("etcdserverpb.Watch", {"Watch": both_streams(watch)})


async def _serve(member: Member, incoming: Any, context: Context) -> None:
    hub = member.hub
    wake = asyncio.Event()
    stream = Stream(wake.set)
    hub.streams.add(stream)
    reader = asyncio.ensure_future(_read(member, stream, incoming))
    reader.add_done_callback(lambda _: wake.set())
    leaderless = False

    def lose_leader() -> None:
        nonlocal leaderless
        leaderless = True
        wake.set()

    if ("hasleader", "true") in (context.invocation_metadata() or ()):
        member.needs_leader.add(lose_leader)
    notifier: list[asyncio.TimerHandle] = []

    def notify() -> None:
        hub.notify_quiet(stream)
        notifier[:] = [asyncio.get_running_loop().call_later(PROGRESS_SECONDS, notify)]

    notifier.append(asyncio.get_running_loop().call_later(PROGRESS_SECONDS, notify))
    try:
        while True:
            while stream.queue or stream.lagging:
                if stream.lagging and stream.queued_bytes < MAX_QUEUED_BYTES // 2:
                    hub.catch_up(stream)
                if stream.queue:
                    await context.write(stream.pop())
                else:
                    await asyncio.sleep(0)
            if leaderless:
                await fail(context, NO_LEADER)
            if reader.done():
                # The client has said all that it will; its watches end with its half of the stream.
                reader.result()
                return
            wake.clear()
            await wake.wait()
    finally:
        member.needs_leader.discard(lose_leader)
        notifier[0].cancel()
        reader.cancel()
        hub.close(stream)


async def _read(member: Member, stream: Stream, incoming: Any) -> None:
    hub = member.hub
    async for raw in incoming:
        request = pb.WatchRequest.FromString(raw)
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            hub.create(stream, request.create_request)
        elif kind == "cancel_request":
            hub.cancel(stream, request.cancel_request.watch_id)
        elif kind == "progress_request":
            hub.progress(stream)
