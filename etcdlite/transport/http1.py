"""HTTP/1.1 on the client port, by h11: one request after another, answers whole or piece by piece."""

from __future__ import annotations

import asyncio

import h11

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.transport.shared import WRITE_BUFFER_BYTES, Peer, Shared
from kubeling.etcdlite.transport.web import Answer, Request, Site

log = get_logger("etcdlite.web")

_IDLE_SECONDS = 90.0
#: What a client may send ahead while it is being answered.
_MAX_AHEAD = 64 << 10
_TEXT = "text/plain; charset=utf-8"


class Http1(asyncio.Protocol):
    """One connection."""

    def __init__(self, site: Site, peer: Peer, limit: int, shared: Shared) -> None:
        self._site = site
        self._peer = peer
        self._limit = limit
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._parser = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport | None = None
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._ahead = 0
        self._paused: asyncio.Future[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._stopping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._shared.connections.add(self)
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.lost(self)
        if self._idle is not None:
            self._idle.cancel()
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._paused = self._loop.create_future()

    def resume_writing(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None and not paused.done():
            paused.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._parser.receive_data(data)
        if self._task is None:
            self._advance()
            return
        self._ahead += len(data)
        if self._ahead > _MAX_AHEAD and self._transport is not None:
            self._transport.pause_reading()

    def drain(self) -> None:
        """Close when the answer that is being given is whole."""
        self._stopping = True
        if self._task is None:
            self.close()

    def stop_work(self) -> None:
        """Cancel the answer that is being given."""
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def _rest(self) -> None:
        """Wait for the next request, for a while."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.call_later(_IDLE_SECONDS, self.close)

    def _advance(self) -> None:
        try:
            self._events()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))

    def _events(self) -> None:
        while self._task is None:
            event = self._parser.next_event()
            if isinstance(event, h11.Request):
                self._head = event
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self._limit:
                    self._refuse(413, "the body is too large")
                    return
            elif isinstance(event, h11.EndOfMessage):
                if self._idle is not None:
                    self._idle.cancel()
                self._task = self._loop.create_task(self._serve())
            else:
                if self._parser.they_are_waiting_for_100_continue:
                    self._write(h11.InformationalResponse(status_code=100, headers=[]))
                elif event is not h11.NEED_DATA:
                    self.close()
                return

    def _refuse(self, status: int, reason: str) -> None:
        text = f"{status}: {reason}\n".encode()
        head = [("content-type", _TEXT), ("content-length", str(len(text))), ("connection", "close")]
        if self._parser.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._write(h11.Response(status_code=status, headers=head))
            self._write(h11.Data(data=text))
        self.close()

    async def _serve(self) -> None:
        head = self._head
        assert head is not None
        path = head.target.decode("latin-1").partition("?")[0]
        fields = tuple((str(name, "latin-1").lower(), str(value, "latin-1")) for name, value in head.headers)
        request = Request(head.method.decode("ascii"), path, fields, bytes(self._body), self._peer)
        self._body.clear()
        try:
            await self._send(request.method, await self._site(request))
        except Exception as error:
            log.error("a request failed", path=path, exc_info=error)
            self._refuse(500, str(error))
            return
        if self._parser.our_state is not h11.DONE or self._parser.their_state is not h11.DONE or self._stopping:
            self.close()
            return
        self._parser.start_next_cycle()
        self._task, self._ahead = None, 0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._rest()
        self._advance()

    async def _send(self, method: str, answer: Answer) -> None:
        self._write(h11.Response(status_code=answer.status, headers=answer.fields))
        if isinstance(answer.body, bytes):
            if method != "HEAD":
                self._write(h11.Data(data=answer.body))
                await self._room()
        else:
            try:
                async for piece in answer.body:
                    self._write(h11.Data(data=piece))
                    await self._room()
            finally:
                await answer.body.aclose()
        self._write(h11.EndOfMessage())

    async def _room(self) -> None:
        if self._paused is not None:
            await self._paused

    def _write(self, event: h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage) -> None:
        data = self._parser.send(event)
        if data and self._transport is not None:
            self._transport.write(data)
