"""Asks places who is there (a script by itself, of the standard library only): `probe.py PROBES`, PROBES being a JSON list of [protocol, host, port, patience in seconds].

Written is a JSON list of the names that answered, "" where nobody did. Hosts are names too, looked up as programs do, by the system's resolver.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys

#: A datagram is sent again, since the first one of a flow may be lost.
DATAGRAMS = 3


async def http(host: str, port: int) -> str:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        return (await reader.readexactly(int(head.split("Content-Length:")[1].split()[0]))).decode()
    finally:
        writer.close()


async def echo(host: str, port: int) -> str:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return (await reader.readline()).decode().split()[1]
    finally:
        writer.close()


async def udp(host: str, port: int, patience: float) -> str:
    loop = asyncio.get_running_loop()
    (family, *_, address), *_ = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        await loop.sock_connect(sock, address)
        for _ in range(DATAGRAMS):
            await loop.sock_sendall(sock, b"?")
            try:
                async with asyncio.timeout(patience / DATAGRAMS):
                    return (await loop.sock_recv(sock, 512)).decode().split()[1]
            except TimeoutError:
                continue
    return ""


async def ask(kind: str, host: str, port: int, patience: float) -> str:
    work = udp(host, port, patience) if kind == "udp" else (http if kind == "http" else echo)(host, port)
    try:
        async with asyncio.timeout(patience):
            return await work
    except (OSError, TimeoutError, EOFError, LookupError):
        return ""


async def main() -> None:
    print(json.dumps(await asyncio.gather(*(ask(*each) for each in json.loads(sys.argv[1])))))


if __name__ == "__main__":
    asyncio.run(main())
