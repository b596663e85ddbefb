"""What the gRPC services share: handlers that take and give raw bytes, and errors as etcd words them."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.errors import EtcdError

log = get_logger("etcdlite.rpc")

Context = Any
#: What `service` makes: the methods of one service, to be registered with the server.
Service = grpc.GenericRpcHandler
UnaryCall = Callable[[bytes, Context], Awaitable[bytes]]
StreamCall = Callable[[Any, Context], Any]


async def fail(context: Context, error: EtcdError) -> Any:
    """End the call with an etcd error."""
    await context.abort(getattr(grpc.StatusCode, error.code), error.text)


def unary(call: UnaryCall) -> Any:
    """A unary method: errors become statuses, and anything unforeseen is logged and ends this call only."""

    async def guarded(raw: bytes, context: Context) -> bytes:
        try:
            return await call(raw, context)
        except EtcdError as error:
            await fail(context, error)
        except DecodeError:
            await context.abort(grpc.StatusCode.INTERNAL, "grpc: error unmarshalling request: not a message of the declared type")
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            log.exception("a call failed", call=getattr(call, "__qualname__", ""))
            await context.abort(grpc.StatusCode.UNKNOWN, f"etcdserver: {error}")
        raise AssertionError("abort returned")

    return grpc.unary_unary_rpc_method_handler(guarded)


def server_stream(call: StreamCall) -> Any:
    """A method with one request and many answers; `call` is an async generator or writes to the context."""
    return grpc.unary_stream_rpc_method_handler(_guarded_stream(call))


def both_streams(call: StreamCall) -> Any:
    """A method with a stream each way."""
    return grpc.stream_stream_rpc_method_handler(_guarded_stream(call))


def _guarded_stream(call: StreamCall) -> StreamCall:
    if inspect.isasyncgenfunction(call):

        async def generate(request: Any, context: Context) -> Any:
            try:
                async for message in call(request, context):
                    yield message
            except EtcdError as error:
                await fail(context, error)

        return generate

    async def write(request: Any, context: Context) -> None:
        try:
            await call(request, context)
        except EtcdError as error:
            await fail(context, error)

    return write


def header(context: Context, name: str) -> str:
    """The first value of this metadata of the call, as `token` or `hasleader`; empty where there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""


def common_name(context: Context) -> str:
    """The CN of the client's certificate; empty where it showed none that was verified."""
    found = context.auth_context().get("x509_common_name") or [b""]
    return str(found[0], "utf-8", "replace")


def service(name: str, methods: dict[str, Any]) -> Service:
    """The handler of a whole service."""
    return grpc.method_handlers_generic_handler(name, methods)


def unimplemented(name: str) -> Any:
    """A method that clients may ask for and that is not there."""

    async def refuse(raw: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"etcdserver: {name} is not supported by etcdlite")
        return b""

    return grpc.unary_unary_rpc_method_handler(refuse)


def answer(result: bytes | EtcdError) -> bytes:
    """The bytes of an answer; raises where it is an error."""
    if isinstance(result, EtcdError):
        raise result
    return result


Messages = AsyncIterator[bytes]
