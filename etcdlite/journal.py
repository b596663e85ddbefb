"""The write-ahead log of one member: numbered segment files of checksummed frames.

Records are gathered in memory by :meth:`Journal.add_entry` and :meth:`Journal.set_vote`; :meth:`Journal.take` hands over what is gathered as one
frame, and :meth:`Journal.write` puts it on disk, blocking: it runs in a thread while the next batch is gathered. Nothing may be acknowledged
before ``write`` has returned.

Records: entry (kind 1: index, term, data; it replaces whatever had this or a higher index), vote (kind 2: term, voted for), start (kind 3: index and
term of the snapshot after which the log begins; it drops all entries). Every segment begins with a head frame that repeats the vote, so that
older segments can be deleted whole.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kubeling.etcdlite.consensus.types import Entry
from kubeling.etcdlite.frames import CorruptLog, frame, scan

_ENTRY, _VOTE, _START = 1, 2, 3
_RECORD = struct.Struct(">BI")
_TWO = struct.Struct(">QQ")
_HEAD = struct.Struct(">8sQQQQ")
_FORMAT = b"kledlog1"

SEGMENT_BYTES = 16 << 20

#: A write of at most so many bytes, on a disk none of whose last so many syncs took longer than so many seconds, is quick.
_QUICK_BYTES = 8 << 10
_SLOW_FRAMES = 64
_QUICK_SECONDS = 0.002
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes to disk in one frame: encoded records, the highest index among them, and the head for a new segment, should one be due."""

    records: list[bytes]
    last_index: int
    head: bytes
    size: int


class NoSpace(Exception):
    """The disk is full; nothing of the batch is written, and the journal is as it was before."""


@dataclass(slots=True)
class _Segment:
    path: Path
    last_index: int = 0


