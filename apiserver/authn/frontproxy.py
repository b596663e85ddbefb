"""An authenticating proxy in front of the server: it shows a certificate of an authority of its own, and says in headers who asks.

The headers of anybody else mean nothing. A proxy that names nobody is whatever its certificate makes it otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from kubeling.apiserver.authn.user import AUTHENTICATED, UNAUTHENTICATED, User


@dataclass(frozen=True, slots=True)
class FrontProxy:
    """A connection from a proxy. `otherwise` is the user of its certificate, where that is one of a client as well."""

    otherwise: User | None


@dataclass(frozen=True, slots=True)
class Headers:
    """`--requestheader-*`: the names of the headers, in lower case, in the order in which they count."""

    names: tuple[bytes, ...]
    groups: tuple[bytes, ...] = ()
    uids: tuple[bytes, ...] = ()
    extra_prefixes: tuple[bytes, ...] = ()

    def user_of(self, headers: Sequence[tuple[bytes, bytes]]) -> User | None:
        """Who the proxy says it is, None where it names nobody."""
        name = _first(headers, self.names)
        if not name:
            return None
        groups = tuple(value.decode("latin-1") for wanted in self.groups for key, value in headers if key == wanted)
        extra: dict[str, tuple[str, ...]] = {}
        for prefix in self.extra_prefixes:
            for key, value in headers:
                if key.startswith(prefix):
                    field = unquote(key[len(prefix) :].decode("latin-1"))
                    extra[field] = (*extra.get(field, ()), value.decode("latin-1"))
        if AUTHENTICATED not in groups and UNAUTHENTICATED not in groups:
            groups = (*groups, AUTHENTICATED)
        return User(name, groups, _first(headers, self.uids), extra)


def _first(headers: Sequence[tuple[bytes, bytes]], names: Sequence[bytes]) -> str:
    for wanted in names:
        for key, value in headers:
            if key == wanted and value:
                return value.decode("latin-1")
    return ""
