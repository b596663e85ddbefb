"""Back-off by key: how long a crashing container or an image that cannot be pulled has to wait.

The first failure costs nothing, the next ones 10 s, 20 s … up to 5 min after the end of the last run; after 10 quiet minutes it begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

BASE = 10.0
LIMIT = 300.0


@dataclass(slots=True)
class _Entry:
    delay: float
    updated: float
    #: The failure that is being waited for, and when it was first asked about, by the clock that is never set.
    failed_at: float = 0.0
    seen: float = 0.0


class KeyedBackoff:
    """`now` and all times given are seconds of one and the same clock (the wall clock, since runtimes report ends of runs in it).

    `elapsed` is one that nobody sets: by it nobody waits longer than the delay, whatever the other has been set to meanwhile.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        elapsed: Callable[[], float] = time.monotonic,
        base: float = BASE,
        limit: float = LIMIT,
    ) -> None:
        self._now = now
        self._elapsed = elapsed
        self._base, self._limit = base, limit
        self._entries: dict[str, _Entry] = {}

    def delay(self, key: str) -> float:
        """The full delay that the next failure of `key` waits."""
        entry = self._entries.get(key)
        return entry.delay if entry else 0.0

    def remaining(self, key: str, failed_at: float) -> float:
        """Seconds from now until something that failed at `failed_at` may be tried again; 0 where it may be at once."""
        entry = self._entries.get(key)
        if entry is None or self._expired(entry, failed_at):
            return 0.0
        elapsed = self._elapsed()
        if entry.failed_at != failed_at:
            entry.failed_at, entry.seen = failed_at, elapsed
        return max(0.0, min(failed_at + entry.delay - self._now(), entry.seen + entry.delay - elapsed))

    def next(self, key: str, failed_at: float) -> None:
        """It is tried again now: another failure will wait longer."""
        entry = self._entries.get(key)
        now = self._now()
        if entry is None or self._expired(entry, failed_at):
            self._entries[key] = _Entry(self._base, now)
        else:
            entry.delay, entry.updated = min(self._limit, entry.delay * 2), now

    def seed(self, key: str, failures: int, began: float, failed_at: float) -> None:
        """What is not known of `key` is taken from its past: so many failures before, the last run from `began` to `failed_at`."""
        if key not in self._entries and failures > 0 and failed_at - began <= 2 * self._limit:
            self._entries[key] = _Entry(min(self._limit, self._base * 2 ** min(failures - 1, 30)), began)

    def forget(self, prefix: str) -> None:
        """Drop all keys that begin with `prefix`: the pod is gone."""
        for key in [each for each in self._entries if each.startswith(prefix)]:
            del self._entries[key]

    def _expired(self, entry: _Entry, failed_at: float) -> bool:
        return failed_at - entry.updated > 2 * self._limit
