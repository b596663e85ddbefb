"""A member's disk, as the run has it in hand: the process behind `lossy_disk` and its commands."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

_ANSWER_SECONDS = 20.0


class Storage:
    """One lossy disk, mounted at `path` until the process ends."""

    def __init__(self, path: Path, process: asyncio.subprocess.Process) -> None:
        self.path, self._process = path, process

    @classmethod
    async def mount(cls, path: Path, *, names_follow_files: bool = False) -> Storage:
        command = [sys.executable, "-m", "tests.robustness.lossy_disk", str(path)]
        process = await asyncio.create_subprocess_exec(
            *command,
            *(["--names-follow-files"] if names_follow_files else []),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        storage = cls(path, process)
        assert (await storage._answer())["ready"]
        return storage

    async def power_failure(self, seed: str | None = None) -> dict[str, Any]:
        """Lose what was not fsynced; with a seed, any part of it. To be called when nobody uses the disk any more."""
        return await self._do({"do": "power failure", "seed": seed})

    async def set(self, **how: float) -> dict[str, Any]:
        """Change how it fails: fsync_error (an errno), capacity (bytes), fsync_seconds."""
        return await self._do({"do": "set"} | how)

    async def close(self) -> None:
        """Unmount it, and end the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _do(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(_ANSWER_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise OSError(f"the disk at {self.path} has ended with {await self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
