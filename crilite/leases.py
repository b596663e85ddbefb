"""What a load or a pull that is under way needs of the store, so that nobody clears it away meanwhile.

A lease is a file in ``<root>/leases`` with the names of blobs and layers, locked by its holder for as long as that lives: the lease of a process
that died counts no more.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path


class Lease:
    """Close it when the image is named by the index, or given up."""

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex
        self._path = folder / self.name
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._names: set[str] = set()

    def keep(self, names: Iterable[str]) -> None:
        """Blobs by digest, layers by name. Call it while the store is locked: then each is kept, or was gone before."""
        self._names |= set(names)
        data = json.dumps(sorted(self._names)).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def live(folder: Path) -> tuple[set[str], set[str]]:
    """(the leases that are held, what they keep). Those that nobody holds are removed. Call it while the store is locked."""
    leases: set[str] = set()
    kept: set[str] = set()
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            except BlockingIOError:
                leases.add(path.name)
                with contextlib.suppress(ValueError):
                    kept |= set(json.loads(os.pread(fd, os.fstat(fd).st_size, 0)))
            finally:
                os.close(fd)
    return leases, kept
