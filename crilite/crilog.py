"""The CRI log format: one line of a container's output is ``<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>``.

``F`` ends a line, ``P`` is a piece of a line that was too long for one record. Used by the keeper only, which has one event loop for the
output of all containers; so a chunk of output becomes one write.
"""

from __future__ import annotations

import contextlib
import os
import time

#: The longest text of one record, as containerd has it.
MAX_LINE = 16 * 1024


def stamp(nanoseconds: int) -> bytes:
    """RFC 3339 in UTC with nine digits of a second."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09dZ" % rest


class CriLog:
    """A container's log file. What cannot be written (disk full) is dropped and counted: a container must never hang on its log."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.dropped = 0
        self._fd = -1
        self._rest: dict[str, bytes] = {}
        self.reopen()

    def reopen(self) -> None:
        """Write to a new file from here on: the old one was renamed by whoever rotates logs."""
        self.close()
        if self.path:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def feed(self, stream: str, data: bytes, now: int) -> None:
        """Log `data` of `stream`; what comes after its last newline waits for its end, up to MAX_LINE of it."""
        data = self._rest.pop(stream, b"") + data
        *lines, rest = data.split(b"\n")
        head = stamp(now) + b" " + stream.encode()
        records: list[bytes] = []
        for line in lines:
            start = 0
            while len(line) - start > MAX_LINE:
                records.append(b"%b P %b\n" % (head, line[start : start + MAX_LINE]))
                start += MAX_LINE
            records.append(b"%b F %b\n" % (head, line[start:] if start else line))
        while len(rest) > MAX_LINE:
            records.append(b"%b P %b\n" % (head, rest[:MAX_LINE]))
            rest = rest[MAX_LINE:]
        if rest:
            self._rest[stream] = rest
        self._write(b"".join(records))

    def finish(self, stream: str, now: int) -> None:
        """The stream has ended: a last line without its newline is a whole one."""
        rest = self._rest.pop(stream, b"")
        if rest:
            self._write(b"%b %b F %b\n" % (stamp(now), stream.encode(), rest))

    def _write(self, data: bytes) -> None:
        if self._fd < 0 or not data:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            self.dropped += len(view)
            self._take_back(data[: len(data) - len(view)])

    def _take_back(self, written: bytes) -> None:
        """Cut off the half of a record that the disk had room for: what is written when there is room again must not become a part of that line."""
        torn = len(written) - (written.rfind(b"\n") + 1)
        if torn:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - torn)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
