"""The keeper's connections: requests in, answers and events out.

SOCK_SEQPACKET; one JSON object a message; a request has ``id`` and ``op``, its answer the same ``id``; what happens without being asked has
``event``. Descriptors travel beside the message. Nothing here waits for anybody: what a client is slow to read is kept for it, up to a limit.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import traceback
from collections.abc import Callable
from typing import Any

from kubeling.crilite.launch import LaunchError

MAX_MESSAGE = 200_000
_QUEUE = 10_000


class Client:
    """A connected daemon; what it is slow to read waits here, and one that never reads is dropped."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.queue: list[tuple[bytes, list[int]]] = []


#: Does what a request asks for, with the descriptors that came with it; the answer, or None where that comes later.
Operation = Callable[[Client, dict[str, Any], list[int]], dict[str, Any] | None]


class Switchboard:
    """`gone` is called with each client that has hung up, or was dropped."""

    def __init__(self, selector: selectors.BaseSelector, ops: dict[str, Operation], gone: Callable[[Client], None]) -> None:
        self.clients: set[Client] = set()
        self._selector = selector
        self._ops = ops
        self._gone = gone

    def accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        client = Client(sock)
        self.clients.add(client)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._serve(client))

    def _serve(self, client: Client) -> None:
        self._flush(client)
        try:
            data, fds, _flags, _address = socket.recv_fds(client.sock, MAX_MESSAGE, 8)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._drop(client)
            return
        request = None
        try:
            request = json.loads(data)
            answer = self._ops[request["op"]](client, request, fds)
        except Exception as error:
            if not isinstance(error, OSError | LookupError | LaunchError):
                traceback.print_exc()
            if request is None:
                self._drop(client)
                return
            answer = {"error": str(error) or repr(error), "kind": type(error).__name__}
        finally:
            for fd in fds:
                os.close(fd)
        if answer is not None:
            self.send(client, {"id": request["id"], **answer})

    def _drop(self, client: Client) -> None:
        if client in self.clients:
            self.clients.discard(client)
            self._selector.unregister(client.sock)
            client.sock.close()
            for _, fds in client.queue:
                for fd in fds:
                    os.close(fd)
            self._gone(client)

    def send(self, client: Client, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """`fds` are closed here once they are sent."""
        client.queue.append((json.dumps(message).encode(), fds or []))
        self._flush(client)

    def _flush(self, client: Client) -> None:
        while client.queue and client in self.clients:
            data, fds = client.queue[0]
            try:
                socket.send_fds(client.sock, [data], fds)
            except BlockingIOError:
                if len(client.queue) > _QUEUE:
                    self._drop(client)
                else:
                    self._hear(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
                return
            except OSError:
                self._drop(client)
                return
            client.queue.pop(0)
            for fd in fds:
                os.close(fd)
        if client in self.clients:
            self._hear(client, selectors.EVENT_READ)

    def _hear(self, client: Client, events: int) -> None:
        self._selector.modify(client.sock, events, lambda: self._serve(client))

    def broadcast(self, message: dict[str, Any]) -> None:
        for client in list(self.clients):
            self.send(client, message)