class Journal:
    """Open with :meth:`open`. Everything but :meth:`write` belongs to the event loop's thread; one write at a time, in a thread unless it is :meth:`quick`."""

    def __init__(
        self,
        directory: Path,
        cluster_id: int,
        member_id: int,
        segment_bytes: int = SEGMENT_BYTES,
        *,
        now: Callable[[], float] = time.monotonic,
        observe: Callable[[float], None] = lambda seconds: None,
        observe_write: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._now = now
        self._observe = observe
        self._observe_write = observe_write
        self._directory = directory
        self._ids = (cluster_id, member_id)
        self._segment_bytes = segment_bytes
        self.term = 0
        self.vote = 0
        #: Everything written so far, what was found at the start included; it only grows.
        self.bytes_written = 0
        self._pending: list[bytes] = []
        self._pending_last = 0
        self._segments: list[_Segment] = []
        self._number = 0
        self._fd = -1
        self._at = 0
        self._room = 0
        self._slow_until = _SLOW_FRAMES

    # Opening.

    def open(self, base_index: int, base_term: int) -> list[Entry]:
        """Read what is on disk and get ready to write. Returns the entries behind the snapshot, whose last entry is given, without gaps.

        A crash may have come between the renaming of a leader's snapshot and the record that begins the log anew after it. Then what lies here is
        another history, or ends before the snapshot begins: it is dropped, durably with the next write.
        Raises CorruptLog; a torn tail is cut silently, since nothing of it was acknowledged.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        entries: dict[int, Entry] = {}
        paths = sorted(self._directory.glob("*.wal"))
        self._number = int(paths[0].stem, 16) if paths else 0
        sound_end = 0
        for path in paths:
            data = path.read_bytes()
            frames, end = scan(data, path.name, self._number)
            if not frames:
                if path is not paths[-1]:
                    raise CorruptLog(f"{path.name} holds nothing readable, but is followed by later segments")
                # The crash came while this segment was being made: nothing in it was ever acknowledged.
                path.unlink()
                break
            segment = _Segment(path)
            self._segments.append(segment)
            for start, stop in frames:
                self._replay(data[start:stop], entries, segment)
            self._number += len(frames)
            self.bytes_written += end
            sound_end = end
        if self._segments:
            self._resume(self._segments[-1].path, sound_end)
        covered = entries.get(base_index)
        other_history = covered is not None and covered.term != base_term
        if other_history or (covered is None and any(index < base_index for index in entries)):
            entries.clear()
            self.start_after(base_index, base_term)
        return _contiguous(entries, base_index)

    @property
    def empty(self) -> bool:
        """Whether nothing was ever written here."""
        return not self._segments

    def _replay(self, payload: bytes, entries: dict[int, Entry], segment: _Segment) -> None:
        at = 0
        while at < len(payload):
            kind, length = _RECORD.unpack_from(payload, at)
            at += _RECORD.size
            body = payload[at : at + length]
            at += length
            if kind == _ENTRY:
                index, term = _TWO.unpack_from(body)
                for stale in range(index + 1, max(entries, default=0) + 1) if index in entries else ():
                    entries.pop(stale, None)
                entries[index] = Entry(index, term, body[_TWO.size :])
                segment.last_index = max(segment.last_index, index)
            elif kind == _VOTE:
                self.term, self.vote = _TWO.unpack_from(body)
            elif kind == _START:
                entries.clear()
            else:
                self._check_head(body)

    def _check_head(self, body: bytes) -> None:
        form, cluster_id, member_id, self.term, self.vote = _HEAD.unpack(body)
        if form != _FORMAT:
            raise CorruptLog(f"the log has format {form!r}, this program reads {_FORMAT!r}")
        if (cluster_id, member_id) != self._ids:
            raise CorruptLog(
                f"the log belongs to member {member_id:x} of cluster {cluster_id:x}, this is member {self._ids[1]:x} of {self._ids[0]:x}: "
                "another --data-dir, or the --name and --initial-cluster that it was made with"
            )

    def _resume(self, path: Path, end: int) -> None:
        """Go on writing at `end` of the last segment, with the torn tail cut off for good."""
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.ftruncate(self._fd, end)
        os.fsync(self._fd)
        self._at = self._room = end

    # Gathering.

    def add_entry(self, index: int, term: int, data: bytes) -> None:
        """Gather an entry; it replaces what had this or a higher index."""
        body = _TWO.pack(index, term)
        self._pending += (_RECORD.pack(_ENTRY, len(body) + len(data)), body, data)
        self._pending_last = max(self._pending_last, index)

    def set_vote(self, term: int, vote: int) -> None:
        """Gather the current term and for whom this member voted in it (0: nobody)."""
        self.term, self.vote = term, vote
        self._pending += (_RECORD.pack(_VOTE, _TWO.size), _TWO.pack(term, vote))

    def start_after(self, index: int, term: int) -> None:
        """Gather that the log begins anew after the snapshot at `index`."""
        self._pending += (_RECORD.pack(_START, _TWO.size), _TWO.pack(index, term))

    @property
    def pending(self) -> bool:
        """Whether there is something to write."""
        return bool(self._pending)

    def take(self) -> Batch:
        """What is gathered, for :meth:`write`."""
        taken = Batch(self._pending, self._pending_last, self._head(), sum(map(len, self._pending)))
        self._pending = []
        self._pending_last = 0
        return taken

    def _head(self) -> bytes:
        body = _HEAD.pack(_FORMAT, *self._ids, self.term, self.vote)
        return _RECORD.pack(0, len(body)) + body

    # Writing, in a thread.

    def write(self, batch: Batch) -> None:
        """Put one batch on disk. On :class:`NoSpace` nothing has changed; any other OSError means that the disk cannot be trusted any more."""
        size, began = batch.size, self._now()
        try:
            if self._fd < 0 or self._at + size + 64 > max(self._segment_bytes, size + 256):
                self._roll(batch.head)
            self._append(batch.records)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise NoSpace(str(error)) from error
            raise
        self._segments[-1].last_index = max(self._segments[-1].last_index, batch.last_index)
        self._observe_write(self._now() - began)

    def quick(self, size: int) -> bool:
        """Whether writing `size` bytes will most likely take no longer than handing them to a thread and back.

        They are few, there is room reserved for them, and the disk was not slow lately.
        """
        room = min(self._room, self._segment_bytes) - self._at
        return size <= _QUICK_BYTES and size + 256 <= room and self._number >= self._slow_until

    def _append(self, records: list[bytes]) -> None:
        data = frame(self._number, records)
        at = self._at
        try:
            if at + len(data) > self._room:
                self._room = _reserve(self._fd, at, len(data), self._segment_bytes)
            written = 0
            while written < len(data):
                written += os.pwrite(self._fd, memoryview(data)[written:], at + written)
            began = self._now()
            os.fdatasync(self._fd)
            took = self._now() - began
            self._observe(took)
            if took > _QUICK_SECONDS:
                self._slow_until = self._number + _SLOW_FRAMES
        except OSError:
            # Whatever got there must not come back as an entry after a restart.
            os.ftruncate(self._fd, at)
            os.fsync(self._fd)
            self._room = at
            raise
        self._at = at + len(data)
        self._number += 1
        self.bytes_written += len(data)

    def _roll(self, head: bytes) -> None:
        """Begin a new segment; its head is durable before anything is written behind it."""
        path = self._directory / f"{self._number:016x}.wal"
        old = (self._fd, self._at, self._room)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._at = self._room = 0
        try:
            self._append([head])
            sync_directory(self._directory)
        except OSError:
            os.close(self._fd)
            path.unlink(missing_ok=True)
            self._fd, self._at, self._room = old
            raise
        self._segments.append(_Segment(path))
        if old[0] >= 0:
            # The unused reserve of the old segment goes back to the disk.
            os.ftruncate(old[0], old[1])
            os.close(old[0])

    # Dropping what a snapshot has made superfluous, in a thread too.

    def release(self, index: int) -> bool:
        """Delete the oldest segment if it holds nothing above `index`; False where there is none, and the newest stays.

        One at a time, since what is to be written waits for the same thread.
        """
        if len(self._segments) < 2 or self._segments[0].last_index > index:
            return False
        self._segments.pop(0).path.unlink()
        return True

    @property
    def bytes_on_disk(self) -> int:
        """The size of all segments, the newest one's reserve included."""
        return sum(segment.path.stat().st_size for segment in list(self._segments) if segment.path.exists())

    def close(self) -> None:
        if self._fd >= 0:
            os.ftruncate(self._fd, self._at)
            os.close(self._fd)
            self._fd = -1


def _reserve(fd: int, at: int, need: int, segment_bytes: int) -> int:
    """Make room for `need` bytes at `at`, generously where the disk allows: then writing neither allocates nor can it find the disk full."""
    for length in (max(segment_bytes - at, need), max(need, 64 << 10), need):
        try:
            os.posix_fallocate(fd, at, length)
            return at + length
        except OSError as error:
            if error.errno not in _NO_SPACE or length == need:
                raise
    raise AssertionError("unreachable")


def _contiguous(entries: dict[int, Entry], after: int) -> list[Entry]:
    wanted = [entries[index] for index in sorted(entries) if index > after]
    for expected, entry in enumerate(wanted, after + 1):
        if entry.index != expected:
            raise CorruptLog(f"the log has no entry {expected} (the snapshot ends at {after}, the next entry is {entry.index})")
    return wanted


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
