"""Reading container logs in the CRI format: `<RFC 3339 nano> <stdout|stderr> <F|P> <text>`, a P line going on in the next.

Following a log waits for inotify and for the end of the container; a rotated file is read to its end before the new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import glob
import os
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from kubeling.api.times import parse_time
from kubeling.daemon.tasks import run_until
from kubeling.kubelet.filewatch import FileWatch

_CHUNK = 64 * 1024
_BLOCK = 16 * 1024
#: A line without an end is given up at this length.
_MAX_LINE = 1024 * 1024
#: So often a log is looked for that is rotated meanwhile.
_ATTEMPTS = 3


class BadOptions(ValueError):
    """The query makes no sense."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `kubectl logs` may ask for."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since: datetime | None = None
    tail: int | None = None
    limit: int | None = None
    stream: str = ""


def options(query: Mapping[str, str], now: datetime) -> Options:
    """From the query of a URL; BadOptions for what is not understood."""

    def number(name: str) -> int | None:
        text = query.get(name)
        if not text:
            return None
        if not text.isdigit():
            raise BadOptions(f"{name} must be a number, not {text!r}")
        return int(text)

    since = None
    seconds = number("sinceSeconds")
    if seconds is not None:
        since = now - timedelta(seconds=seconds)
    elif query.get("sinceTime"):
        try:
            since = parse_time(query["sinceTime"])
        except ValueError as error:
            raise BadOptions(str(error)) from error
    wanted = query.get("stream") or "All"
    return Options(
        follow=_true(query.get("follow")),
        previous=_true(query.get("previous")),
        timestamps=_true(query.get("timestamps")),
        since=since,
        tail=number("tailLines"),
        limit=number("limitBytes"),
        stream="" if wanted == "All" else wanted.lower(),
    )


def _true(text: str | None) -> bool:
    return (text or "").lower() in ("true", "1")


def tail_offset(file: IO[bytes], lines: int, size: int) -> int:
    """Where the last `lines` lines of the first `size` bytes begin: it may be longer by now."""
    if lines == 0:
        return size
    at, found, first = size, 0, True
    while at > 0:
        begin = max(0, at - _BLOCK)
        file.seek(begin)
        block = file.read(at - begin)
        end = len(block)
        if first and block.endswith(b"\n"):
            end -= 1  # The end of the last line is not the beginning of another.
        first = False
        while (position := block.rfind(b"\n", 0, end)) >= 0:
            found += 1
            if found == lines:
                return begin + position + 1
            end = position
        at = begin
    return 0


class Formatter:
    """Turns raw lines into what is shown, as far as the limits allow."""

    def __init__(self, wanted: Options) -> None:
        self._wanted = wanted
        self._left = wanted.limit
        self._since = wanted.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").encode() if wanted.since else b""

    @property
    def done(self) -> bool:
        return self._left is not None and self._left <= 0

    def line(self, raw: bytes) -> bytes:
        """One line of the file, without its end."""
        parts = raw.split(b" ", 3)
        if len(parts) < 4:
            return b""
        stamp, stream, tags, text = parts
        if self._wanted.stream and stream.decode("ascii", "replace") != self._wanted.stream:
            return b""
        if self._since and not self._new_enough(stamp):
            return b""
        out = text if tags.startswith(b"P") else text + b"\n"
        if self._wanted.timestamps:
            out = stamp + b" " + out
        if self._left is not None:
            out = out[: self._left]
            self._left -= len(out)
        return out

    def _new_enough(self, stamp: bytes) -> bool:
        if stamp.endswith(b"Z"):
            return stamp[:-1].ljust(26, b"0") >= self._since
        try:
            return parse_time(stamp.decode()) >= self._wanted.since  # type: ignore[operator]
        except ValueError:
            return True


def open_plain(path: Path) -> IO[bytes]:
    """Open a file that containers may have had their hands on: not by a link, which could lead to any file of the node, and nothing that is no file."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "not a file", str(path))
    return open(fd, "rb")


def open_current(path: Path) -> IO[bytes]:
    """Open the log at `path`; the one that was just rotated away, where the runtime has not begun another yet. FileNotFoundError where there is neither."""
    for _ in range(_ATTEMPTS):
        try:
            return open_plain(path)
        except FileNotFoundError:
            # A folder that goes meanwhile has no log.
            rotated = glob.glob(f"{glob.escape(str(path))}.*")
            aside = max((each for each in rotated if not each.endswith((".gz", ".tmp"))), default=None)
            if aside is None:
                break
            # It may be just about to be compressed: then the new one is there.
            with contextlib.suppress(FileNotFoundError):
                return open_plain(Path(aside))
    raise FileNotFoundError(errno.ENOENT, "no such file or directory", str(path))


async def read(
    file: IO[bytes], path: Path, wanted: Options, running: Callable[[], Awaitable[bool]], nudge: asyncio.Event
) -> AsyncIterator[bytes]:
    """The log `file`, which is closed in the end; what it goes on in will be at `path`. When following, it ends after `running` says no; `nudge` is set when that may have changed.
    Otherwise it ends with what is there now: a container can write faster than anybody reads."""
    formatter = Formatter(wanted)
    end = os.fstat(file.fileno()).st_size
    try:
        if wanted.tail is not None:
            file.seek(tail_offset(file, wanted.tail, end))
        if not wanted.follow:
            async for chunk in _rest(file, formatter, [b""], end):
                yield chunk
            return
        with FileWatch(path) as watch:
            part = [b""]
            while not formatter.done:
                watch.changed.clear()
                nudge.clear()
                alive = await running()
                async for chunk in _rest(file, formatter, part):
                    yield chunk
                following = _replaced(file, path)
                if following is not None:
                    file.close()
                    file = following
                    part = [b""]
                    watch.again()
                    watch.changed.set()
                elif not alive:
                    return
                if not watch.changed.is_set():
                    await run_until(nudge, watch.changed.wait())
    finally:
        file.close()


async def _rest(file: IO[bytes], formatter: Formatter, part: list[bytes], end: int = sys.maxsize) -> AsyncIterator[bytes]:
    """What is in the file up to `end`, if it has one; an unfinished line is kept in `part`."""
    while not formatter.done:
        data = file.read(min(_CHUNK, end - file.tell()))
        if not data:
            return
        lines = (part[0] + data).split(b"\n")
        part[0] = lines.pop()
        if len(part[0]) > _MAX_LINE:
            part[0] = b""
        out = b"".join(formatter.line(each) for each in lines if not formatter.done)
        if out:
            yield out
        await asyncio.sleep(0)


def _replaced(file: IO[bytes], path: Path) -> IO[bytes] | None:
    """The new file, where the log was rotated."""
    try:
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            return None
        return open_plain(path)
    except FileNotFoundError:
        return None
