"""Certificate, token, impersonation: from a request to a user.

Each method either knows the caller, or has no opinion; a bearer token that no method knows is refused, also where no credentials would be needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kubeling.api import errors
from kubeling.apiserver.authn.user import MASTERS, User, authenticated


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

    def __init__(self, tokens: Sequence[TokenAuthenticator], audiences: Sequence[str] = ()) -> None:
        self._tokens = tokens
        #: The server's own: what a review that names none is about.
        self.audiences = tuple(audiences)

    async def token(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The user of a bearer token."""
        for each in self._tokens:
            user = await each.review(token, audiences)
            if user is not None:
                return user
        return None

    async def authenticate(self, headers: Sequence[tuple[bytes, bytes]], peer: User | None) -> User | None:
        """The user, None for a request without credentials. Raises 401 for bad ones, 403 for impersonation without the right."""
        user = peer
        impersonating = False
        for name, value in headers:
            if name == b"authorization" and peer is None:
                scheme, _, token = value.decode("latin-1").partition(" ")
                user = await self.token(token.strip()) if scheme.lower() == "bearer" else None
                if user is None:
                    raise errors.unauthorized()
            elif name.startswith(b"impersonate-"):
                impersonating = True
        return _impersonate(headers, user) if impersonating else user


def _impersonate(headers: Sequence[tuple[bytes, bytes]], user: User | None) -> User:
    if user is None:
        raise errors.unauthorized()
    name, uid = "", ""
    groups: list[str] = []
    extra: dict[str, tuple[str, ...]] = {}
    for key, raw in headers:
        value = raw.decode("latin-1")
        if key == b"impersonate-user":
            name = value
        elif key == b"impersonate-group":
            groups.append(value)
        elif key == b"impersonate-uid":
            uid = value
        elif key.startswith(b"impersonate-extra-"):
            field = key[len(b"impersonate-extra-") :].decode("latin-1")
            extra[field] = (*extra.get(field, ()), value)
    if not name:
        raise errors.bad_request("requested impersonation without a user: set Impersonate-User")
    if not user.is_in(MASTERS):
        raise errors.forbidden(
            "", "users", name, f'User "{user.name}" cannot impersonate resource "users" in API group "" at the cluster scope'
        )
    if name.startswith("system:serviceaccount:") and not groups:
        namespace = name.split(":")[2]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    return authenticated(name, tuple(groups), uid, extra)
