"""The JSON gateway: every gRPC method as ``POST /v3/…`` with a JSON body, as etcd's own gateway maps them, and the pages of the client port.

Which message a method takes and gives is read from the service descriptors; the handler gets the same bytes that gRPC would give it, so what is
registered as a service is reachable here with nothing more. Messages are proto3 JSON: bytes in base64, 64-bit numbers as strings, field names as in
the .proto files. A stream of answers is one JSON object a line, ``{"result": …}``. The request's body is read whole before the call begins.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from kubeling.daemon.log import get_logger
from kubeling.daemon.serving import Page
from kubeling.etcdlite.errors import EtcdError
from kubeling.etcdlite.rpc import CODES, Kind, Method, Service
from kubeling.etcdlite.transport.stream import settle
from kubeling.etcdlite.transport.web import Answer, Request

log = get_logger("etcdlite.gateway")

_KV, _LEASE, _CLUSTER = "etcdserverpb.KV", "etcdserverpb.Lease", "etcdserverpb.Cluster"
_MAINTENANCE, _AUTH, _LOCK, _ELECTION = "etcdserverpb.Maintenance", "etcdserverpb.Auth", "v3lockpb.Lock", "v3electionpb.Election"

#: Path below /v3/ to service and method.
PATHS: dict[str, tuple[str, str]] = {
    "kv/range": (_KV, "Range"),
    "kv/put": (_KV, "Put"),
    "kv/deleterange": (_KV, "DeleteRange"),
    "kv/txn": (_KV, "Txn"),
    "kv/compaction": (_KV, "Compact"),
    "watch": ("etcdserverpb.Watch", "Watch"),
    "lease/grant": (_LEASE, "LeaseGrant"),
    "lease/revoke": (_LEASE, "LeaseRevoke"),
    "lease/keepalive": (_LEASE, "LeaseKeepAlive"),
    "lease/timetolive": (_LEASE, "LeaseTimeToLive"),
    "lease/leases": (_LEASE, "LeaseLeases"),
    "kv/lease/revoke": (_LEASE, "LeaseRevoke"),
    "kv/lease/timetolive": (_LEASE, "LeaseTimeToLive"),
    "kv/lease/leases": (_LEASE, "LeaseLeases"),
    "cluster/member/add": (_CLUSTER, "MemberAdd"),
    "cluster/member/remove": (_CLUSTER, "MemberRemove"),
    "cluster/member/update": (_CLUSTER, "MemberUpdate"),
    "cluster/member/list": (_CLUSTER, "MemberList"),
    "cluster/member/promote": (_CLUSTER, "MemberPromote"),
    "maintenance/alarm": (_MAINTENANCE, "Alarm"),
    "maintenance/status": (_MAINTENANCE, "Status"),
    "maintenance/defragment": (_MAINTENANCE, "Defragment"),
    "maintenance/hash": (_MAINTENANCE, "Hash"),
    "maintenance/hashkv": (_MAINTENANCE, "HashKV"),
    "maintenance/snapshot": (_MAINTENANCE, "Snapshot"),
    "maintenance/transfer-leadership": (_MAINTENANCE, "MoveLeader"),
    "maintenance/downgrade": (_MAINTENANCE, "Downgrade"),
    "auth/enable": (_AUTH, "AuthEnable"),
    "auth/disable": (_AUTH, "AuthDisable"),
    "auth/status": (_AUTH, "AuthStatus"),
    "auth/authenticate": (_AUTH, "Authenticate"),
    "auth/user/add": (_AUTH, "UserAdd"),
    "auth/user/get": (_AUTH, "UserGet"),
    "auth/user/list": (_AUTH, "UserList"),
    "auth/user/delete": (_AUTH, "UserDelete"),
    "auth/user/changepw": (_AUTH, "UserChangePassword"),
    "auth/user/grant": (_AUTH, "UserGrantRole"),
    "auth/user/revoke": (_AUTH, "UserRevokeRole"),
    "auth/role/add": (_AUTH, "RoleAdd"),
    "auth/role/get": (_AUTH, "RoleGet"),
    "auth/role/list": (_AUTH, "RoleList"),
    "auth/role/delete": (_AUTH, "RoleDelete"),
    "auth/role/grant": (_AUTH, "RoleGrantPermission"),
    "auth/role/revoke": (_AUTH, "RoleRevokePermission"),
    "lock/lock": (_LOCK, "Lock"),
    "lock/unlock": (_LOCK, "Unlock"),
    "election/campaign": (_ELECTION, "Campaign"),
    "election/proclaim": (_ELECTION, "Proclaim"),
    "election/leader": (_ELECTION, "Leader"),
    "election/observe": (_ELECTION, "Observe"),
    "election/resign": (_ELECTION, "Resign"),
}

#: HTTP's status for gRPC's.
_HTTP = {
    "OK": 200,
    "CANCELLED": 408,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}
_TEXT = "text/plain; charset=utf-8"

Pages = Mapping[str, Callable[[], "Page | Awaitable[Page]"]]


class Gateway:
    """Answers what comes to the client port and is not gRPC."""

    def __init__(self, services: Iterable[Service], pages: Pages) -> None:
        self._services = {service.name: service.methods for service in services}
        self._pages = pages
        self._codecs: dict[tuple[str, str], _Codec] = {}

    async def __call__(self, request: Request) -> Answer:
        """The answer to a request."""
        page = self._pages.get(request.path)
        if page is not None and request.method in ("GET", "HEAD"):
            made = page()
            shown = made if isinstance(made, Page) else await made
            return Answer(shown.status, shown.body.encode() if isinstance(shown.body, str) else shown.body, shown.content_type)
        where = PATHS.get(request.path.removeprefix("/v3/")) if request.path.startswith("/v3/") else None
        if where is None:
            return Answer(404, b"Not Found\n" if request.path.startswith("/v3/") else b"404 page not found\n", _TEXT)
        if request.method != "POST":
            return Answer(405, b"Method Not Allowed\n", _TEXT, [("allow", "POST")])
        method = self._services.get(where[0], {}).get(where[1])
        try:
            if method is None:
                raise EtcdError("UNIMPLEMENTED", f"unknown method {where[1]} for service {where[0]}")
            codec = self._codecs.get(where)
            if codec is None:
                codec = self._codecs[where] = _Codec(*where)
            call = _LocalCall(request)
            return await self._call(method, codec, codec.requests(request.body), call)
        except EtcdError as error:
            return _refusal(error)

    async def _call(self, method: Method, codec: _Codec, requests: list[bytes], call: _LocalCall) -> Answer:
        if method.kind in (Kind.UNARY, Kind.DIRECT):
            result = method.call(requests[0], call)
            if not isinstance(result, bytes):
                result = await result
            if isinstance(result, EtcdError):
                raise result
            return Answer(200, codec.json(result))
        incoming = _each(requests) if method.kind is Kind.BOTH_STREAMS else requests[0]
        stream = _lines(method, codec, incoming, call)
        try:
            first = await anext(stream)
        except StopAsyncIteration:
            return Answer(200, b"")
        return Answer(200, _again(first, stream))


async def _each(requests: list[bytes]) -> AsyncGenerator[bytes, None]:
    for one in requests:
        yield one


async def _again(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


async def _lines(method: Method, codec: _Codec, incoming: Any, call: _LocalCall) -> AsyncGenerator[bytes, None]:
    """The answers of a stream. An error before the first is raised, later ones are the last line."""
    work = asyncio.ensure_future(_drive(method, incoming, call))
    begun = False
    try:
        while True:
            message = await call.next(work)
            if message is None:
                break
            yield b'{"result":%b}\n' % codec.json(message)
            begun = True
        error = work.exception()
        if error is None:
            return
        if not isinstance(error, EtcdError):
            raise error
        if not begun:
            raise error
        body = {"grpc_code": CODES[error.code], "http_code": _HTTP.get(error.code, 500), "message": error.text}
        yield _compact({"error": body}) + b"\n"
    finally:
        work.cancel()


async def _drive(method: Method, incoming: Any, call: _LocalCall) -> None:
    work = method.call(incoming, call)
    if hasattr(work, "__aiter__"):
        try:
            async for message in work:
                await call.write(message)
        finally:
            await work.aclose()
    else:
        await work


class _LocalCall:
    """The context of a call that came as JSON: what is written waits until the HTTP side takes it."""

    def __init__(self, request: Request) -> None:
        token = request.header("authorization")
        self.metadata = tuple(request.headers) + ((("token", token),) if token else ())
        self.common_name = request.peer.common_name
        self.address = request.peer.address
        self._queue: deque[bytes] = deque()
        self._news: asyncio.Future[None] | None = None
        self._wanted: list[Callable[[], object]] = []

    @property
    def writable(self) -> bool:
        return not self._queue

    def when_writable(self, call: Callable[[], object]) -> None:
        self._wanted = [call]

    def offer(self, message: bytes) -> bool:
        if self._queue:
            return False
        self.post(message)
        return True

    def post(self, message: bytes) -> None:
        self._queue.append(message)
        self._tell()

    async def write(self, message: bytes) -> None:
        while self._queue:
            room = asyncio.get_running_loop().create_future()
            self.when_writable(partial(settle, room))
            await room
        self.post(message)

    async def next(self, work: asyncio.Future[None]) -> bytes | None:
        """The next message; None where `work` has ended and there is none."""
        while not self._queue:
            if work.done():
                return None
            news = self._news = asyncio.get_running_loop().create_future()
            work.add_done_callback(self._tell)
            try:
                await news
            finally:
                work.remove_done_callback(self._tell)
        message = self._queue.popleft()
        if not self._queue:
            wanted, self._wanted = self._wanted, []
            for call in wanted:
                call()
        return message

    def _tell(self, *_: object) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class _Codec:
    """JSON to the bytes of a method's request, and the bytes of its answers to JSON."""

    def __init__(self, service: str, method: str) -> None:
        from google.protobuf import json_format, message_factory

        from kubeling.proto import election_pb2, etcd_pb2, lock_pb2

        short = service.rpartition(".")[2]
        files = (etcd_pb2.DESCRIPTOR, lock_pb2.DESCRIPTOR, election_pb2.DESCRIPTOR)
        owner = next(file.services_by_name[short] for file in files if file.package == service.rpartition(".")[0])
        described = owner.methods_by_name[method]
        self._request: Any = message_factory.GetMessageClass(described.input_type)
        self._response: Any = message_factory.GetMessageClass(described.output_type)
        self._format: Any = json_format

    def requests(self, body: bytes) -> list[bytes]:
        """The messages in a body: objects one after another, or none, which is an empty message. Raises EtcdError."""
        decoder = json.JSONDecoder()
        try:
            text = body.decode()
            found: list[bytes] = []
            at = 0
            while rest := text[at:].lstrip():
                at = len(text) - len(rest)
                value, at = decoder.raw_decode(text, at)
                if not isinstance(value, dict):
                    raise ValueError("a message is a JSON object")
                found.append(self._parse(value))
        except (ValueError, RecursionError, self._format.ParseError) as error:
            raise EtcdError("INVALID_ARGUMENT", str(error)) from None
        return found or [b""]

    def _parse(self, value: dict[str, object]) -> bytes:
        # Fields that it does not know are no error to etcd's gateway either.
        message = self._format.ParseDict(value, self._request(), ignore_unknown_fields=True, max_recursion_depth=60)
        raw: bytes = message.SerializeToString()
        return raw

    def json(self, raw: bytes) -> bytes:
        """A message as JSON on one line."""
        message = self._response.FromString(raw)
        return _compact(self._format.MessageToDict(message, preserving_proto_field_name=True))


def _refusal(error: EtcdError) -> Answer:
    body = {"error": error.text, "message": error.text, "code": CODES[error.code]}
    return Answer(_HTTP.get(error.code, 500), _compact(body))


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
