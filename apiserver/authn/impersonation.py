"""Impersonation: a request made in somebody else's name, by who has the verb `impersonate` on every part of that identity.

The parts are the user (or service account), the groups, the uid, and each value of the extra fields; each is authorised as a resource of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote

from kubeling.api import errors
from kubeling.apiserver.authn.user import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User

if TYPE_CHECKING:
    from kubeling.apiserver.authz.authorizer import Attributes, Authorizer

_EXTRA = b"impersonate-extra-"
_ACCOUNT = "system:serviceaccount:"
_AUTHENTICATION = "authentication.k8s.io"
#: More parts than any client needs; each costs a question to the authorizers.
_MAX_PARTS = 256


async def impersonate(headers: Sequence[tuple[bytes, bytes]], user: User, authorizer: Authorizer) -> User:
    """The user that the headers name. Raises 403 where `user` may not be that one, 400 where the headers name nobody."""
    wanted = _parse(headers)
    from kubeling.apiserver.authz.authorizer import refusal

    for attributes in _questions(user, wanted):
        decision = await authorizer.authorize(attributes)
        if not decision.allowed:
            raise refusal(attributes, decision)
    groups = wanted.groups
    account = _account(wanted.name)
    if account is not None and not groups:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{account[0]}")
    if wanted.name == ANONYMOUS.name:
        if UNAUTHENTICATED not in groups and AUTHENTICATED not in groups:
            groups = (*groups, UNAUTHENTICATED)
    elif AUTHENTICATED not in groups and UNAUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return User(wanted.name, groups, wanted.uid, wanted.extra, user)


def _parse(headers: Sequence[tuple[bytes, bytes]]) -> User:
    name, uid = "", ""
    groups: list[str] = []
    extra: dict[str, tuple[str, ...]] = {}
    parts = 0
    for key, raw in headers:
        if not key.startswith(b"impersonate-"):
            continue
        parts += 1
        value = raw.decode("latin-1")
        if key == b"impersonate-user":
            # As in Go, the first of several headers counts.
            name = name or value
        elif key == b"impersonate-group":
            groups.append(value)
        elif key == b"impersonate-uid":
            uid = uid or value
        elif key.startswith(_EXTRA):
            field = unquote(key[len(_EXTRA) :].decode("latin-1").lower())
            extra[field] = (*extra.get(field, ()), value)
    if parts > _MAX_PARTS:
        raise errors.bad_request(f"more than {_MAX_PARTS} impersonation headers")
    if not name:
        given = [*(["groups"] if groups else ()), *(["extra"] if extra else ()), *(["uid"] if uid else ())]
        raise errors.internal(f"requested {given or ['nobody']} without impersonating a user")
    return User(name, tuple(groups), uid, extra)


def _account(name: str) -> tuple[str, str] | None:
    """Namespace and name of a service account."""
    if not name.startswith(_ACCOUNT):
        return None
    namespace, _, account = name[len(_ACCOUNT) :].partition(":")
    return (namespace, account) if namespace and account and ":" not in account else None


def _questions(user: User, wanted: User) -> list[Attributes]:
    from kubeling.apiserver.authz.authorizer import Attributes

    account = _account(wanted.name)
    if account is not None:
        found = [Attributes(user, "impersonate", "", "serviceaccounts", "", *account, version="v1")]
    else:
        found = [Attributes(user, "impersonate", "", "users", name=wanted.name, version="v1")]
    found += [Attributes(user, "impersonate", "", "groups", name=each, version="v1") for each in wanted.groups]
    for key, values in wanted.extra.items():
        found += [Attributes(user, "impersonate", _AUTHENTICATION, "userextras", key, name=each, version="v1") for each in values]
    if wanted.uid:
        found.append(Attributes(user, "impersonate", _AUTHENTICATION, "uids", name=wanted.uid, version="v1"))
    return found
