"""Exponential back-off with a ceiling and jitter: the one that every retry in kubeling uses."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays in seconds: `base`, then `factor` times more each, at most `limit`, each stretched by up to `jitter` of itself."""

    base: float = 0.5
    factor: float = 2.0
    limit: float = 30.0
    jitter: float = 0.2
    rand: Callable[[], float] = random.random
    _failures: int = field(default=0, init=False)

    @property
    def failures(self) -> int:
        """How often :meth:`next` was called since the last :meth:`reset`."""
        return self._failures

    def next(self) -> float:
        """The delay to wait now; the one after it will be longer."""
        # The exponent is capped so that a loop that failed for a year does not overflow a float.
        delay = min(self.limit, self.base * self.factor ** min(self._failures, 64))
        self._failures += 1
        return delay * (1 + self.jitter * self.rand())

    def reset(self) -> None:
        """Success: begin from `base` again."""
        self._failures = 0
