"""A small HTTP/1.1 server on h11 for the daemons that only show health, metrics and debug pages.

The apiserver and the kubelet need more and use uvicorn; everything else would pay 16 MB for it. Only what is posted to a page that takes it has a body
that anybody reads, up to a limit; a connection that says nothing for a while is closed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import h11

from kubeling.daemon.log import get_logger

log = get_logger("serving")

_READ = 16 * 1024
_IDLE_SECONDS = 90.0
_MAX_CONNECTIONS = 256
MAX_BODY = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: `body` is sent as it is."""

    body: bytes | str
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    #: Others than the type and length of the content.
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[], Awaitable[Page] | Page]
#: A page that depends on the query of its address.
QueryHandler = Callable[[Mapping[str, str]], Page]
#: A page that answers what is posted to it.
PostHandler = Callable[[bytes], Awaitable[Page]]


class StatusServer:
    """Serves fixed paths. A handler that raises is a 500 with the error's text and a log line, never the end of the daemon."""

    def __init__(
        self,
        pages: Mapping[str, Handler],
        queries: Mapping[str, QueryHandler] | None = None,
        posts: Mapping[str, PostHandler] | None = None,
    ) -> None:
        self._pages = dict(pages)
        self._queries = dict(queries or {})
        self._posts = dict(posts or {})
        self._connections = 0

    async def run(self, host: str, port: int, *, ready: asyncio.Event | None = None, sock: socket.socket | None = None) -> None:
        """Listen on `host`:`port` (or on `sock`) until cancelled; `ready` is set once connections are accepted."""
        if sock is not None:
            server = await asyncio.start_server(self._serve, sock=sock)
        else:
            server = await asyncio.start_server(self._serve, host, port, reuse_address=True)
        if ready is not None:
            ready.set()
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = h11.Connection(h11.SERVER)
        try:
            while self._connections <= _MAX_CONNECTIONS and await self._exchange(connection, reader, writer):
                connection.start_next_cycle()
        except (ConnectionError, TimeoutError, h11.RemoteProtocolError):
            pass  # The peer went away or does not speak HTTP: nobody is left to be told.
        finally:
            self._connections -= 1
            writer.close()

    async def _exchange(self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is over."""
        target = method = ""
        sent = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                async with asyncio.timeout(_IDLE_SECONDS):
                    connection.receive_data(await reader.read(_READ))
            elif isinstance(event, h11.Request):
                target, method = event.target.decode("ascii", "replace"), event.method.decode("ascii")
            elif isinstance(event, h11.Data):
                if method == "POST" and target in self._posts:
                    sent += event.data
                    if len(sent) > MAX_BODY:
                        return False
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return False
        page = await self._page(method, target, bytes(sent))
        body = page.body.encode() if isinstance(page.body, str) else page.body
        head = h11.Response(
            status_code=page.status,
            headers=[("content-type", page.content_type), ("content-length", str(len(body))), *page.headers],
        )
        out = connection.send(head) or b""
        if method != "HEAD":
            out += connection.send(h11.Data(data=body)) or b""
        out += connection.send(h11.EndOfMessage()) or b""
        writer.write(out)
        await writer.drain()
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    async def _page(self, method: str, target: str, sent: bytes) -> Page:
        path, _, query = target.partition("?")
        if method == "POST" and path in self._posts:
            try:
                return await self._posts[path](sent)
            except Exception as error:
                log.exception("a posted question failed", path=path)
                return Page(f"500: {error}\n", 500)
        handler = self._pages.get(path.rstrip("/") or "/")
        if path in self._queries:
            asked, answer = dict(parse_qsl(query)), self._queries[path]
            handler = lambda: answer(asked)  # noqa: E731
        if handler is None:
            return Page(
                "404: no such page. Served here: " + ", ".join(sorted({*self._pages, *self._queries, *self._posts})) + "\n", 404
            )
        if method not in ("GET", "HEAD"):
            return Page(f"405: {method} is not allowed here, use GET\n", 405)
        try:
            made = handler()
            return made if isinstance(made, Page) else await made
        except Exception as error:
            log.exception("a status page failed", path=target)
            return Page(f"500: {error}\n", 500)


def health_pages(
    healthy: Callable[[], str | None] = lambda: None, ready: Callable[[], str | None] | None = None
) -> dict[str, Handler]:
    """`/healthz`, `/livez`, `/readyz` and `/metrics` (Prometheus text). The checks return None when all is well, else what is wrong."""

    def answer(check: Callable[[], str | None]) -> Handler:
        def page() -> Page:
            problem = check()
            return Page("ok") if problem is None else Page(problem + "\n", 500)

        return page

    def metrics() -> Page:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return Page(generate_latest(), content_type=CONTENT_TYPE_LATEST)

    return {"/healthz": answer(healthy), "/livez": answer(healthy), "/readyz": answer(ready or healthy), "/metrics": metrics}
