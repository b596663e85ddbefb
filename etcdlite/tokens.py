"""Simple tokens: what a client shows instead of its password. Each member knows them by their digests, from the log.

A token lives as long as it is used at this member at least once in `ttl` seconds; members may differ in that, so nothing that is replicated hangs on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

DEFAULT_TTL = 300.0
#: The one that was used longest ago goes where there would be more.
MAX_TOKENS = 100_000


def digest(token: str) -> str:
    """What is kept of a token, so that neither log nor snapshot lets anybody in."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


class Tokens:
    """All tokens that are valid here. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float], ttl: float = DEFAULT_TTL) -> None:
        self.ttl = ttl
        self._clock = clock
        #: Digest to user and deadline, in the order of the deadlines.
        self._known: dict[str, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def add(self, key: str, user: str) -> None:
        """A token with the digest `key` was given to `user`."""
        now = self._clock()
        while self._known:
            oldest = next(iter(self._known))
            if self._known[oldest][1] > now and len(self._known) < MAX_TOKENS:
                break
            del self._known[oldest]
        self._known.pop(key, None)
        self._known[key] = (user, now + self.ttl)

    def use(self, token: str) -> str | None:
        """The user whose token it is, or None; it lives its whole time from now on."""
        key, now = digest(token), self._clock()
        user, deadline = self._known.pop(key, (None, 0.0))
        if user is None or deadline <= now:
            return None
        self._known[key] = (user, now + self.ttl)
        return user

    def forget(self, user: str) -> None:
        """None of the user's tokens is valid any more."""
        self._known = {key: one for key, one in self._known.items() if one[0] != user}

    def clear(self) -> None:
        self._known = {}

    def describe(self) -> list[tuple[str, str]]:
        """Digests and users."""
        return [(key, user) for key, (user, _) in self._known.items()]

    def restore(self, said: Iterable[tuple[str, str]]) -> None:
        """Become what :meth:`describe` said, each with its whole time to live."""
        self._known = {}
        for key, user in said:
            self.add(key, user)
