"""A watcher inside the server: it is told of every change of a kind, in order, and keeps something of its own up to date by it.

Where a client's watch would end (history was lost), a follower is given the whole content anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from kubeling.apiserver.cache.cache import Cache
from kubeling.apiserver.cache.entry import Entry
from kubeling.apiserver.cache.watcher import Event, Watcher

Replace = Callable[[Iterable[Entry]], None]
Apply = Callable[[Event], None]


class Follower(Watcher):
    """`replace` gets everything, at first and after a reset; `apply` each change since. Both are called without an await between."""

    def __init__(self, cache: Cache, replace: Replace, apply: Apply) -> None:
        super().__init__(matches=None, encoder=None, after=0)
        self._cache = cache
        self._replace = replace
        self._apply = apply
        self._reset = asyncio.Event()
        self._reset.set()
        #: Set once the content was there for the first time.
        self.loaded = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                await self._reset.wait()
                await self.load()
        finally:
            self._cache.detach(self)

    async def ensure(self) -> None:
        """Until the content is taken in, where that has not happened yet."""
        if self._reset.is_set():
            await self.load()

    async def load(self) -> None:
        """Take in the content, and every change from then on."""
        self._cache.detach(self)
        await self._cache.ready()
        self._reset.clear()
        self._replace(self._cache.entries())
        self._cache.attach(self)
        self.loaded.set()

    def offer(self, event: Event) -> None:
        self._apply(event)

    def bookmark(self, revision: int) -> None:
        """Of no interest here."""

    def wake(self) -> None:
        """Nothing is buffered."""

    def close(self, farewell: bytes | None = None) -> None:
        self._reset.set()


async def follow(followers: Iterable[Follower]) -> None:
    """Run them all until cancelled."""
    async with asyncio.TaskGroup() as group:
        for each in followers:
            group.create_task(each.run())
