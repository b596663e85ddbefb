"""Running HAProxy: one master, told to read its files anew; its workers hand their listeners on, and the old ones finish what they have begun."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.deploy.ingress.haproxy import SOCKET
from kubeling.deploy.ingress.runtime import Notices, agrees, servers, tell
from kubeling.deploy.ingress.slots import Server, Slots, assign, commands

log = get_logger("ingress.haproxy")

#: Slots → name and content of every file.
Render = Callable[[Slots], dict[str, bytes]]


class Refused(Exception):
    """HAProxy does not take a configuration; the text holds its words."""


class HAProxy:
    """`folder` holds its files. Run :meth:`run` as a task."""

    def __init__(self, folder: Path, program: str = "haproxy") -> None:
        self.folder, self._program = folder, program
        self._written: dict[str, bytes] = {}
        self._shape: dict[str, bytes] = {}
        self._slots: Slots = {}
        #: While it is ready.
        self.process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._lock = asyncio.Lock()
        self._notices = Notices(folder / "notify.sock")
        #: How often it was told to read its files anew, and how often servers were changed while it ran.
        self.reloads, self.updates = 0, 0
        self.starts = 0

    async def apply(self, render: Render, wanted: Mapping[str, Sequence[Server]]) -> bool:
        """Bring files and servers into effect; False where they are in effect already. Raises Refused, and leaves everything as it was.

        `render` makes the files for given slots. Where only servers differ, the running HAProxy is told so; its files are written all the same, since
        it may end and be started again.
        """
        async with self._lock:
            return await self._apply(render, wanted)

    async def _apply(self, render: Render, wanted: Mapping[str, Sequence[Server]]) -> bool:
        slots = assign(self._slots, wanted)
        files, shape = render(slots), render({name: (None,) * len(each) for name, each in slots.items()})
        if files == self._written:
            return False
        if shape == self._shape and self.process is not None:
            self._write(files)
            self._written, before, self._slots = dict(files), self._slots, slots
            if await self._told(before, slots):
                return True
        else:
            before_files = self._written
            self._write(files)
            code, words = await self._check()
            if code != 0:
                self._write(before_files)
                raise Refused(words)
            for name in before_files.keys() - files.keys():
                (self.folder / name).unlink(missing_ok=True)
            self._written, self._shape, self._slots = dict(files), shape, slots
        self._ready.set()
        await self._reload()
        return True

    async def _told(self, before: Slots, after: Slots) -> bool:
        """Tell the running HAProxy; whether it has it all."""
        path = self.folder / SOCKET
        try:
            await tell(path, commands(before, after))
            if agrees(await servers(path), after):
                self.updates += 1
                return True
            log.warning("the servers are not what we made them, reading the files anew")
        except OSError as error:
            log.warning("cannot change the servers, reading the files anew", error=str(error))
        return False

    async def _reload(self) -> None:
        """Returns when the new workers are there: what is said before would be said to the old ones."""
        if self.process is None:
            return
        before = self._notices.expect()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR2)
        self.reloads += 1
        try:
            await self._notices.ready(before)
        except OSError:
            # It is not known what is in effect: the next change has to be a reload.
            self._shape = {}
            raise

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
        with self._notices.listening():
            while True:
                await self._serve()
                log.error("haproxy ended, starting it again")
                await asyncio.sleep(backoff.next())

    async def _serve(self) -> None:
        """One HAProxy, until it ends."""
        environment = {**os.environ, "NOTIFY_SOCKET": str(self._notices.path)}
        command = [self._program, "-Ws", "-db", "-f", str(self.folder / "haproxy.cfg")]
        process = None
        try:
            # Files that are written while it reads them would be in effect or not.
            async with self._lock:
                before = self._notices.expect()
                process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, env=environment)
                await self._notices.ready(before)
                self.process = process
                self.starts += 1
            await process.wait()
        except OSError as error:
            log.error("haproxy does not start", error=str(error))
        finally:
            self.process = None
            if process is not None:
                # Soft stop: what is being answered is finished, for as long as the pod is given.
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGUSR1)
                await process.wait()
