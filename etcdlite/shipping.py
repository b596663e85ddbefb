"""Snapshots on their way between members, piece by piece, for followers that are so far behind that the log no longer reaches them."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from kubeling.daemon.log import get_logger
from kubeling.etcdlite.frames import CorruptLog
from kubeling.etcdlite.snapshot import Meta, SnapshotDirectory, decode

log = get_logger("etcdlite.shipping")

_PIECE = 256 << 10
_MAX_UNSENT = 4 << 20


class Shipping:
    """Gives pieces of this member's newest snapshot to followers, and gathers the pieces that a leader sends.

    `unsent` tells how much waits for a member; `make` is called where there is no snapshot yet; `become` makes the state what a snapshot says.
    """

    def __init__(
        self,
        directory: SnapshotDirectory,
        unsent: Callable[[int], int],
        make: Callable[[], None],
        become: Callable[[Meta, bytes], None],
    ) -> None:
        self._directory = directory
        self._unsent = unsent
        self._make = make
        self._become = become
        self._outgoing: dict[int, BinaryIO] = {}
        self._incoming: bytearray | None = None
        self._whole: tuple[Meta, bytes] | None = None

    def piece_for(self, member: int) -> tuple[bytes, bool, bool] | None:
        if self._unsent(member) > _MAX_UNSENT:
            return None
        file = self._outgoing.get(member)
        first = file is None
        if file is None:
            path = self._directory.newest()
            if path is None:
                self._make()
                return None
            # The open file stays readable when a newer snapshot takes its place.
            file = self._outgoing[member] = open(path, "rb")  # noqa: SIM115
            log.info("sending a snapshot", to=f"{member:x}", file=path.name)
        data = file.read(_PIECE)
        if not data:
            self.forget(member)
        return data, first, not data

    def forget(self, member: int) -> None:
        file = self._outgoing.pop(member, None)
        if file is not None:
            file.close()

    def take_piece(self, piece: tuple[bytes, bool, bool]) -> tuple[int, int] | None:
        data, first, last = piece
        if first:
            self._incoming = bytearray()
        if self._incoming is None:
            return None
        self._incoming += data
        if not last:
            return None
        whole, self._incoming = bytes(self._incoming), None
        try:
            meta, records = decode(whole, "the leader's snapshot")
            for _ in records:
                pass
            # Durable before it is acknowledged, and before the log is told to begin after it.
            self._directory.save(meta.index, [whole])
        except (CorruptLog, OSError) as error:
            log.error("a snapshot from the leader cannot be used", error=str(error))
            return None
        self._whole = (meta, whole)
        return meta.index, meta.term

    def install(self) -> None:
        assert self._whole is not None
        (meta, whole), self._whole = self._whole, None
        self._become(meta, whole)
        log.info("installed a snapshot from the leader", index=meta.index, revision=meta.revision)
