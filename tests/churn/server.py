"""What the pods of the churn suite run (a script by itself, of the standard library only): HTTP, an echo of lines over TCP, and one of datagrams over UDP.

Every answer names the pod. Stopped, it does what the documentation of Kubernetes asks of a server: it goes on answering, tells kept connections to go
elsewhere (`Connection: close`; the line `bye`), and ends when nobody is connected any more.
"""

from __future__ import annotations

import asyncio
import signal
import socket

HTTP, ECHO, UDP = 8080, 9000, 9001
NAME = socket.gethostname()
#: After the last connection it stays for so long, since another may be on its way.
QUIET_SECONDS = 0.5


class Server:
    def __init__(self) -> None:
        self.ending = asyncio.Event()
        self.connections: set[asyncio.StreamWriter] = set()
        self.echoes: set[asyncio.StreamWriter] = set()

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                # The kubelet's probe of readiness and the clients' requests are answered alike, to the end.
                last = self.ending.is_set()
                body = NAME.encode()
                close = b"Connection: close\r\n" if last else b""
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), close, body))
                await writer.drain()
                if last:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        self.echoes.add(writer)
        try:
            writer.write(f"hello {NAME}\n".encode())
            if self.ending.is_set():
                writer.write(b"bye\n")
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        except OSError:
            pass
        finally:
            self.connections.discard(writer)
            self.echoes.discard(writer)
            writer.close()

    async def end(self) -> None:
        await self.ending.wait()
        for writer in list(self.echoes):
            writer.write(b"bye\n")
        while True:
            await asyncio.sleep(QUIET_SECONDS)
            if not self.connections:
                return


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.transport.sendto(data + b" " + NAME.encode(), addr)  # type: ignore[arg-type]


def bound(family: socket.AddressFamily, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    return sock


async def main() -> None:
    server, loop = Server(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.ending.set)
    for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            await loop.create_datagram_endpoint(Datagrams, sock=bound(family, socket.SOCK_DGRAM, everywhere, UDP))
        except OSError:
            continue  # A kernel without IPv6.
        await asyncio.start_server(server.http, sock=bound(family, socket.SOCK_STREAM, everywhere, HTTP), backlog=1024)
        await asyncio.start_server(server.echo, sock=bound(family, socket.SOCK_STREAM, everywhere, ECHO), backlog=1024)
    await server.end()


if __name__ == "__main__":
    asyncio.run(main())
