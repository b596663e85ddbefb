"""Writes that we made and that our cache has not shown yet.

A controller that counts in its cache would create a second time what it has just created, since the cache follows the server with a delay. So it
notes the *names* that it is about to create and the *uids* that it is about to delete; until the informer has shown each of them it decides nothing
that depends on the count. Names are chosen by the controller (not by the server), so a creation is known before its answer is in.

A note that stays open for longer than `timeout` no longer counts: an object may have come and gone while the informer was listing anew.
"""

from __future__ import annotations

from kubeling.api.meta import is_deleting, key_of, uid_of
from kubeling.client.informer import Change
from kubeling.client.store import Obj
from kubeling.daemon.clock import Clock, SystemClock

TIMEOUT = 60.0


class Expectations:
    """One per controller; `key` names the owner for which is written."""

    def __init__(self, clock: Clock | None = None, timeout: float = TIMEOUT) -> None:
        self._clock = clock or SystemClock()
        self._timeout = timeout
        self._open: dict[str, set[str]] = {}
        self._since: dict[str, float] = {}
        self._owner: dict[str, str] = {}

    def creating(self, key: str, child: str) -> None:
        """The object `child` (as :func:`kubeling.api.meta.key_of` calls it) is about to be created."""
        self._expect(key, child)

    def deleting(self, key: str, uid: str) -> None:
        """The object of that uid is about to be deleted."""
        self._expect(key, uid)

    def settled(self, token: str) -> None:
        """The child's name or uid was seen, or its write was refused."""
        key = self._owner.pop(token, None)
        if key is None:
            return
        tokens = self._open[key]
        tokens.discard(token)
        if not tokens:
            del self._open[key], self._since[key]

    def observe(self, change: Change) -> None:
        """An informer's handler: whatever has been seen is no longer expected. A pod that is on its way out counts as deleted."""
        obj: Obj = change.obj
        self.settled(key_of(obj))
        if change.type == "delete" or is_deleting(obj):
            self.settled(uid_of(obj))

    def remaining(self, key: str) -> float:
        """0 where the cache shows all that was written for `key`, else the seconds for which it is worth waiting."""
        since = self._since.get(key)
        if since is None:
            return 0.0
        left = since + self._timeout - self._clock.monotonic()
        if left <= 0:
            self.forget(key)
            return 0.0
        return left

    def forget(self, key: str) -> None:
        """The owner is gone, or waited for long enough."""
        for token in self._open.pop(key, ()):
            self._owner.pop(token, None)
        self._since.pop(key, None)

    def _expect(self, key: str, token: str) -> None:
        self._open.setdefault(key, set()).add(token)
        self._since[key] = self._clock.monotonic()
        self._owner[token] = key
