"""Commands run in containers, and clients attached to them.

The daemon makes the pipes (or asks for a terminal), the keeper forks. A :class:`Session` is both ends of that; ExecSync collects one's output,
the streaming server carries it to a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import struct
import termios
from collections.abc import Awaitable, Callable, Mapping

from kubeling.crilite.core import Core
from kubeling.crilite.errors import CriError, DeadlineExceeded, FailedPrecondition
from kubeling.crilite.keeper_client import KeeperError
from kubeling.crilite.records import RUNNING

#: What ExecSync returns of both streams together at most: it has to go into one message of CRI, which may have 16 MiB.
MAX_OUTPUT = (16 << 20) - 4096
#: Of that, what each command has for sure; the rest comes out of what all of them have together, so that commands that write without end, of however many
#: containers, do not fill the daemon.
_SURE_OUTPUT = 64 << 10
_SHARED_OUTPUT = 32 << 20
_READ = 65536

Sink = Callable[[bytes], Awaitable[None]]


class Session:
    """A command that runs: its streams, and its exit code once it has one. Close it in any case."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.stdin = -1
        self.outputs: dict[str, int] = {}
        self.terminal = False

    def resize(self, width: int, height: int) -> None:
        if self.terminal and self.stdin >= 0:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def write(self, data: bytes) -> None:
        """To the command's standard input; what nobody reads any more is dropped."""
        view = memoryview(data)
        loop = asyncio.get_running_loop()
        while view and self.stdin >= 0:
            try:
                view = view[os.write(self.stdin, view) :]
            except BlockingIOError:
                writable = asyncio.Event()
                fd = self.stdin
                loop.add_writer(fd, writable.set)
                try:
                    await writable.wait()
                finally:
                    loop.remove_writer(fd)
            except OSError:
                self.close_stdin()
                return

    def close_stdin(self) -> None:
        if self.stdin >= 0 and not self.terminal:
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        fds = {fd for fd in (self.stdin, *self.outputs.values()) if fd >= 0}
        self.stdin = -1
        self.outputs.clear()
        for fd in fds:
            os.close(fd)


class Outputs:
    """What ExecSync holds of commands that have not been answered yet."""

    def __init__(self, shared: int = _SHARED_OUTPUT) -> None:
        self._left = shared

    def keep(self, streams: Mapping[str, bytearray], name: str, data: bytes) -> None:
        """Add to the stream `name` of a command what there is room for; the rest is dropped."""
        held = streams[name]
        most = MAX_OUTPUT - sum(len(each) for each in streams.values())
        room = min(most, max(0, _SURE_OUTPUT - len(held)) + self._left, len(data))
        self._left += _shared(len(held)) - _shared(len(held) + room)
        held += data[:room]

    def release(self, held: bytearray) -> None:
        self._left += _shared(len(held))
        held.clear()


def _shared(length: int) -> int:
    return max(0, length - _SURE_OUTPUT)


