"""Kubernetes' channel protocols over a WebSocket: each binary message begins with the number of the channel that it belongs to.

For exec and attach: 0 stdin, 1 stdout, 2 stderr, 3 the final status, 4 terminal sizes; with v5 also 255, whose payload is the number of a
channel that the client has finished. For port-forward: 2n is the data of the n-th port and 2n+1 its errors, and each begins with a message
that holds the port in two bytes, low byte first.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import wsproto
from wsproto import events
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

#: In order of preference.
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
#: Newer clients carry SPDY in the WebSocket's messages.
TUNNEL = "SPDY/3.1+portforward.k8s.io"
FORWARD_PROTOCOLS = (TUNNEL, "v4.channel.k8s.io", "v5.channel.k8s.io")
_STREAMS = {"stdout": 1, "stderr": 2, "error": 3}
_CLOSE = 255
_READ = 65536
#: The longest message of a client, in bytes.
_MAX_MESSAGE = 4 << 20


class ProtocolError(Exception):
    """The client does not speak any of the protocols; the text says which there are."""


class WebSocket:
    """The server's side of one connection. `head` is what was read of it to find out that it is a WebSocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._pending: list[bytes] = []
        self._partial = b""
        self._closed = False
        self.protocol = ""

    async def accept(self, head: bytes, protocols: tuple[str, ...] = PROTOCOLS) -> None:
        """Answer the handshake with the first of `protocols` that the client offers. Raises ProtocolError."""
        self._connection.receive_data(head)
        for event in self._connection.events():
            if isinstance(event, events.Request):
                chosen = next((name for name in protocols if name in event.subprotocols), None)
                if chosen is None:
                    raise ProtocolError(f"offer one of the WebSocket protocols {', '.join(protocols)}")
                self.protocol = chosen
                self._writer.write(self._connection.send(events.AcceptConnection(subprotocol=chosen)))
                await self._writer.drain()
                return
        raise ProtocolError("this is not a WebSocket handshake")

    async def receive_message(self) -> tuple[int, bytes] | None:
        """The next (channel, data); None when the client has gone."""
        data = await self.receive_bytes()
        return (data[0], data[1:]) if data else None

    async def receive_bytes(self) -> bytes:
        """The next message as it is, empty when the client has gone."""
        while not self._pending:
            if self._closed:
                return b""
            try:
                data = await self._reader.read(_READ)
            except ConnectionError:
                data = b""
            try:
                self._connection.receive_data(data or None)
                for event in self._connection.events():
                    await self._handle(event)
            except (RemoteProtocolError, LocalProtocolError):
                self._closed = True
            if not data:
                self._closed = True
        return self._pending.pop(0)

    async def _handle(self, event: events.Event) -> None:
        if isinstance(event, events.BytesMessage | events.TextMessage):
            data = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
            self._partial += data
            if len(self._partial) > _MAX_MESSAGE:
                self._closed = True
            elif event.message_finished:
                if self._partial:
                    self._pending.append(self._partial)
                self._partial = b""
        elif isinstance(event, events.Ping):
            self._writer.write(self._connection.send(event.response()))
            await self._writer.drain()
        elif isinstance(event, events.CloseConnection):
            self._closed = True

    async def send_message(self, channel: int, data: bytes) -> None:
        """Raises ConnectionError when the client has gone."""
        await self.send_bytes(bytes([channel]) + data)

    async def send_bytes(self, data: bytes) -> None:
        """Raises ConnectionError when the client has gone."""
        try:
            self._writer.write(self._connection.send(events.BytesMessage(data)))
        except LocalProtocolError as error:
            raise ConnectionResetError(str(error)) from error
        await self._writer.drain()

    async def close(self) -> None:
        try:
            self._writer.write(self._connection.send(events.CloseConnection(code=1000)))
            await self._writer.drain()
        except (LocalProtocolError, ConnectionError):
            self._closed = True

    # -- exec and attach, as streaming.Carrier ------------------------------------------------------------------------------------------------

    async def receive(self) -> tuple[str, bytes] | None:
        while True:
            message = await self.receive_message()
            if message is None:
                return None
            channel, data = message
            if channel == 0:
                if data:
                    return "stdin", data
            elif channel == 4:
                return "resize", data
            elif channel == _CLOSE and data[:1] == b"\0":
                return "stdin", b""

    async def send(self, stream: str, data: bytes) -> None:
        await self.send_message(_STREAMS[stream], data)

    async def finish(self, status: dict[str, Any]) -> None:
        await self.send_message(3, json.dumps(status).encode())
        await self.close()


async def begin_forward(socket: WebSocket, ports: list[int]) -> None:
    """The first message of each channel of a port-forward."""
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await socket.send_message(channel, port.to_bytes(2, "little"))
