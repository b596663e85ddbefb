"""An HTTP/1.1 client over TLS that costs next to nothing: ready-made bytes out, a status line and a length in.

An HTTP library makes some thousand requests a second and takes as much CPU for each as the server that is to be measured. Here a request is one send, an answer is
a few receives in which only the head is looked at: some 30 µs, nearly all of it in OpenSSL. One request at a time on each connection, as the pools of real clients have it.
"""

from __future__ import annotations

import select
import socket
import ssl
from urllib.parse import urlsplit

_PIECE = 1 << 18


class Failed(Exception):
    """The server broke the connection, or refused what it should not."""


def tls_context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    """As a client with a certificate has it."""
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    context.load_cert_chain(cert, key)
    return context


def request(method: str, path: str, body: bytes = b"", kind: str = "application/json", accept: str = "application/json") -> bytes:
    """A request in one piece."""
    head = f"{method} {path} HTTP/1.1\r\nhost: bench\r\nuser-agent: bench/1\r\naccept: {accept}\r\n"
    if body:
        head += f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Connection:
    """One connection. :meth:`receive` after the selector says that it is readable."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        where = urlsplit(url)
        plain = socket.create_connection((where.hostname or "", where.port or 0), timeout=20)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain)
        self._socket.setblocking(False)
        self._left = -1
        self._tail = b""
        self._head = b""
        self.status = 0
        self.bytes = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Send a request whole. It is small: where the socket's buffer is full all the same, wait."""
        try:
            sent = self._socket.send(data)
        except ssl.SSLWantWriteError:
            sent = 0
        if sent < len(data):
            self._socket.setblocking(True)
            self._socket.sendall(data[sent:])
            self._socket.setblocking(False)

    def pieces(self) -> list[bytes]:
        """What has come. Raises Failed at the end of the connection."""
        found = []
        while True:
            try:
                piece = self._socket.recv(_PIECE)
            except ssl.SSLWantReadError:
                return found
            except OSError as error:
                raise Failed(str(error)) from error
            if not piece:
                if found:
                    return found
                raise Failed("the server closed the connection")
            found.append(piece)

    def receive(self) -> bool:
        """Take what has come; whether the answer is complete (:attr:`status`, :attr:`bytes`)."""
        for piece in self.pieces():
            if self._left == -1:
                self._head += piece
                head, found, rest = self._head.partition(b"\r\n\r\n")
                if not found:
                    continue
                self.status = int(head[9:12])
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                # Without a length it comes in chunks, of which only the last is looked for.
                self._left = int(length) if length else -2
                self._head, piece, self.bytes, self._tail = b"", rest, 0, b""
            self.bytes += len(piece)
            if self._left >= 0:
                self._left -= len(piece)
            else:
                self._tail = (self._tail + piece)[-7:]
        if self._left == 0 or (self._left == -2 and self._tail.endswith(b"\r\n0\r\n\r\n")):
            self._left = -1
            return True
        return False

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def exchange(url: str, context: ssl.SSLContext, *requests: bytes) -> list[int]:
    """One after the other on a connection of their own; the statuses."""
    connection = Connection(url, context)
    statuses = []
    try:
        for each in requests:
            connection.send(each)
            while not (_wait(connection) and connection.receive()):
                pass
            statuses.append(connection.status)
    finally:
        connection.close()
    return statuses


def fetch(url: str, context: ssl.SSLContext, what: bytes) -> bytes:
    """The body of an answer that has a length. Raises Failed for a refusal."""
    connection = Connection(url, context)
    text = b""
    try:
        connection.send(what)
        while True:
            head, _, body = text.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if length and len(body) >= int(length):
                break
            _wait(connection)
            text += b"".join(connection.pieces())
    finally:
        connection.close()
    if not head.startswith(b"HTTP/1.1 200"):
        raise Failed(f"{head[:100]!r}: {body[:200]!r}")
    return body


def _wait(connection: Connection, seconds: float = 60) -> bool:
    """Until there is something to read."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if not poll.poll(seconds * 1000):
        raise Failed(f"no answer in {seconds} s")
    return True
