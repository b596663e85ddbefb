"""An ordinary HTTP request that came over HTTP/2, as curl sends it to a TLS port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.transport.frames import (
    DATA,
    END_STREAM,
    PROTOCOL_ERROR,
    StreamFault,
    frame,
    window_update,
)
from kubeling.etcdlite.transport.headers import Head, http_head
from kubeling.etcdlite.transport.shared import STREAM_WINDOW
from kubeling.etcdlite.transport.stream import Stream
from kubeling.etcdlite.transport.web import Answer, Request, Site

if TYPE_CHECKING:
    from kubeling.etcdlite.transport.connection import Connection

log = get_logger("etcdlite.web")


class PageStream(Stream):
    """One request and its answer."""

    __slots__ = ("_body", "_limit", "_site")

    def __init__(self, connection: Connection, number: int, head: Head, window: int, site: Site, limit: int) -> None:
        Stream.__init__(self, connection, number, head, window, STREAM_WINDOW)
        self._site = site
        self._limit = limit
        self._body = bytearray()

    def data(self, payload: bytes) -> None:
        self._body += payload
        self.connection.shared.buffered += len(payload)
        if len(self._body) > self._limit or self.connection.shared.buffered > self.connection.shared.limits.max_buffered:
            self._send_whole(Answer(413, b"413: the body is too large\n", "text/plain; charset=utf-8"))
            return
        more = STREAM_WINDOW - self.receive_window
        if more > STREAM_WINDOW // 2:
            self.receive_window += more
            self.connection.send(window_update(self.id, more))

    def end(self) -> None:
        if self.head.content_length not in (None, len(self._body)):
            raise StreamFault(self.id, PROTOCOL_ERROR)
        self.task = self.connection.loop.create_task(self._serve())

    async def _serve(self) -> None:
        head = self.head
        request = Request(head.method, head.path.partition("?")[0], head.metadata, bytes(self._body), self.connection.peer)
        try:
            await self.connection.room()
            answer = await self._site(request)
            if isinstance(answer.body, bytes):
                self._send_whole(answer)
                return
            self.send_headers(http_head(answer.status, answer.fields))
            try:
                async for piece in answer.body:
                    if not self.writable:
                        await self.wait_writable()
                    self.send_data(piece)
            finally:
                await answer.body.aclose()
            self.finish(frame(DATA, END_STREAM, self.id))
        except Exception as error:
            log.error("a request failed", path=head.path, exc_info=error)
            self._send_whole(Answer(500, f"500: {error}\n".encode(), "text/plain; charset=utf-8"))

    def _send_whole(self, answer: Answer) -> None:
        if self.closed:
            return
        assert isinstance(answer.body, bytes)
        self.send_headers(http_head(answer.status, answer.fields))
        if self.head.method != "HEAD":
            self.send_data(answer.body)
        self.finish(frame(DATA, END_STREAM, self.id))

    def released(self) -> None:
        self.connection.shared.buffered -= len(self._body)
        self._body = bytearray()
