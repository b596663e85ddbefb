"""Watches that threads read, and a client that ends them before it goes.

A thread that waits for a connection which another thread closes does not notice: it goes on waiting, and then reads from whatever has been given the number of the
closed descriptor. The TLS connection that it steals from cannot decrypt the next record.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any

import httpx

#: So long is waited for events.
_SECONDS = 15.0


class Client(httpx.Client):
    """Ends the streams that were begun with it when it is closed."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.streams: list[Stream] = []

    def close(self) -> None:
        for each in self.streams:
            each.close()
        super().close()

    def __exit__(self, *args: Any) -> None:
        for each in self.streams:
            each.close()
        super().__exit__(*args)


class Stream:
    """The events of a watch, read by a thread until it ends. TimeoutError where what is waited for does not come."""

    def __init__(self, client: Client, path: str, **query: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.status = 0
        self.ended = threading.Event()
        self._request = (client, path, {"watch": "true", **query})
        self._connection: Any = None
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        client.streams.append(self)
        self._thread.start()
        with self._news:
            self._await(lambda: bool(self.status), "the watch has not begun")

    def _read(self) -> None:
        client, path, query = self._request
        with contextlib.suppress(httpx.HTTPError), client.stream("GET", path, params=query, timeout=30) as answer:
            with self._news:
                self._connection = answer.extensions["network_stream"].get_extra_info("socket")
                self.status = answer.status_code
                self._news.notify_all()
            for line in answer.iter_lines():
                with self._news:
                    self.events.append(json.loads(line))
                    self._news.notify_all()
        self.ended.set()

    def seen(self) -> list[tuple[str, str]]:
        return [(each["type"], each["object"]["metadata"].get("name", "")) for each in self.events]

    def wait(self, count: int) -> list[tuple[str, str]]:
        """The events so far, once there are that many."""
        with self._news:
            self._await(lambda: len(self.events) >= count, f"there are no {count} events")
            return self.seen()

    def _await(self, check: Any, complaint: str) -> None:
        if not self._news.wait_for(check, _SECONDS):
            raise TimeoutError(f"{complaint}: {self.seen()}")

    def close(self) -> None:
        """End it and wait for its thread."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                # Not the method of the TLS socket, which would take its state away from the thread.
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)
        self._thread.join(_SECONDS)
