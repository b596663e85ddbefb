"""Constant traffic (a script by itself, of the standard library only): `client.py JOBS SECONDS`, JOBS being a JSON list of {name, kind, host, port}.

Each job is a client of its own that asks, looks at the answer, and asks again a moment later. Written are JSON lines: what was lost, which pod answers now
where a client should stay with one, and at the end how many requests there were. Times are seconds of the machine's monotonic clock, which is the same in
every namespace.

Lost is what a careful user would call so. A request over a new connection: no answer within the patience. One over a kept connection: the same, unless
the server had said before that this connection ends. A line of a long connection: not echoed, or not in order. A datagram: not answered within three seconds
(alone that may be; a flow that is silent for longer is what is counted). A look-up: not answered by the third question, or answered by "no such name".
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

PATIENCE = 10.0
PAUSE = 0.1
#: As resolvers do: three questions before giving up.
LOOKUP_SECONDS, LOOKUPS = 2.0, 3
#: Longer than a busy machine pauses.
DATAGRAM_SECONDS = 3.0


class Lost(Exception):
    pass


class Job:
    """One client. `host` is an address, or a name to be looked up at `dns` before each connection."""

    def __init__(self, name: str, kind: str, host: str, port: int, dns: str = "") -> None:
        self.name, self.kind, self.host, self.port, self.dns = name, kind, host, port, dns
        self.done: Counter[str] = Counter()
        self.slowest = 0.0
        self.pod = ""
        #: When the last request was begun, and whether over a connection that was there already.
        self.asked, self.established = 0.0, False

    def say(self, event: str, **values: Any) -> None:
        print(json.dumps({"job": self.name, "kind": self.kind, "event": event, **values}), flush=True)

    def lost(self, began: float, error: object) -> None:
        self.done["lost"] += 1
        words = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self.say("lost", began=began, ended=time.monotonic(), established=self.established, error=words, pod=self.pod)

    def served(self, began: float, pod: str = "") -> None:
        self.done["served"] += 1
        self.slowest = max(self.slowest, time.monotonic() - began)
        if pod and pod != self.pod:
            if self.kind in ("sticky", "udp"):
                self.say("moved", at=time.monotonic(), before=self.pod, after=pod)
            self.pod = pod

    async def run(self, until: float) -> None:
        work: Callable[[], Coroutine[Any, Any, None]] = getattr(self, self.kind)
        while time.monotonic() < until:
            began = self.asked = time.monotonic()
            self.established = False
            try:
                async with asyncio.timeout(max(until - began, 0.01) if self.kind in ("kept", "echo", "udp") else PATIENCE):
                    await work()
            except TimeoutError:
                if time.monotonic() < until:
                    self.lost(began, "no answer in time")
            except (OSError, Lost, EOFError) as error:
                self.lost(self.asked, error)
                await asyncio.sleep(PAUSE * 5)
        self.say("total", served=self.done["served"], lost=self.done["lost"], slowest=self.slowest)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        host = await lookup(self.dns, self.host) if self.dns else self.host
        sock = socket.socket(family_of(host), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # Before the whole request's patience ends, so that it is said what it was that did not come, and from which port.
            async with asyncio.timeout(PATIENCE - 1):
                await asyncio.get_running_loop().sock_connect(sock, (host, self.port))
        except (TimeoutError, OSError) as error:
            port = sock.getsockname()[1]
            sock.close()
            raise Lost(f"no connection to {host}:{self.port} from port {port}: {type(error).__name__} {error}") from None
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        began = self.asked = time.monotonic()
        writer.write(b"GET / HTTP/1.1\r\nHost: churn\r\n\r\n")
        try:
            async with asyncio.timeout(PATIENCE):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                body = await reader.readexactly(int(head.lower().split("content-length:")[1].split()[0]))
        except TimeoutError:
            raise Lost("no answer on an open connection") from None
        if " 200 " not in head.splitlines()[0]:
            raise Lost(head.splitlines()[0])
        self.served(began, body.decode())
        self.established = True
        return "connection: close" not in head.lower()

    async def new(self) -> None:
        async with self.connection() as (reader, writer):
            await self.request(reader, writer)
        await asyncio.sleep(PAUSE)

    sticky = new

    async def kept(self) -> None:
        async with self.connection() as (reader, writer):
            while await self.request(reader, writer):  # noqa: ASYNC110 (a pause between requests, which waits for nothing)
                await asyncio.sleep(PAUSE)

    async def echo(self) -> None:
        async with self.connection() as (reader, writer):
            async with asyncio.timeout(PATIENCE):
                hello = await reader.readline()
            if not hello.startswith(b"hello "):
                raise Lost(f"greeted with {hello!r}")
            self.pod = hello.split()[1].decode()
            number, going = 0, True
            while going:
                began, number, self.established = time.monotonic(), number + 1, True
                self.asked = began
                writer.write(b"%d\n" % number)
                while True:
                    try:
                        async with asyncio.timeout(PATIENCE):
                            line = await reader.readline()
                    except TimeoutError:
                        raise Lost("no echo") from None
                    if line == b"bye\n":
                        going = False
                        continue
                    if line != b"%d\n" % number:
                        raise Lost(f"{line!r} instead of {number}")
                    break
                self.served(began)
                await asyncio.sleep(PAUSE)

    async def udp(self) -> None:
        """One socket for the whole time: one flow in the kernel's table."""
        loop = asyncio.get_running_loop()
        with socket.socket(family_of(self.host), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect((self.host, self.port))
            number = 0
            while True:
                number, began = number + 1, time.monotonic()
                try:
                    async with asyncio.timeout(DATAGRAM_SECONDS):
                        await loop.sock_sendall(sock, b"%d" % number)
                        while True:
                            answer = (await loop.sock_recv(sock, 512)).decode().split()
                            if answer and answer[0] == str(number):
                                break
                except (TimeoutError, OSError) as error:
                    self.lost(began, error)
                    await asyncio.sleep(0.1)
                else:
                    self.served(began, answer[1])
                    await asyncio.sleep(PAUSE)

    async def names(self) -> None:
        began = time.monotonic()
        await lookup(self.dns, self.host)
        self.served(began)
        await asyncio.sleep(PAUSE)


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


async def lookup(server: str, name: str) -> str:
    """An address of the name, of the server's own family: a new socket for each question."""
    problem = "no answer"
    for _ in range(LOOKUPS):
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return await _ask(server, name)
        except TimeoutError:
            problem = "no answer"
        except OSError as error:
            problem = str(error)
            await asyncio.sleep(0.5)
    raise Lost(f"look-up of {name}: {problem}")


async def _ask(server: str, name: str) -> str:
    loop, asked = asyncio.get_running_loop(), os.urandom(2)
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split("."))
    family = family_of(server)
    kind, size = (28, 16) if family == socket.AF_INET6 else (1, 4)
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect((server, 53))
        question = struct.pack("!HHHHH", 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)
        await loop.sock_sendall(sock, asked + question)
        while (answer := await loop.sock_recv(sock, 4096))[:2] != asked:
            pass
    code, count = answer[3] & 15, int.from_bytes(answer[6:8], "big")
    if code == 2:
        raise OSError("SERVFAIL")
    if code or not count:
        # The worst of all: it would be believed.
        raise Lost(f"{name}: code {code}, {count} records")
    # The records are addresses: the last bytes of the first one, behind a name of two bytes or of the question's length.
    at = 12 + len(labels) + 1 + 4
    at += 2 if answer[at] & 0xC0 else len(labels) + 1
    return socket.inet_ntop(family, answer[at + 10 : at + 10 + size])


async def main(jobs: list[dict[str, Any]], seconds: float) -> None:
    until = time.monotonic() + seconds
    await asyncio.gather(*(Job(**each).run(until) for each in jobs))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), float(sys.argv[2])))
