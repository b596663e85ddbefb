"""Unix sockets whose paths are too long for the kernel (107 bytes): reached through a descriptor of their folder."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

LONGEST = 107


class ShortPath:
    """`path` is a name of the socket that fits, good until :meth:`close`. A context manager too. OSError where there is no such folder."""

    def __init__(self, path: str | Path) -> None:
        self._fd = -1
        self.path = str(path)
        if len(os.fsencode(self.path)) > LONGEST:
            folder, name = os.path.split(self.path)
            self._fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.path = f"/proc/self/fd/{self._fd}/{name}"

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
