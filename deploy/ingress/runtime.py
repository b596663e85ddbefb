"""HAProxy's runtime API: commands on its Unix socket, and word of the service manager's kind (sd_notify) when a reload has been done."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from kubeling.deploy.ingress.slots import Server, Slots

#: At once, on one line.
_MOST = 50
_PATIENCE = 10.0
#: SRV_ADMF_FMAINT, IMAINT and RMAINT of HAProxy's srv_admin_state.
_MAINTENANCE = 0x23


class Silent(OSError):
    """HAProxy does not answer, or is not what we left."""


async def tell(path: Path, commands: Sequence[str]) -> str:
    """Say `commands`; returns what was answered. Raises OSError."""
    answers = []
    for start in range(0, len(commands), _MOST):
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_unix_connection(path)
                with contextlib.closing(writer):
                    writer.write((";".join(commands[start : start + _MOST]) + "\n").encode())
                    answers.append((await reader.read(-1)).decode(errors="replace"))
        except TimeoutError:
            raise Silent(0, f"no answer at {path}") from None
    return "".join(answers)


async def servers(path: Path) -> dict[str, tuple[Server | None, ...]]:
    """The slots as the running HAProxy has them."""
    return read_servers(await tell(path, ["show servers state"]))


def read_servers(said: str) -> dict[str, tuple[Server | None, ...]]:
    """From the answer to `show servers state`, version 1: a head with the columns' names, then a line a server."""
    lines = [line.split() for line in said.splitlines() if line.strip()]
    if not lines or lines[0] != ["1"] or lines[1][:1] != ["#"]:
        raise Silent(0, f"servers in no known form: {said[:100]!r}")
    columns = {name: place for place, name in enumerate(lines[1][1:])}
    found: dict[str, list[Server | None]] = {}
    for line in lines[2:]:
        closed = int(line[columns["srv_admin_state"]]) & _MAINTENANCE
        place = None if closed else (line[columns["srv_addr"]], int(line[columns["srv_port"]]))
        found.setdefault(line[columns["be_name"]], []).append(place)
    return {name: tuple(each) for name, each in found.items()}


def agrees(found: Slots, wanted: Slots) -> bool:
    return all(found.get(name, ()) == each for name, each in wanted.items())


class Notices:
    """The socket at which HAProxy says that it is ready, again after every reload."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0
        self._heard = asyncio.Event()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        self.path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as listener:
            listener.bind(str(self.path))
            loop = asyncio.get_running_loop()
            loop.add_reader(listener, self._read, listener)
            try:
                yield
            finally:
                loop.remove_reader(listener)

    def _read(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                if b"READY=1" in listener.recv(4096).splitlines():
                    self._count += 1
                    self._heard.set()
                    self._heard = asyncio.Event()

    def expect(self) -> int:
        """To be given to :meth:`ready` for the next one."""
        return self._count

    async def ready(self, after: int) -> None:
        """Wait for a notice that comes later than :meth:`expect` was called. Raises Silent where none comes in time."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while self._count <= after:
                    await self._heard.wait()
        except TimeoutError:
            raise Silent(0, "haproxy does not say that it has read its files") from None
