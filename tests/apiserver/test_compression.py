"""When an answer is packed, and that it is the same when it is unpacked."""

from __future__ import annotations

import gzip

import pytest

from kubeling.apiserver import compression
from kubeling.apiserver.authn.user import ANONYMOUS
from kubeling.apiserver.info import PathInfo
from kubeling.apiserver.request import Request
from kubeling.daemon.clock import SystemClock

LONG = b"0123456789abcdef" * 32 * 1024


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("GZIP", True),
        ("gzip;q=0", False),
        ("identity", False),
        ("", False),
        ("br;q=1", False),
    ],
)
def test_what_clients_accept(header: str, taken: bool) -> None:
    assert compression.accepts(header) is taken


class Line:
    closed = False

    def reply(self, *_: object) -> bool:
        """Through ASGI, please."""
        return False


async def answered(body: bytes, client: str, encoding: str = "gzip") -> tuple[dict[str, str], bytes]:
    sent = []

    async def send(message):  # type: ignore[no-untyped-def]
        sent.append(message)

    async def receive():  # type: ignore[no-untyped-def]
        raise AssertionError

    headers = [(b"accept-encoding", encoding.encode())]
    scope = {"method": "GET", "query_string": b"", "headers": headers, "state": {"connection": Line()}}
    scope |= {"client": (client, 1), "server": ("172.30.0.11", 6443)}
    await Request(scope, receive, send, PathInfo("/"), ANONYMOUS, SystemClock()).respond(body)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return found, b"".join(each["body"] for each in sent[1:])


async def test_a_long_answer_to_a_client_elsewhere_is_packed() -> None:
    headers, body = await answered(LONG, "172.30.0.21")
    assert headers["content-encoding"] == "gzip"
    assert "content-length" not in headers
    assert gzip.decompress(body) == LONG
    assert len(body) < len(LONG) // 10


@pytest.mark.parametrize(
    ("body", "client", "encoding"),
    [(LONG, "127.0.0.1", "gzip"), (LONG, "172.30.0.11", "gzip"), (LONG, "172.30.0.21", ""), (b"short", "172.30.0.21", "gzip")],
)
async def test_others_are_not(body: bytes, client: str, encoding: str) -> None:
    headers, sent = await answered(body, client, encoding)
    assert "content-encoding" not in headers
    assert headers["content-length"] == str(len(body))
    assert sent == body