class Execs:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._sessions: dict[str, Session] = {}
        self._outputs = Outputs()

    def check(self, container: str) -> None:
        if self._core.container(container).record.phase != RUNNING:
            raise FailedPrecondition(f"container {container!r} is not running")

    def ended(self, name: str, code: int) -> None:
        """The keeper reports the end of a command."""
        session = self._sessions.pop(name, None)
        if session is not None and not session.exited.done():
            session.exited.set_result(code)

    def all_lost(self) -> None:
        """The keeper is gone: nobody will ever say how these ended."""
        for name in list(self._sessions):
            self.ended(name, 255)

    async def run_sync(self, container: str, command: list[str], timeout: float) -> tuple[int, bytes, bytes]:
        """Run `command` to its end; its exit code, standard output and standard error. After `timeout` seconds (0: never) it is killed."""
        session = await self.start(container, command, stdin=False, tty=False)
        collected: dict[str, bytearray] = {name: bytearray() for name in session.outputs}

        def collect(name: str) -> Sink:
            async def keep(data: bytes) -> None:
                self._outputs.keep(collected, name, data)

            return keep

        try:
            async with asyncio.timeout(timeout or None):
                await self.pump(session, {name: collect(name) for name in session.outputs})
                code = await session.exited
            return code, bytes(collected["stdout"]), bytes(collected["stderr"])
        except TimeoutError:
            await self.kill(session)
            raise DeadlineExceeded(f"command {command!r} timed out after {timeout} s") from None
        except asyncio.CancelledError:
            await asyncio.shield(self.kill(session))
            raise
        finally:
            session.close()
            for held in collected.values():
                self._outputs.release(held)

    async def start(self, container: str, command: list[str], *, stdin: bool, tty: bool) -> Session:
        """Run `command` beside the container's own process."""
        self.check(container)
        if not command:
            raise CriError("no command is given")
        spec = json.loads((self._core.container_state(container) / "spec.json").read_bytes())
        spec |= {"args": command, "tty": tty}
        spec.pop("mounts")
        session = Session(secrets.token_hex(8))
        self._sessions[session.name] = session
        passed: list[int] = []
        try:
            passed.append(_memory_file(json.dumps(spec).encode()))
            if not tty:
                passed += self._make_pipes(session, stdin)
            _, back = await self._core.keeper.request("exec", passed, container=container, session=session.name)
            if back:
                session.stdin, session.terminal = back[0], True
                session.outputs["stdout"] = back[0]
        except BaseException as error:
            self._sessions.pop(session.name, None)
            session.close()
            if isinstance(error, KeeperError):
                raise CriError(f"cannot run {command[0]!r} in container {container}: {error}") from error
            raise
        finally:
            for fd in passed:
                os.close(fd)
        return session

    @staticmethod
    def _make_pipes(session: Session, stdin: bool) -> list[int]:
        if stdin:
            first, session.stdin = os.pipe()
            os.set_blocking(session.stdin, False)
        else:
            first = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        session.outputs["stdout"], stdout = os.pipe()
        session.outputs["stderr"], stderr = os.pipe()
        return [first, stdout, stderr]

    async def attach(self, container: str, *, stdin: bool) -> Session:
        """The streams of the container's own process; the session's `exited` is done when the container ends."""
        self.check(container)
        one = self._core.container(container)
        session = Session("")
        passed: list[int] = []
        try:
            for name in ("stdout",) if one.config.tty else ("stdout", "stderr"):
                session.outputs[name], write = os.pipe()
                passed.append(write)
            _, back = await self._core.keeper.request("attach", passed, container=container)
            if back:
                session.stdin, session.terminal = back[0], True
            elif stdin and one.config.stdin:
                path = self._core.container_state(container) / "stdin"
                session.stdin = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except BaseException:
            session.close()
            raise
        finally:
            for fd in passed:
                os.close(fd)
        return session

    async def pump(self, session: Session, sinks: dict[str, Sink]) -> None:
        """Carry each output to its sink until the command has ended and what it had written is read.

        A process that it left behind may hold the pipe open for ever, so the end of the command counts, not the end of the stream.
        """
        async with asyncio.TaskGroup() as group:
            for name, fd in list(session.outputs.items()):
                group.create_task(_carry(fd, session.exited, sinks[name]))

    async def kill(self, session: Session) -> None:
        with contextlib.suppress(KeeperError):
            await self._core.keeper.request("kill-session", session=session.name, signal=int(signal.SIGKILL))

    async def container_stdin_closed(self, container: str) -> None:
        """The one client that `stdinOnce` waits for has gone."""
        with contextlib.suppress(KeeperError):
            await self._core.keeper.request("close-stdin", container=container)


async def _carry(fd: int, ended: asyncio.Future[int], sink: Sink) -> None:
    """Read `fd` until its end, or until `ended` and nothing more is there."""
    os.set_blocking(fd, False)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    wake = lambda _future: readable.set()  # noqa: E731
    ended.add_done_callback(wake)
    try:
        while True:
            try:
                data = os.read(fd, _READ)
            except BlockingIOError:
                if ended.done():
                    return
                readable.clear()
                await readable.wait()
                continue
            except OSError:
                return  # A terminal whose last user has gone.
            if not data:
                return
            await sink(data)
            # A command that writes faster than this reads must not keep everybody else from being served.
            await asyncio.sleep(0)
    finally:
        loop.remove_reader(fd)
        ended.remove_done_callback(wake)


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("spec", os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd
