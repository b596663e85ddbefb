"""Patience with a provider: a call that hangs has failed, and what failed is tried again, later each time.

Every controller here calls the provider through this, so none of them waits for ever and none hammers a cloud that is down. Who merely has not seen the
latest state (:class:`~kubeling.cloud.provider.Outdated`) is in nobody's way and tries again soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Hashable
from typing import TypeVar

from kubeling.cloud.provider import Outdated, ProviderError
from kubeling.daemon.backoff import Backoff

Result = TypeVar("Result")

#: How long one call may take (seconds): clouds are slow, but not that slow.
CALL_SECONDS = 90.0
_SOON = 0.2


class Patience:
    """Back-off by whatever is being worked on; `call_seconds` limits each call."""

    def __init__(self, *, call_seconds: float = CALL_SECONDS, base: float = 1.0, limit: float = 60.0) -> None:
        self._call_seconds = call_seconds
        self._base, self._limit = base, limit
        self._failures: dict[Hashable, Backoff] = {}

    async def call(self, work: Awaitable[Result]) -> Result:
        """What the provider answers. ProviderError also where it does not."""
        try:
            async with asyncio.timeout(self._call_seconds):
                return await work
        except TimeoutError as error:
            raise ProviderError(f"the cloud has not answered within {self._call_seconds:g} s") from error

    def later(self, key: Hashable, error: ProviderError | None = None) -> float:
        """It failed: the seconds after which to try again."""
        if isinstance(error, Outdated):
            return _SOON
        return self._failures.setdefault(key, Backoff(base=self._base, limit=self._limit)).next()

    def done(self, key: Hashable) -> None:
        """It worked, or there is nothing to do any more."""
        self._failures.pop(key, None)
