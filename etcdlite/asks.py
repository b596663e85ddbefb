"""Questions from one member to another, with an answer to wait for: what only the leader can say or do.

On the wire: ``64``, id (u64), what is asked (u8), body; and back ``65``, id (u64), whether it went well (u8), the answer or an error's code, a 0 and its text.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Awaitable, Callable

from kubeling.daemon.log import get_logger
from kubeling.etcdlite import errors
from kubeling.etcdlite.errors import NO_LEADER, TIMEOUT, TOO_MANY_REQUESTS, EtcdError

log = get_logger("etcdlite.asks")

QUESTION, ANSWER = 64, 65
_HEAD = struct.Struct(">BQB")
_MAX_WAITING = 10_000
_MAX_WORKING = 1000
#: Errors are singletons, which callers compare by identity.
_KNOWN = {(one.code, one.text): one for one in vars(errors).values() if isinstance(one, EtcdError)}

Answerer = Callable[[bytes], Awaitable[bytes]]


class Asks:
    """`send` gives bytes to a member and says whether there is a connection; `answerers` say what this member does when it is asked."""

    def __init__(self, send: Callable[[int, bytes], bool], answerers: dict[int, Answerer]) -> None:
        self._send = send
        self._answerers = answerers
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[int, asyncio.Future[bytes]]] = {}
        self._working: set[asyncio.Task[None]] = set()

    async def ask(self, member: int, what: int, body: bytes, seconds: float) -> bytes:
        """The answer. Raises EtcdError: the one that the other member raised, or that it could not be asked or did not answer in time."""
        if len(self._waiting) >= _MAX_WAITING:
            raise TOO_MANY_REQUESTS
        number = next(self._ids)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (member, future)
        try:
            if not self._send(member, _HEAD.pack(QUESTION, number, what) + body):
                raise NO_LEADER
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise TIMEOUT from None
        finally:
            del self._waiting[number]

    def lost(self, member: int) -> None:
        """The connection to a member is gone, and what it was asked with it."""
        for asked, future in self._waiting.values():
            if asked == member and not future.done():
                future.set_exception(TIMEOUT)

    def received(self, member: int, data: bytes) -> None:
        """Take a question or an answer."""
        try:
            kind, number, flag = _HEAD.unpack_from(data)
        except struct.error:
            log.error("a peer sent something unreadable", peer=f"{member:x}")
            return
        body = data[_HEAD.size :]
        if kind == ANSWER:
            _, future = self._waiting.get(number, (0, None))
            if future is not None and not future.done():
                if flag:
                    future.set_result(body)
                else:
                    code, _, text = body.decode("utf-8", "replace").partition("\0")
                    future.set_exception(_KNOWN.get((code, text)) or EtcdError(code, text))
        elif flag in self._answerers and len(self._working) < _MAX_WORKING:
            task = asyncio.get_running_loop().create_task(self._answer(member, number, self._answerers[flag], body))
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    async def _answer(self, member: int, number: int, answerer: Answerer, body: bytes) -> None:
        try:
            said, well = await answerer(body), 1
        except EtcdError as error:
            said, well = f"{error.code}\0{error.text}".encode(), 0
        except Exception as error:
            log.error("a question of a peer could not be answered", peer=f"{member:x}", error=repr(error))
            said, well = b"INTERNAL\0etcdserver: internal error", 0
        self._send(member, _HEAD.pack(ANSWER, number, well) + said)

    async def stop(self) -> None:
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
