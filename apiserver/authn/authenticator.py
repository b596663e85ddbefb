"""Certificate, token, impersonation: from a request to a user.

Each method either knows the caller, or has no opinion; credentials that no method knows are refused, also where none would be needed. A request without any is
`system:anonymous`, unless that is forbidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from kubeling.api import errors
from kubeling.apiserver.authn import impersonation
from kubeling.apiserver.authn.user import ANONYMOUS, REJECTED, User

if TYPE_CHECKING:
    from kubeling.apiserver.authz.authorizer import Authorizer


class TokenAuthenticator(Protocol):
    """One way to know a bearer token."""

    async def review(self, token: str, audiences: Sequence[str]) -> User | None:
        """The user of a token for one of `audiences` (empty: the server's own), None where it is not of this kind or not valid."""


class StaticTokens:
    """Tokens out of a file."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = users

    async def review(self, token: str, audiences: Sequence[str]) -> User | None:
        return self._users.get(token)


class Authenticator:
    """All methods in turn."""

    def __init__(
        self,
        tokens: Sequence[TokenAuthenticator],
        audiences: Sequence[str] = (),
        *,
        authorizer: Authorizer,
        anonymous: bool = True,
    ) -> None:
        self._tokens = tokens
        self._authorizer = authorizer
        self._anonymous = anonymous
        #: The server's own: what a review that names none is about.
        self.audiences = tuple(audiences)

    async def token(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The user of a bearer token."""
        for each in self._tokens:
            user = await each.review(token, audiences)
            if user is not None:
                return user
        return None

    async def authenticate(self, headers: Sequence[tuple[bytes, bytes]], peer: User | None) -> User:
        """The user. `peer` is what the connection's certificate says. Raises 401 for bad credentials, 403 for impersonation without the right."""
        user = None if peer is REJECTED else peer
        credentials = peer is REJECTED
        impersonating = False
        for name, value in headers:
            if name == b"authorization":
                if user is None:
                    credentials = True
                    scheme, _, token = value.decode("latin-1").partition(" ")
                    user = await self.token(token.strip()) if scheme.lower() == "bearer" and token.strip() else None
            elif name.startswith(b"impersonate-"):
                impersonating = True
        if user is None:
            if credentials or not self._anonymous:
                raise errors.unauthorized()
            user = ANONYMOUS
        return await impersonation.impersonate(headers, user, self._authorizer) if impersonating else user
