"""The connections of watches, which are many and long: one for each request, closed with its answer.

httpx's own pool looks at each of its connections whenever a request begins or ends. A third of a controller manager's start went into that.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator

import httpx

#: A dead peer is noticed by the kernel within half a minute, also on a watch on which nothing happens.
SOCKET_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


class StreamTransport(httpx.AsyncBaseTransport):
    """See the module's docstring. `verify`: the TLS context, False where there is none."""

    def __init__(self, verify: ssl.SSLContext | bool) -> None:
        self._verify = verify

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        transport = httpx.AsyncHTTPTransport(verify=self._verify, limits=limits, socket_options=SOCKET_OPTIONS)
        try:
            response = await transport.handle_async_request(request)
        except BaseException:
            await transport.aclose()
            raise
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        response.stream = _Stream(stream, transport)
        return response


class _Stream(httpx.AsyncByteStream):
    """An answer's body with the transport that it ends with."""

    def __init__(self, stream: httpx.AsyncByteStream, transport: httpx.AsyncHTTPTransport) -> None:
        self._stream = stream
        self._transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._transport.aclose()
