"""What is not ours is asked of the servers that the machine itself uses, and kept for as long as they say."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from kubeling.daemon.log import get_logger
from kubeling.dns.answers import refusal

log = get_logger("dns.forward")

_TIMEOUT = 2.0
_CACHED = 4096
_MAX_TTL = 300
_IN_FLIGHT = 512
#: In the third byte of a packet.
_TRUNCATED = 2


def upstreams(resolv_conf: str, own: Sequence[str] = ()) -> list[str]:
    """The nameservers in a resolv.conf, without the addresses in `own` (a loop would never end)."""
    try:
        text = Path(resolv_conf).read_text()
    except OSError as error:
        log.warning("no servers to forward to", file=resolv_conf, error=str(error))
        return []
    found = [parts[1] for line in text.splitlines() if len(parts := line.split()) >= 2 and parts[0] == "nameserver"]
    return [address for address in found if address not in own][:3]


class Forwarder:
    """Asks `servers` in turn; an empty list refuses every query."""

    def __init__(self, servers: Sequence[str], *, port: int = 53, rand: Callable[[], float] = random.random) -> None:
        self._servers = list(servers)
        self._port = port
        self._rand = rand
        #: By transport and question: until when, since when, the answer without its id.
        self._cache: OrderedDict[tuple[bool, bytes], tuple[float, float, bytes]] = OrderedDict()
        self._slots = asyncio.Semaphore(_IN_FLIGHT)

    async def ask(self, packet: bytes, *, tcp: bool = False) -> bytes | None:
        """The answer to `packet` with its own id: from the cache, from a server, or a SERVFAIL where none answers.

        With `tcp` the answer may have any size: one that a server cuts is asked for again over TCP.
        """
        if not self._servers:
            return refusal(packet, RCODE.REFUSED)
        now = asyncio.get_running_loop().time()
        cached = self._cache.get((tcp, packet[2:]))
        if cached is not None and cached[0] > now:
            return packet[:2] + _aged(cached[2], int(now - cached[1]))
        async with self._slots:
            for server in self._servers:
                try:
                    async with asyncio.timeout(_TIMEOUT):
                        answer = await self._exchange(server, packet)
                        if tcp and len(answer) > 2 and answer[2] & _TRUNCATED:
                            answer = await self._exchange_tcp(server, packet)
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    continue
                self._keep((tcp, packet[2:]), answer, now)
                return packet[:2] + answer[2:]
        return refusal(packet, RCODE.SERVFAIL)

    async def _exchange_tcp(self, server: str, packet: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(server, self._port)
        try:
            writer.write(len(packet).to_bytes(2, "big") + packet)
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        finally:
            writer.close()

    async def _exchange(self, server: str, packet: bytes) -> bytes:
        # A fresh id and a fresh source port for each question: an answer must be hard to guess.
        asked = int(self._rand() * 65536).to_bytes(2, "big") + packet[2:]
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()

        class Waiting(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                if data[:2] == asked[:2] and not answer.done():
                    answer.set_result(data)

            def error_received(self, exc: Exception) -> None:
                if not answer.done():
                    answer.set_exception(exc)

        transport, _ = await loop.create_datagram_endpoint(Waiting, remote_addr=(server, self._port))
        try:
            transport.sendto(asked)
            return await answer
        finally:
            transport.close()

    def _keep(self, question: tuple[bool, bytes], answer: bytes, now: float) -> None:
        try:
            parsed = DNSRecord.parse(answer)
        except (DNSError, ValueError, IndexError, UnicodeError):
            return
        ttls = [record.ttl for record in [*parsed.rr, *parsed.auth] if record.rtype != QTYPE.OPT]
        if parsed.header.rcode not in (RCODE.NOERROR, RCODE.NXDOMAIN) or not ttls or parsed.header.tc:
            return
        self._cache[question] = (now + min(*ttls, _MAX_TTL), now, answer[2:])
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)


def _aged(answer: bytes, seconds: int) -> bytes:
    """An answer (without its id) whose records live shorter by so many seconds, as a cache has to say (RFC 1035 3.2.1)."""
    made = bytearray(answer)
    asked, records = int.from_bytes(made[2:4], "big"), sum(int.from_bytes(made[at : at + 2], "big") for at in (4, 6, 8))
    at = 10
    for _ in range(asked):
        at = _behind_name(made, at) + 4
    for _ in range(records):
        at = _behind_name(made, at)
        if int.from_bytes(made[at : at + 2], "big") != QTYPE.OPT:
            left = max(int.from_bytes(made[at + 4 : at + 8], "big") - seconds, 0)
            made[at + 4 : at + 8] = left.to_bytes(4, "big")
        at += 10 + int.from_bytes(made[at + 8 : at + 10], "big")
    return bytes(made)


def _behind_name(data: bytearray, at: int) -> int:
    while length := data[at]:
        if length >= 0xC0:
            return at + 2
        at += 1 + length
    return at + 1
