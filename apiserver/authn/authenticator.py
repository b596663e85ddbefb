"""Certificate, front proxy, token, impersonation: from a request to a user.

Each method either knows the caller, or has no opinion; credentials that no method knows are refused, also where none would be needed. A request without any is
`system:anonymous`, unless that is forbidden.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kubeling.api import errors
from kubeling.apiserver.authn import impersonation
from kubeling.apiserver.authn.frontproxy import FrontProxy, Headers
from kubeling.apiserver.authn.user import ANONYMOUS, REJECTED, User

if TYPE_CHECKING:
    from kubeling.apiserver.authz.authorizer import Authorizer

#: How browsers, which cannot set a header on a WebSocket, show a token.
_PROTOCOL = b"base64url.bearer.authorization.k8s.io."
#: No token of any kind is longer.
_MAX_TOKEN = 64 * 1024


class Known(NamedTuple):
    """Whose token it is, and which of the audiences that were asked for it is good for."""

    user: User
    audiences: tuple[str, ...] = ()


class TokenAuthenticator(Protocol):
    """One way to know a bearer token."""

    async def review(self, token: str, audiences: Sequence[str]) -> Known | None:
        """Whose it is, if it is good for one of `audiences`; None where it is not of this kind or not valid."""


class Agnostic(ABC):
    """What tokens that know of no audience have in common: they are for the apiserver itself."""

    def __init__(self, audiences: Sequence[str]) -> None:
        self._audiences = tuple(audiences)

    async def review(self, token: str, audiences: Sequence[str]) -> Known | None:
        """See :class:`TokenAuthenticator`."""
        # Where the server has no audiences of its own, there is nothing to compare.
        common = tuple(each for each in audiences if each in self._audiences) if self._audiences else tuple(audiences)
        if audiences and not common:
            return None
        user = await self.user_of(token)
        return None if user is None else Known(user, common)

    @abstractmethod
    async def user_of(self, token: str) -> User | None:
        """The user of a token."""


class StaticTokens(Agnostic):
    """Tokens out of a file."""

    def __init__(self, users: Mapping[str, User], audiences: Sequence[str] = ()) -> None:
        super().__init__(audiences)
        self._users = users

    async def user_of(self, token: str) -> User | None:
        return self._users.get(token)


class Authenticator:
    """All methods in turn."""

    def __init__(
        self,
        tokens: Iterable[TokenAuthenticator],
        audiences: Sequence[str] = (),
        *,
        authorizer: Authorizer,
        anonymous: bool = True,
        anonymous_paths: Sequence[str] | None = None,
        proxy_headers: Headers | None = None,
    ) -> None:
        self._tokens = tuple(tokens)
        self._authorizer = authorizer
        self._anonymous = anonymous
        #: Where one may be anonymous; None is everywhere.
        self._anonymous_paths = None if anonymous_paths is None else frozenset(anonymous_paths)
        self._proxy_headers = proxy_headers
        #: The server's own: what a token has to be good for, and what a review that names none is about.
        self.audiences = tuple(audiences)

    async def token(self, token: str, audiences: Sequence[str] = ()) -> Known | None:
        """Whose a bearer token is; for one of `audiences`, the server's own where none are given."""
        if len(token) > _MAX_TOKEN:
            return None
        wanted = tuple(audiences) or self.audiences
        for each in self._tokens:
            known = await each.review(token, wanted)
            if known is not None:
                return known
        return None

    async def authenticate(self, headers: list[tuple[bytes, bytes]], peer: User | FrontProxy | None, path: str = "") -> User:
        """The user. `peer` is what the connection's certificate says, `path` that of the request. Raises 401 for bad credentials, 403 for impersonation without the right."""
        if isinstance(peer, FrontProxy):
            assert self._proxy_headers is not None
            user = self._proxy_headers.user_of(headers)
            peer = peer.otherwise
        else:
            user = None
        if user is None and peer is not REJECTED:
            user = peer
        credentials = peer is REJECTED
        impersonating, asked = False, user is not None
        for at, (name, value) in enumerate(headers):
            if name == b"authorization":
                # Of several such headers only the first counts.
                if not asked:
                    credentials = asked = True
                    user = await self._bearer(value)
            elif name.startswith(b"impersonate-"):
                impersonating = True
            elif name == b"sec-websocket-protocol" and _PROTOCOL in value:
                token, rest = _without_token(value)
                # It goes no further than this: the request may be passed on to a node.
                headers[at] = name, rest
                if user is None:
                    credentials = True
                    user = await self._subprotocol(token) if rest else None
        if user is None:
            if credentials or not self._anonymous or (self._anonymous_paths is not None and path not in self._anonymous_paths):
                raise errors.unauthorized()
            user = ANONYMOUS
        return await impersonation.impersonate(headers, user, self._authorizer) if impersonating else user

    async def _subprotocol(self, encoded: bytes) -> User | None:
        try:
            token = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), b"-_", validate=True).decode()
        except ValueError:
            return None
        known = await self.token(token) if token else None
        return None if known is None else known.user

    async def _bearer(self, header: bytes) -> User | None:
        scheme, _, token = header.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return None
        known = await self.token(token.strip())
        return None if known is None else known.user


def _without_token(header: bytes) -> tuple[bytes, bytes]:
    """The token (still encoded) among the protocols of a WebSocket, empty unless there is exactly one; and the protocols that can be spoken."""
    protocols = [each.strip() for each in header.split(b",")]
    tokens = [each[len(_PROTOCOL) :] for each in protocols if each.startswith(_PROTOCOL)]
    rest = b", ".join(each for each in protocols if each and not each.startswith(_PROTOCOL))
    return (tokens[0] if len(tokens) == 1 else b""), rest
