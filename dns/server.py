"""The server: UDP and TCP on one address, answers from the records, the rest forwarded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dnslib import RCODE
from prometheus_client import Counter

from kubeling.daemon.log import get_logger
from kubeling.dns.answers import Answerer, Elsewhere, NotOurs, refusal
from kubeling.dns.forward import Forwarder

log = get_logger("dns")

_QUERIES = Counter("coredns_dns_requests_total", "Queries answered, by transport and by who answered.", ["proto", "zone"])
_TCP_IDLE = 10.0
_MAX_TCP = 256
_MAX_PENDING = 1024


class Server(asyncio.DatagramProtocol):
    """`ready` says whether the records are complete; until then queries for our names fail instead of denying that names exist."""

    def __init__(self, answerer: Answerer, forwarder: Forwarder, ready: Callable[[], bool]) -> None:
        self._answerer, self._forwarder, self._ready = answerer, forwarder, ready
        self._transport: asyncio.DatagramTransport | None = None
        self._pending: set[asyncio.Task[None]] = set()
        self._tcp_clients = 0

    async def run(self, host: str, port: int, *, listening: asyncio.Event | None = None) -> None:
        """Serve until cancelled. Raises OSError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
        try:
            tcp = await asyncio.start_server(self._serve_tcp, host, port, reuse_address=True)
            async with tcp:
                if listening is not None:
                    listening.set()
                await tcp.serve_forever()
        finally:
            transport.close()
            for task in self._pending:
                task.cancel()

    # -- UDP -----------------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            answer = self._own_answer(data, udp=True)
        except (NotOurs, Elsewhere) as elsewhere:
            if len(self._pending) >= _MAX_PENDING:
                self._send(refusal(data, RCODE.SERVFAIL), addr)
                return
            task = asyncio.get_running_loop().create_task(self._answer_later(data, elsewhere, addr))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
            return
        self._send(answer, addr)

    async def _answer_later(self, data: bytes, elsewhere: NotOurs | Elsewhere, addr: Any) -> None:
        self._send(await self._ask_others(data, elsewhere, udp=True), addr)

    async def _ask_others(self, data: bytes, elsewhere: NotOurs | Elsewhere, *, udp: bool) -> bytes | None:
        """The answer for which others have to be asked."""
        _QUERIES.labels("udp" if udp else "tcp", "other").inc()
        try:
            if isinstance(elsewhere, NotOurs):
                return await self._forwarder.ask(data, tcp=not udp)
            return elsewhere.answer(await self._forwarder.ask(elsewhere.question, tcp=True), udp=udp)
        except Exception:
            log.exception("forwarding failed")
            return refusal(data, RCODE.SERVFAIL)

    def _send(self, answer: bytes | None, addr: Any) -> None:
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)

    def _own_answer(self, data: bytes, *, udp: bool) -> bytes | None:
        try:
            answer = self._answerer.answer(data, udp=udp)
        except NotOurs:
            raise
        except Elsewhere:
            if not self._ready():
                return refusal(data, RCODE.SERVFAIL)
            raise
        except Exception:
            log.exception("a query could not be answered")
            return refusal(data, RCODE.SERVFAIL)
        _QUERIES.labels("udp" if udp else "tcp", "cluster").inc()
        return answer if self._ready() else refusal(data, RCODE.SERVFAIL)

    # -- TCP -----------------------------------------------------------------------------------------------------------------------

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tcp_clients += 1
        try:
            while self._tcp_clients <= _MAX_TCP:
                async with asyncio.timeout(_TCP_IDLE):
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(length)
                try:
                    answer = self._own_answer(data, udp=False)
                except (NotOurs, Elsewhere) as elsewhere:
                    answer = await self._ask_others(data, elsewhere, udp=False)
                if answer is None:
                    return
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # The client is gone or silent.
        finally:
            self._tcp_clients -= 1
            writer.close()
