"""Clocks that the run sets: a shim under a member's C library adds to what the kernel says.

It reaches what asks the C library, as CPython does. Go programs ask the kernel themselves, so real etcd cannot be fooled this way; and the machine's own
clock is not ours to change. A time namespace would shift the monotonic clock only, and only at a start.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

_SHIFTS = struct.Struct("=qq")


def build(directory: Path) -> Path:
    """Compile the shim; returns the library's path."""
    library = directory / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return library


class Clock:
    """One member's clocks: seconds by which they are ahead of the machine's."""

    def __init__(self, path: Path, library: Path) -> None:
        self._path = path
        self.wall = self.monotonic = 0.0
        path.write_bytes(_SHIFTS.pack(0, 0))
        self.environment = {"LD_PRELOAD": str(library), "ROBUSTNESS_CLOCK": str(path)}

    def jump(self, *, wall: float = 0.0, monotonic: float = 0.0) -> None:
        """Move them, the monotonic one only forwards: that is all that it promises itself."""
        assert monotonic >= 0
        self.wall += wall
        self.monotonic += monotonic
        with self._path.open("r+b") as file:
            file.write(_SHIFTS.pack(int(self.wall * 1e9), int(self.monotonic * 1e9)))
