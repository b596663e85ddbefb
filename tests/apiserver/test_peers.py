"""What a connection's certificate says, and for how long; what a proxy's headers say."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kubeling.apiserver.authn.frontproxy import FrontProxy, Headers
from kubeling.apiserver.authn.user import REJECTED, User
from kubeling.apiserver.authn.x509 import ClientCertificates, Peers
from kubeling.daemon.clock import VirtualClock
from tests.apiserver.harness import Authority

pytestmark = pytest.mark.asyncio


class Certificates:
    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(datetime.now(UTC))
        self.clients = Authority(folder, "clients")
        self.proxies = Authority(folder, "proxies")
        first = ClientCertificates(str(self.clients.path), self.clock)
        second = ClientCertificates(str(self.proxies.path), self.clock)
        self.peers = Peers(first, second, ["front"], self.clock)

    def shows(self, authority: Authority, name: str, days: float = 5) -> User | FrontProxy | None:
        return self.peer(authority, name, days)

    def peer(self, authority: Authority, name: str, days: float) -> User | FrontProxy | None:
        self.last = self.peers.peer_of([der(authority, name, days)])
        assert self.last is not None
        return self.last.user


def der(authority: Authority, name: str, days: float = 5) -> bytes:
    return ssl.PEM_cert_to_DER_cert(Path(authority.issue(name, "g", file=name, days=days)[0]).read_text())


@pytest.fixture
async def shown(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


async def test_a_client_is_believed_until_its_certificate_ends(shown: Certificates) -> None:
    user = shown.shows(shown.clients, "ann", days=1)
    assert isinstance(user, User)
    assert (user.name, user.groups) == ("ann", ("g", "system:authenticated"))
    await shown.clock.advance(timedelta(hours=23).total_seconds())
    assert shown.last is not None
    assert shown.last.user is user
    await shown.clock.advance(timedelta(hours=2).total_seconds())
    assert shown.last.user is REJECTED
    assert shown.shows(shown.clients, "eve", days=-1) is REJECTED


async def test_the_next_connections_of_a_client_are_not_looked_at_again(shown: Certificates) -> None:
    chain = [der(shown.clients, "ann", days=1)]
    first = shown.peers.peer_of(chain)
    looked_at = shown.peers._user_of
    shown.peers._user_of = lambda chain: pytest.fail("verified again")  # type: ignore[method-assign]
    second = shown.peers.peer_of(list(chain))
    assert first is not None
    assert second is not None
    assert second.user is first.user
    await shown.clock.advance(timedelta(days=2).total_seconds())
    assert second.user is REJECTED
    shown.peers._user_of = looked_at  # type: ignore[method-assign]
    assert shown.peers.peer_of(chain).user is REJECTED  # type: ignore[union-attr]


async def test_a_proxy_has_the_right_authority_and_name(shown: Certificates) -> None:
    assert shown.shows(shown.proxies, "front") == FrontProxy(REJECTED)
    assert shown.shows(shown.proxies, "rear") is REJECTED
    assert isinstance(shown.shows(shown.clients, "front"), User)
    assert shown.peers.peer_of([]) is None
    assert shown.peers.peer_of([b"rubbish"]).user is REJECTED  # type: ignore[union-attr]


async def test_headers_of_a_proxy() -> None:
    headers = Headers((b"x-user", b"x-remote-user"), (b"x-group",), (b"x-uid",), (b"x-extra-",))
    assert headers.user_of([(b"x-group", b"g")]) is None
    found = headers.user_of(
        [(b"x-remote-user", b"second"), (b"x-user", b""), (b"x-user", b"first"), (b"x-uid", b"7"), (b"x-extra-a%2fb", b"c")]
    )
    assert found == User("first", ("system:authenticated",), "7", {"a/b": ("c",)})
