"""Watchers: each follows a range through everything that happens, and begins again behind what it has whenever its stream ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import grpc
import grpc.aio

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc

from . import wire
from .cluster import Member
from .history import History
from .operations import Watching, WatchOpen

#: How often a watcher that has to come to its end asks how far it is.
_ASK_SECONDS = 0.1


class Watcher:
    """One range, followed. With `restless` it leaves a healthy stream now and then and resumes elsewhere; with `slow` it reads late."""

    def __init__(
        self,
        name: str,
        history: History,
        members: Sequence[Member],
        seed: str,
        request: WatchOpen,
        *,
        restless: float = 0.0,
        slow: float = 0.0,
    ) -> None:
        self.name, self._history, self.members = name, history, members
        self._rng = random.Random(f"{seed}/watch/{name}")
        self._request, self._restless, self._slow = request, restless, slow
        self._next = request.start
        self._target = 0
        self._finishing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.seen = 0

    def start(self) -> Watcher:
        self._task = asyncio.ensure_future(self._follow())
        return self

    async def finish(self, target: int, seconds: float = 30.0) -> None:
        """Go on until everything up to `target` has been delivered. Raises AssertionError where that does not come."""
        assert self._task is not None
        if self._next > target:
            # It has all, or waits for what will not come any more.
            await self.stop()
            return
        self._target = target
        self._finishing.set()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._task)
        except TimeoutError:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            raise AssertionError(
                f"watch is not reliable: {self.name} ({self._request}) was delivered up to {self.seen} of {target} after {seconds} s"
            ) from None

    async def stop(self) -> None:
        """End it where it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def _done(self) -> bool:
        return bool(self._target) and self.seen >= self._target

    async def _follow(self) -> None:
        member = self._rng.choice(self.members)
        while not self._done:
            channel = member.channel()
            try:
                await self._session(member, channel)
            finally:
                await channel.close()
            if not self._done:
                await asyncio.sleep(0.05)
                member = self._rng.choice(self.members)

    async def _session(self, member: Member, channel: grpc.aio.Channel) -> None:
        """One watch on one stream, until that ends or we leave it."""
        request = WatchOpen(**{**vars(self._request), "start": self._next})
        watching = Watching(len(self._history.watches), self.name, member.name, self._history.now(), request)
        self._history.watches.append(watching)
        call = rpc.WatchStub(channel).Watch(metadata=(("hasleader", "true"),))
        asking: asyncio.Future[None] | None = None
        leave = self._rng.expovariate(self._restless) if self._restless else None
        try:
            async with asyncio.timeout(leave):
                await call.write(wire.watch(request))
                # Not before: a stream without a watch answers at once, and that says nothing of the watch that is still to come.
                asking = asyncio.ensure_future(self._ask(call))
                while not self._done:
                    answer = await call.read()
                    if answer is grpc.aio.EOF:
                        watching.reason = "the stream ended"
                        return
                    if not self._take(watching, answer):
                        return
                    if self._slow and not self._target:
                        await asyncio.sleep(self._rng.expovariate(1 / self._slow))
            watching.expected = self._target
        except TimeoutError:
            watching.reason = "left"
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            watching.reason = f"{type(error).__name__}: {error.details() if isinstance(error, grpc.aio.AioRpcError) else error}"
        finally:
            watching.ended = self._history.now()
            call.cancel()
            if asking is not None:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

    def _take(self, watching: Watching, answer: pb.WatchResponse) -> bool:
        """Note one message; False where it ends the watch."""
        response = wire.watch_response(self._history.now(), answer)
        watching.responses.append(response)
        if response.canceled:
            watching.reason = response.reason or "cancelled"
            # What was compacted is gone: begin with the oldest that is left, as a client that lists anew would.
            self._next = max(self._next, response.compact_revision)
            return False
        if response.events:
            self.seen = max(self.seen, response.events[-1][0].revision)
        elif response.bookmark:
            self.seen = max(self.seen, response.revision)
        if response.created and self._next == 0:
            self._next = response.revision + 1
        self._next = max(self._next, self.seen + 1 if self.seen else 0)
        return True

    async def _ask(self, call: grpc.aio.StreamStreamCall[pb.WatchRequest, pb.WatchResponse]) -> None:
        """Once the run is to end, and rarely before: ask how far the stream is, since a watch of one key need not see the last write."""
        while True:
            try:
                async with asyncio.timeout(self._rng.uniform(0.5, 1.5) if not self._target else _ASK_SECONDS):
                    await self._finishing.wait()
                    await asyncio.sleep(_ASK_SECONDS)
            except TimeoutError:
                pass
            await call.write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
