"""GET of a small document from a server behind this one, as the aggregator itself."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import orjson

from kubeling.apiserver.authn.user import MASTERS, User
from kubeling.apiserver.outbound import CallFailed
from kubeling.apiserver.reverse import Backend, DialFailed, dial

AGGREGATOR = User("system:kube-aggregator", (MASTERS,))
_MAX = 16 * 1024 * 1024
_READ = 64 * 1024


async def fetch(backend: Backend, path: str, headers: list[tuple[bytes, bytes]], seconds: float) -> tuple[int, bytes]:
    """Status and body. Raises CallFailed."""
    try:
        async with asyncio.timeout(seconds):
            return await _fetch(backend, path, headers)
    except TimeoutError:
        raise CallFailed("context deadline exceeded") from None
    except DialFailed as error:
        raise CallFailed(str(error)) from None
    except (OSError, h11.ProtocolError) as error:
        raise CallFailed(str(error) or "EOF") from error


async def fetch_json(backend: Backend, path: str, headers: list[tuple[bytes, bytes]], seconds: float) -> dict[str, Any]:
    """An object. Raises CallFailed."""
    status, body = await fetch(backend, path, headers, seconds)
    if not 200 <= status < 300:
        raise CallFailed(f"bad status from {path}: {status}")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise CallFailed(f"the answer of {path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise CallFailed(f"the answer of {path} is not an object")
    return found


async def _fetch(backend: Backend, path: str, headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    reader, writer = await dial(backend, 5.0)
    try:
        http = h11.Connection(h11.CLIENT)
        all_headers = [
            (b"host", (backend.server_name or "").encode()),
            (b"connection", b"close"),
            (b"accept", b"application/json"),
        ]
        writer.write(http.send(h11.Request(method="GET", target=path, headers=[*all_headers, *headers])) or b"")
        writer.write(http.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        status, chunks, size = 0, [], 0
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(_READ))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > _MAX:
                    raise CallFailed(f"the answer is larger than {_MAX} bytes")
                chunks.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return status, b"".join(chunks)
    finally:
        writer.close()
