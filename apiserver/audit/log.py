"""The file that audit events go to, a line of JSON each; it is put away when it has grown, and old ones are removed."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("audit")
_STAMP = "%Y-%m-%dT%H-%M-%S.%f"


class AuditLog:
    """`-` is the standard output. Sizes in MB, ages in days; 0 is without bound."""

    def __init__(self, path: str, clock: Clock, *, max_size: int = 0, max_age: int = 0, max_backups: int = 0) -> None:
        self._path = path
        self._clock = clock
        self._max_bytes = max_size * 1024 * 1024
        self._max_age = max_age
        self._max_backups = max_backups
        self._file: BinaryIO | None = None
        self._size = 0
        self._failed = False

    def write(self, line: bytes) -> None:
        """Append a line. A disk that is full costs events, and says so once; it does not cost requests."""
        try:
            if self._file is None:
                self._open()
            elif self._max_bytes and self._size + len(line) > self._max_bytes and self._path != "-":
                self._put_away()
                self._open()
            assert self._file is not None
            self._file.write(line)
            self._size += len(line)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("audit events are lost", path=self._path, error=str(error))
            self._failed = True

    def close(self) -> None:
        if self._file is not None and self._path != "-":
            self._file.close()
        self._file = None

    def _open(self) -> None:
        if self._path == "-":
            self._file = sys.stdout.buffer.raw if hasattr(sys.stdout.buffer, "raw") else sys.stdout.buffer
            return
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(descriptor, "ab", buffering=0)
        self._size = os.fstat(descriptor).st_size

    def _put_away(self) -> None:
        self.close()
        path = Path(self._path)
        stamp = self._clock.now().strftime(_STAMP)[:-3]
        path.rename(path.with_name(f"{path.stem}-{stamp}{path.suffix}"))
        self._forget(path)

    def _forget(self, path: Path) -> None:
        """Remove what is too old, and what is too many."""
        kept = sorted(self._backups(path), reverse=True)
        oldest = self._clock.now() - timedelta(days=self._max_age)
        for number, (stamp, each) in enumerate(kept):
            if (self._max_backups and number >= self._max_backups) or (self._max_age and stamp < oldest):
                each.unlink(missing_ok=True)

    def _backups(self, path: Path) -> list[tuple[datetime, Path]]:
        found = []
        for each in path.parent.glob(f"{path.stem}-*{path.suffix}"):
            text = each.stem.removeprefix(f"{path.stem}-")
            try:
                moment = datetime.strptime(text + "000", _STAMP).replace(tzinfo=self._clock.now().tzinfo)
            except ValueError:
                continue  # Somebody else's file.
            found.append((moment, each))
        return found
