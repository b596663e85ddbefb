"""Ordinary HTTP requests on the client port: what is asked and what is answered, whichever version of HTTP carries it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

from kubeling.etcdlite.transport.shared import Peer


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its whole body. `path` has no query; header names are in lower case."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    peer: Peer

    def header(self, name: str) -> str:
        """The first value of a header; empty where there is none."""
        return next((value for key, value in self.headers if key == name), "")


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is the whole of it, or makes it piece by piece, as fast as the client takes it."""

    status: int
    body: bytes | AsyncGenerator[bytes, None]
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def fields(self) -> list[tuple[str, str]]:
        """All header fields."""
        length = [("content-length", str(len(self.body)))] if isinstance(self.body, bytes) else []
        return [("content-type", self.content_type), *length, *self.headers]


Site = Callable[[Request], Awaitable[Answer]]
