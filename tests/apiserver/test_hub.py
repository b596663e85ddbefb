"""When the watch that feeds all caches is given up for one at another member."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.apiserver.cache.hub import LOST_SECONDS, Hub
from kubeling.apiserver.storage.errors import StoreError
from kubeling.daemon.clock import SystemClock, VirtualClock


class Store:
    """A store at a revision; None where it does not answer."""

    def __init__(self, revision: int | None) -> None:
        self._revision = revision

    async def revision(self) -> int:
        if self._revision is None:
            raise StoreError("nobody is there")
        return self._revision


class Stream:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.mark.parametrize(
    ("store", "given_up"),
    [
        (5, False),  # A client made the version up, or waits for the next change.
        (99, True),
        (None, True),
    ],
)
async def test_a_watch_is_given_up_where_the_store_is_ahead_of_it(store: int | None, given_up: bool) -> None:
    kv: Any = Store(store)
    hub = Hub(kv, SystemClock())
    stream: Any = Stream()
    hub._stream = stream
    hub.connected.set()
    assert not await hub.wait_for(99, 0.001)
    assert stream.cancelled is given_up


class Ended:
    """A subscriber that counts how often it was told to end its watches."""

    times = 0

    def cut_off(self) -> None:
        self.times += 1


async def test_watches_are_ended_once_when_the_store_is_away_for_long() -> None:
    kv: Any = Store(5)
    clock = VirtualClock()
    hub, ended = Hub(kv, clock), Ended()
    subscriber: Any = ended
    hub.subscribe("/registry/pods/", subscriber)
    hub._lose()
    assert not hub.lost, "there has been no watch yet"
    hub._broken_at = clock.monotonic()
    hub._lose()
    assert not hub.lost, "a member that is started again takes a moment"
    await clock.advance(LOST_SECONDS)
    hub._lose()
    hub._lose()
    assert hub.lost
    assert ended.times == 1
