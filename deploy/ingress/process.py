"""Running HAProxy: one master, told to read its files anew; its workers hand their listeners on, and the old ones finish what they have begun."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger

log = get_logger("ingress.haproxy")


class Refused(Exception):
    """HAProxy does not take a configuration; the text holds its words."""


class HAProxy:
    """`folder` holds its files. Run :meth:`run` as a task."""

    def __init__(self, folder: Path, program: str = "haproxy") -> None:
        self.folder, self._program = folder, program
        self._written: dict[str, bytes] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()

    async def apply(self, files: dict[str, bytes]) -> bool:
        """Bring the files into effect; False where they are in effect already. Raises Refused, and leaves everything as it was."""
        if files == self._written:
            return False
        before = self._written
        self._write(files)
        code, words = await self._check()
        if code != 0:
            self._write(before)
            raise Refused(words)
        for name in before.keys() - files.keys():
            (self.folder / name).unlink(missing_ok=True)
        self._written = dict(files)
        self._ready.set()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGUSR2)
        return True

    def _write(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            path = self.folder / f".{name}.new"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
            path.rename(self.folder / name)

    async def _check(self) -> tuple[int, str]:
        checked = await asyncio.create_subprocess_exec(
            self._program,
            "-c",
            "-f",
            str(self.folder / "haproxy.cfg"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, words = await checked.communicate()
        return checked.returncode or 0, words.decode(errors="replace").strip()[-2000:]

    async def run(self) -> None:
        """Keep it running until cancelled."""
        await self._ready.wait()
        backoff = Backoff(base=0.2, limit=10)
        while True:
            process = self._process = await asyncio.create_subprocess_exec(
                self._program, "-W", "-db", "-f", str(self.folder / "haproxy.cfg"), stdin=asyncio.subprocess.DEVNULL
            )
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                # Soft stop: what is being answered is finished, for as long as the pod is given.
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGUSR1)
                await process.wait()
                raise
            finally:
                self._process = None
            log.error("haproxy ended, starting it again", status=code)
            await asyncio.sleep(backoff.next())
