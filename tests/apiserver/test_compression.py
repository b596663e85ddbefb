"""When an answer is packed or indented, and that it is the same all the same."""

from __future__ import annotations

import gzip

import pytest

from kubeling.apiserver import compression, pretty
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


async def answered(
    body: bytes, client: str, encoding: str = "gzip", agent: str = "", query: str = "", pieces: int = 0
) -> tuple[dict[str, str], bytes]:
    sent = []

    async def send(message):  # type: ignore[no-untyped-def]
        sent.append(message)

    async def receive():  # type: ignore[no-untyped-def]
        raise AssertionError

    headers = [(b"accept-encoding", encoding.encode()), (b"user-agent", agent.encode())]
    scope = {"method": "GET", "query_string": query.encode(), "headers": headers, "state": {"connection": Line()}}
    scope |= {"client": (client, 1), "server": ("172.30.0.11", 6443)}
    request = Request(scope, receive, send, PathInfo("/"), ANONYMOUS, SystemClock())
    if pieces:
        await request.respond_pieces([body[at : at + pieces] for at in range(0, len(body), pieces)])
    else:
        await request.respond(body)
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


@pytest.mark.parametrize(
    ("agent", "query", "indented"),
    [
        ("kubectl/v1.33.1", "", False),
        ("kubectl/v1.33.1", "pretty=true", True),
        ("kubectl/v1.33.1", "pretty=1", True),
        ("kubectl/v1.33.1", "pretty=yes", False),
        ("curl/8.5.0", "", True),
        ("curl/8.5.0", "pretty=0", False),
        ("Mozilla/5.0 (X11; Linux)", "", True),
        ("Wget/1.21", "", True),
        ("python-curl", "", False),
    ],
)
@pytest.mark.parametrize("pieces", [0, 7])
async def test_people_get_indented_json(agent: str, query: str, indented: bool, pieces: int) -> None:
    headers, body = await answered(b'{"a":[{"b":1.0}],"c":{}}', "127.0.0.1", agent=agent, query=query, pieces=pieces)
    wanted = b'{\n  "a": [\n    {\n      "b": 1.0\n    }\n  ],\n  "c": {}\n}' if indented else b'{"a":[{"b":1.0}],"c":{}}'
    assert body == wanted
    assert headers["cache-control"] == "no-cache, private"


async def test_what_nobody_will_read_is_not_indented() -> None:
    long = b'["%b"]' % (b"x" * pretty.LONGEST)
    for pieces in (0, 64 * 1024):
        assert (await answered(long, "127.0.0.1", agent="curl/8", pieces=pieces))[1] == long
