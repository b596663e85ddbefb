"""``python -m tests.robustness.lossy_disk PATH``: a disk at PATH that can fail, as a process. Commands come as JSON lines on standard input, answers go to standard output.

``{"do": "power failure", "seed": null}`` loses all that was not fsynced (with a seed: any part of it) and mounts anew;
``{"do": "set", "fsync_error": 5, "capacity": 1000000, "fsync_seconds": 0.2}`` (each may be missing) changes how it fails.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import sys
from typing import Any

from .disk_image import Disk
from .fuse import Mount


class LossyDisk:
    """The disk and its present mount."""

    def __init__(self, path: str, *, names_follow_files: bool) -> None:
        self._path = path
        self._disk = Disk(names_follow_files=names_follow_files)
        self._fsync_seconds = 0.0
        self._mount = self._new_mount()

    def _new_mount(self) -> Mount:
        return Mount(self._disk, self._path, lambda: self._fsync_seconds)

    def serve(self) -> None:
        """Until standard input ends."""
        self._answer({"ready": True})
        pending = b""
        while True:
            ready, _, _ = select.select([self._mount.fd, 0], [], [])
            if self._mount.fd in ready:
                self._mount.serve_one()
            if 0 in ready:
                data = os.read(0, 65536)
                if not data:
                    break
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    self._answer(self._do(json.loads(line)))
        self._mount.close()

    def _do(self, command: dict[str, Any]) -> dict[str, Any]:
        if command["do"] == "power failure":
            self._mount.close()
            seed = command.get("seed")
            self._disk.power_failure(None if seed is None else random.Random(seed))
            self._mount = self._new_mount()
        else:
            self._disk.fsync_error = command.get("fsync_error", self._disk.fsync_error)
            self._disk.capacity = command.get("capacity", self._disk.capacity)
            self._fsync_seconds = command.get("fsync_seconds", self._fsync_seconds)
        return {"used": self._disk.used, "fsyncs": self._disk.fsyncs, "lost": self._disk.lost}

    @staticmethod
    def _answer(what: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    flags = argparse.ArgumentParser(prog="python -m tests.robustness.lossy_disk")
    flags.add_argument("path")
    flags.add_argument(
        "--names-follow-files", action="store_true", help="an fsync of a new file makes its name durable, as ext4 does it"
    )
    args = flags.parse_args()
    LossyDisk(args.path, names_follow_files=args.names_follow_files).serve()
