"""Who is asking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"
NODES = "system:nodes"


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    #: Who really asks, where this is somebody that they impersonate.
    impersonator: User | None = field(default=None, compare=False)

    def info(self) -> dict[str, object]:
        """The UserInfo of authentication.k8s.io."""
        found: dict[str, object] = {"username": self.name}
        if self.uid:
            found["uid"] = self.uid
        if self.groups:
            found["groups"] = list(self.groups)
        if self.extra:
            found["extra"] = {key: list(values) for key, values in self.extra.items()}
        return found


#: Who shows no credentials.
ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))
#: Stands for credentials that are there and not to be believed.
REJECTED = User("")


def authenticated(name: str, groups: tuple[str, ...], uid: str = "", extra: Mapping[str, tuple[str, ...]] | None = None) -> User:
    """A user with the group that all authenticated users are in."""
    return User(name, groups if AUTHENTICATED in groups else (*groups, AUTHENTICATED), uid, dict(extra or {}))
