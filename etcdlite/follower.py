"""A watch that this member keeps for itself, to wait for something on a client's behalf."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kubeling.etcdlite.errors import COMPACTED
from kubeling.etcdlite.watch import Hub, Stream
from kubeling.proto import etcd_pb2 as pb


@asynccontextmanager
async def following(hub: Hub, key: bytes, range_end: bytes, revision: int) -> AsyncIterator[AsyncIterator[Any]]:
    """The answers with the events in the range from `revision` on. Raises COMPACTED, while they are taken, where some are gone already."""
    news = asyncio.Event()
    # Nothing is offered: it waits in the stream's queue, and beyond a limit in the store's log.
    stream = Stream(lambda _: False, news.set)
    hub.streams.add(stream)
    answers = _answers(hub, stream, news)
    try:
        hub.create(stream, pb.WatchCreateRequest(key=key, range_end=range_end, start_revision=revision))
        yield answers
    finally:
        hub.close(stream)
        await answers.aclose()


async def _answers(hub: Hub, stream: Stream, news: asyncio.Event) -> AsyncGenerator[Any, None]:
    while True:
        news.clear()
        while stream.queue:
            answer = pb.WatchResponse.FromString(stream.pop())
            if answer.canceled:
                raise COMPACTED
            if answer.events:
                yield answer
        if stream.lagging:
            hub.catch_up(stream)
            # Others get their turn between two pieces of history.
            await asyncio.sleep(0)
        else:
            await news.wait()
