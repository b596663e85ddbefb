"""Blobs on their way into the store.

One whose digest is known beforehand lies at ``partial-<digest>`` until it is whole: a download that broke off goes on where it stopped, even
after the daemon was restarted. One that nobody has named yet lies at ``incoming-<random>``. Whoever writes holds a lock on the file, so that
clearing away leaves it alone, and two who want the same blob do not write into one file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
from pathlib import Path

from kubeling.crilite.errors import CriError

_CHUNK = 1 << 20
#: A download that nobody has gone on with for so long is given up.
_PARTIAL_SECONDS = 24 * 3600.0


class Incoming:
    """Close it in any case: what was not finished is gone then, unless it can be resumed.

    `expected` is the digest that it must have in the end, `limit` how many bytes it may have at most; empty and 0 if that is not known.
    """

    def __init__(self, blobs: Path, expected: str = "", limit: int = 0) -> None:
        self._blobs = blobs
        self._expected = expected
        self._limit = limit
        self._done = False
        self._fd, self._path = self._open()
        self._digest = hashlib.sha256()
        #: How much of it is there.
        self.size = 0

    def resume(self) -> None:
        """Take up what an earlier attempt has left. Otherwise it begins anew."""
        while data := os.read(self._fd, _CHUNK):
            self._digest.update(data)
            self.size += len(data)
        if self._limit and self.size > self._limit:
            self.restart()

    def _open(self) -> tuple[int, Path]:
        if self._expected:
            path = self._blobs / f"partial-{self._expected.removeprefix('sha256:')}"
            fd = _locked(path)
            if fd >= 0:
                return fd, path
        path = self._blobs / f"incoming-{uuid.uuid4().hex}"
        return _locked(path), path

    def write(self, chunk: bytes) -> None:
        if self._limit and self.size + len(chunk) > self._limit:
            self.restart()
            raise CriError(f"content does not match its digest: {self._expected} has {self._limit} bytes, more came")
        self._digest.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size += len(chunk)

    def restart(self) -> None:
        """Forget what is there: the other side begins anew."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._digest = hashlib.sha256()
        self.size = 0

    def finish(self) -> str:
        """Put it in its place; its digest. Wrong content is thrown away."""
        found = "sha256:" + self._digest.hexdigest()
        if self._expected and found != self._expected:
            self.restart()
            raise CriError(f"content does not match its digest: {self._expected} was promised, {found} came")
        os.fsync(self._fd)
        os.rename(self._path, self._blobs / found.removeprefix("sha256:"))
        self._done = True
        return found

    def close(self) -> None:
        if not self._done and (self.size == 0 or not self._path.name.startswith("partial-")):
            self._path.unlink(missing_ok=True)
        os.close(self._fd)


def _locked(path: Path) -> int:
    """`path` opened and locked; -1 if somebody else has it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return -1
        try:
            if os.path.samestat(os.stat(path), os.fstat(fd)):
                return fd
        except FileNotFoundError:
            pass
        # It was cleared away, or finished, between our two steps.
        os.close(fd)


def clear(path: Path) -> None:
    """Remove what lies at `path`, if nobody writes there and nobody will go on with it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.name.startswith("partial-") and time.time() - os.fstat(fd).st_mtime < _PARTIAL_SECONDS:
            return
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return
    finally:
        os.close(fd)
