"""Snapshots on their way between members, for followers that are so far behind that the log no longer reaches them.

On the wire: ``66`` and a piece of the file; ``67`` and the encoded :class:`~.consensus.messages.InstallSnapshot`, behind the last piece; and back ``68``,
index (u64) and whether the file is whole and sound there (u8). The receiver keeps the pieces in a file beside its snapshots. Once that is whole, checked
and on disk the consensus is told, which says whether it wants it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import BinaryIO

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.consensus.codec import BadMessage, decode, encode
from kubeling.etcdlite.consensus.messages import InstallSnapshot
from kubeling.etcdlite.consensus.types import SnapshotMark
from kubeling.etcdlite.frames import CorruptLog
from kubeling.etcdlite.peer_transport import PeerTransport
from kubeling.etcdlite.snapshot import SnapshotDirectory, check, read_meta

log = get_logger("etcdlite.shipping")

PIECE, LAST, OUTCOME = 66, 67, 68
_OUTCOME = struct.Struct(">BQ?")
_PIECE_BYTES = 256 << 10
#: For a receiver to check and sync what it has got.
_OUTCOME_SECONDS = 120.0


class Outgoing:
    """Sends this member's newest snapshot to followers, one task for each. `make` makes one where there is none yet that reaches `first`, the oldest entry kept."""

    def __init__(
        self,
        directory: SnapshotDirectory,
        transport: PeerTransport,
        make: Callable[[], Awaitable[None]],
        done: Callable[[int, int, bool], None],
    ) -> None:
        self._directory = directory
        self._transport = transport
        self._make = make
        self._done = done
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._outcomes: dict[int, asyncio.Future[tuple[int, bool]]] = {}

    def begin(self, member: int, term: int, first: int) -> None:
        """Send a snapshot to `member`, as the leader of `term`; `done` is called with how it went."""
        former = self._tasks.pop(member, None)
        if former is not None:
            former.cancel()
        self._tasks[member] = asyncio.get_running_loop().create_task(self._send(member, term, first))

    def outcome(self, member: int, data: bytes) -> None:
        """The receiver says how it went there."""
        try:
            _, index, sound = _OUTCOME.unpack(data)
        except struct.error:
            return
        waiting = self._outcomes.get(member)
        if waiting is not None and not waiting.done():
            waiting.set_result((index, sound))

    def lost(self, member: int) -> None:
        """The connection is gone, and with it what was on its way."""
        waiting = self._outcomes.get(member)
        if waiting is not None and not waiting.done():
            waiting.set_result((0, False))

    async def _send(self, member: int, term: int, first: int) -> None:
        index, sound = 0, False
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[tuple[int, bool]] = loop.create_future()
        self._outcomes[member] = outcome
        try:
            path = self._directory.newest()
            if path is None or not _covers(path, first):
                await self._make()
                path = self._directory.newest()
            if path is not None and _covers(path, first):
                meta = read_meta(path)
                log.info("sending a snapshot", to=f"{member:x}", file=path.name)
                mark = SnapshotMark(meta.index, meta.term, bytes.fromhex(meta.configuration))
                with open(path, "rb") as file:  # noqa: ASYNC230
                    whole = await self._pieces(member, file, outcome)
                last = encode(InstallSnapshot(self._transport.me, member, term, mark))
                if whole and self._transport.send(member, bytes((LAST,)) + last):
                    async with asyncio.timeout(_OUTCOME_SECONDS):
                        index, sound = await outcome
        except (OSError, TimeoutError, CorruptLog) as error:
            log.error("a snapshot could not be sent", to=f"{member:x}", error=repr(error))
        finally:
            if self._outcomes.get(member) is outcome:
                del self._outcomes[member]
        self._tasks.pop(member, None)
        self._done(member, index, sound)

    async def _pieces(self, member: int, file: BinaryIO, outcome: asyncio.Future[tuple[int, bool]]) -> bool:
        """Send the file; False where the connection did not last."""
        loop = asyncio.get_running_loop()
        kind = PIECE
        while data := await loop.run_in_executor(None, file.read, _PIECE_BYTES):
            await self._transport.room(member)
            # The first piece says that the file begins.
            head = bytes((kind, file.tell() == len(data)))
            if outcome.done() or not self._transport.send(member, head + data):
                return False
        return True

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _covers(path: Path, first: int) -> bool:
    return int(path.stem, 16) >= first - 1 and bool(read_meta(path).configuration)


class Incoming:
    """Takes a snapshot from the leader. `offer` gives it to the consensus, with the file that it is in, once it is whole and on disk."""

    def __init__(
        self,
        me: int,
        path: Path,
        disk: Executor,
        send: Callable[[int, bytes], bool],
        offer: Callable[[InstallSnapshot], None],
    ) -> None:
        self._me = me
        self.path = path
        self._disk = disk
        self._send = send
        self._offer = offer
        self._file: BinaryIO | None = None
        self._sender = 0
        self._checking: asyncio.Task[None] | None = None

    def piece(self, sender: int, data: bytes) -> None:
        """Keep a piece; a first one begins anew."""
        if self._checking is not None:
            return
        try:
            if data[1:2] == b"\x01":
                self._drop()
                self.path.unlink(missing_ok=True)
                self._file, self._sender = open(self.path, "wb"), sender  # noqa: SIM115
            if self._file is not None and sender == self._sender:
                self._file.write(data[2:])
        except OSError as error:
            log.error("a snapshot from the leader cannot be kept", error=str(error))
            self._drop()

    def last(self, sender: int, data: bytes) -> None:
        """The file is all there: check it, put it on disk, and offer it."""
        try:
            message = decode(sender, self._me, data[1:])
        except BadMessage as error:
            log.error("a peer sent something unreadable", peer=f"{sender:x}", error=str(error))
            return
        file = self._file
        if not isinstance(message, InstallSnapshot) or self._checking is not None or file is None or sender != self._sender:
            return
        self._file = None
        self._checking = asyncio.get_running_loop().create_task(self._check(message, file))

    async def _check(self, message: InstallSnapshot, file: BinaryIO) -> None:
        loop = asyncio.get_running_loop()
        sound = False
        try:
            found = await loop.run_in_executor(self._disk, check, file, self.path)
            sound = (found.index, found.term) == (message.mark.index, message.mark.term)
        except (CorruptLog, OSError) as error:
            log.error("a snapshot from the leader cannot be used", error=str(error))
        finally:
            self._checking = None
        if sound:
            self._offer(message)
        self._send(message.sender, _OUTCOME.pack(OUTCOME, message.mark.index, sound))

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def lost(self, sender: int) -> None:
        """The connection is gone; the leader begins anew."""
        if sender == self._sender:
            self._drop()

    async def stop(self) -> None:
        self._drop()
        if self._checking is not None:
            await asyncio.gather(self._checking, return_exceptions=True)
