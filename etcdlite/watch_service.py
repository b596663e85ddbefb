"""etcdserverpb.Watch: a task reads a stream's requests; what the hub queues for it goes out at once, or when the client has room."""

from __future__ import annotations

import asyncio

from kubeling.etcdlite.access import Access
from kubeling.etcdlite.errors import NO_LEADER, EtcdError
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.rpc import Context, Messages, Service, both_streams, header, service
from kubeling.etcdlite.watch import MAX_QUEUED_BYTES, Stream
from kubeling.proto import etcd_pb2 as pb

#: The codes as they are spelt where etcd puts an error into words.
_GO_NAMES = {
    "INVALID_ARGUMENT": "InvalidArgument",
    "PERMISSION_DENIED": "PermissionDenied",
    "UNAUTHENTICATED": "Unauthenticated",
    "UNAVAILABLE": "Unavailable",
}


def handler(member: Member, access: Access) -> Service:
    """The Watch service of `member`."""

    async def watch(incoming: Messages, context: Context) -> None:
        await _Served(member, access, context).run(incoming)

    return service("etcdserverpb.Watch", {"Watch": both_streams(watch)})


class _Served:
    """One client's stream of watches."""

    def __init__(self, member: Member, access: Access, context: Context) -> None:
        self._member = member
        self._access = access
        self._hub = member.hub
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._stream = Stream(context.offer, self._drain)
        self._waiting = self._catching_up = self._leaderless = self._over = False
        self._timer = self._loop.call_later(self._member.config.progress_seconds, self._notify)

    async def run(self, incoming: Messages) -> None:
        """Serve until the client goes away. That it says no more (and half-closes the stream) does not end its watches."""
        self._hub.streams.add(self._stream)
        task = asyncio.current_task()
        assert task is not None

        def lose_leader() -> None:
            self._leaderless = True
            task.cancel()

        if header(self._context, "hasleader") == "true":
            self._member.needs_leader.add(lose_leader)
        try:
            async for raw in incoming:
                await self._handle(pb.WatchRequest.FromString(raw))
            await self._loop.create_future()
        except asyncio.CancelledError:
            if not self._leaderless:
                raise
            raise NO_LEADER from None
        finally:
            self._over = True
            self._member.needs_leader.discard(lose_leader)
            self._timer.cancel()
            self._hub.close(self._stream)

    async def _handle(self, request: pb.WatchRequest) -> None:
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            create = request.create_request
            try:
                await self._check(create)
            except EtcdError as error:
                self._hub.refuse(self._stream, f"rpc error: code = {_GO_NAMES.get(error.code, error.code)} desc = {error.text}")
            else:
                self._hub.create(self._stream, create)
        elif kind == "cancel_request":
            self._hub.cancel(self._stream, request.cancel_request.watch_id)
        elif kind == "progress_request":
            self._hub.progress(self._stream)

    async def _check(self, create: pb.WatchCreateRequest) -> None:
        """Raises unless the caller may read what it wants to watch. What it is told later is not checked again, as in etcd."""
        access = self._access
        if access.auth.enabled:
            wanted = pb.RangeRequest(key=create.key or b"\x00", range_end=create.range_end)
            access.guard.range(await access.identify(self._context), wanted)

    def _drain(self) -> None:
        """Send what is queued and there is room for; then see to those that lag, a piece in each turn of the loop."""
        stream, context = self._stream, self._context
        while stream.queue and context.offer(stream.queue[0]):
            stream.pop()
        if stream.queue and not self._waiting and not self._over:
            self._waiting = True
            context.when_writable(self._writable)
        if stream.lagging and not self._catching_up and stream.queued_bytes < MAX_QUEUED_BYTES // 2:
            self._catching_up = True
            self._loop.call_soon(self._catch_up)

    def _writable(self) -> None:
        self._waiting = False
        self._drain()

    def _catch_up(self) -> None:
        if self._stream.lagging and not self._over:
            self._hub.catch_up(self._stream)
        self._catching_up = False
        if not self._over:
            self._drain()

    def _notify(self) -> None:
        self._hub.notify_quiet(self._stream)
        self._timer = self._loop.call_later(self._member.config.progress_seconds, self._notify)
