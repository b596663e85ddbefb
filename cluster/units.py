"""What the supervisor keeps alive: processes that others forked for it, and daemons that are to run for as long as their node does.

:class:`ForkClient` is the supervisor's side of a fork server (see :mod:`zygote`). It knows of every death twice: from the server, with the exit status, and
by the process's pidfd, which still tells when the server itself has died.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeling.cluster import channel
from kubeling.cluster.state import Process, host_pid, identify
from kubeling.cluster.topology import Daemon
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger

log = get_logger("cluster.units")

#: A daemon that ran this long is taken to have recovered: its next restart comes at once again.
HEALTHY_SECONDS = 10.0
STOP_SECONDS = 8.0
#: A log that has grown beyond this is started anew when its daemon is; the old one is kept once.
LOG_BYTES = 16 * 1024 * 1024


class ForkFailed(Exception):
    """The fork server could not start a process. `missing` says that there is no such module, so that trying again is vain."""

    def __init__(self, text: str, *, missing: bool = False) -> None:
        super().__init__(text)
        self.missing = missing


@dataclass(slots=True)
class Running:
    """A process that a fork server started for us. `exited` holds its exit status (negative: a signal), None where nobody could tell."""

    process: Process
    pidfd: int
    exited: asyncio.Future[int | None]

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal; a process that has gone is as good."""
        with contextlib.suppress(ProcessLookupError, OSError):
            signal.pidfd_send_signal(self.pidfd, number)

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM, and SIGKILL when that has not helped after `seconds`; returns when it is gone."""
        if not self.exited.done():
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)
            await asyncio.wait([self.exited], timeout=seconds)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if not self.exited.done():
            self.signal(signal.SIGKILL)
            await asyncio.wait([self.exited])


class ForkClient:
    """Asks the fork server at the other end of `sock` for processes and follows their lives."""

    def __init__(self, sock: socket.socket, changed: Callable[[], None]) -> None:
        self._sock = sock
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._answers: dict[int, tuple[str, asyncio.Future[Running]]] = {}
        self._events: dict[str, asyncio.Future[dict[str, Any]]] = {}
        #: By the number that the server knows a process by; :attr:`Running.pid` is that of the host.
        self.running: dict[int, Running] = {}
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(sock.fileno(), self._readable)

    def warm(self, modules: Sequence[str]) -> None:
        """Have `modules` imported when there is nothing else to do."""
        channel.send(self._sock, {"op": "warm", "modules": list(modules)})

    def event(self, name: str) -> asyncio.Future[dict[str, Any]]:
        """The next event `name` (or `failed`) from the other side; cancelled when that is lost."""
        return self._events.setdefault(name, self._loop.create_future())

    def tell(self, message: dict[str, Any]) -> None:
        channel.send(self._sock, message)

    async def fork(self, message: dict[str, Any], fds: Sequence[int], what: str) -> Running:
        """Start a process. Raises ForkFailed."""
        if self.lost.done():
            raise ForkFailed("the fork server has gone")
        number = next(self._ids)
        answer: asyncio.Future[Running] = self._loop.create_future()
        self._answers[number] = (what, answer)
        try:
            channel.send(self._sock, {**message, "id": number}, fds)
        except OSError as error:
            del self._answers[number]
            raise ForkFailed(f"the fork server has gone: {error}") from error
        return await answer

    def _readable(self) -> None:
        received = channel.receive(self._sock)
        if received is None:
            self._lose()
            return
        message, fds = received
        if message.get("event") == "exit":
            self._gone(message["pid"], message["status"])
        elif "event" in message:
            for name in (message["event"], *(self._events if message["event"] == "failed" else ())):
                future = self._events.pop(name, None)
                if future is not None and not future.done():
                    future.set_result(message)
        else:
            self._answered(message, fds)

    def _answered(self, message: dict[str, Any], fds: list[int]) -> None:
        what, answer = self._answers.pop(message["id"])
        if "pid" in message:
            running = Running(identify(host_pid(fds[0]), what), fds[0], self._loop.create_future())
            self.running[message["pid"]] = running
            self._changed()
            if answer.cancelled():
                # Whoever asked has changed its mind meanwhile.
                running.signal(signal.SIGKILL)
            else:
                answer.set_result(running)
        elif not answer.cancelled():
            answer.set_exception(ForkFailed(message["error"], missing=bool(message.get("missing"))))

    def _gone(self, pid: int, status: int | None) -> None:
        running = self.running.pop(pid, None)
        if running is None:
            return
        self._loop.remove_reader(running.pidfd)
        os.close(running.pidfd)
        running.pidfd = -1
        running.exited.set_result(status)
        self._changed()

    def _lose(self) -> None:
        """The server died. What it forked lives on; from now on their pidfds tell of their ends."""
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for _, answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ForkFailed("the fork server died"))
        self._answers.clear()
        for event in self._events.values():
            if not event.done():
                event.set_result({"event": "failed", "error": "the process died"})
        self._events.clear()
        for pid, running in list(self.running.items()):
            self._loop.add_reader(running.pidfd, self._orphan_gone, pid)
        if not self.lost.done():
            self.lost.set_result(None)

    def _orphan_gone(self, pid: int) -> None:
        status = None
        with contextlib.suppress(ChildProcessError):
            # We are the subreaper: it has become our child.
            found = os.waitid(os.P_PIDFD, self.running[pid].pidfd, os.WEXITED | os.WNOHANG)
            if found is not None:
                status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        self._gone(pid, status)

    def close(self) -> None:
        """Hang up: the server ends."""
        if not self.lost.done():
            self._lose()


def open_log(path: Path) -> int:
    """A descriptor that appends to the log at `path`, which is put aside first when it has grown too long."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


@dataclass(slots=True)
class Unit:
    """One daemon that is to run. `state` is one of waiting, running, backoff, missing, stopped."""

    daemon: Daemon
    start: Callable[[Daemon], Any]
    state: str = "waiting"
    restarts: int = 0
    since: float = 0.0
    last_exit: str = ""
    running: Running | None = None
    paused: bool = False
    #: Set when it has been started once, or cannot be.
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Run and restart from now on."""
        if self._task is None or self._task.done():
            self.tried.clear()
            self._task = asyncio.get_running_loop().create_task(self._keep(), name=self.daemon.key)

    def hold(self) -> None:
        """No more restarts; what runs is left to run."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def end(self, *, kill: bool = False) -> None:
        """No more restarts, and stop what runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self.running is not None:
            await (self.running.kill() if kill else self.running.stop())
            self.running = None
        if self.state != "missing":
            self.state = "stopped"

    async def _keep(self) -> None:
        backoff = Backoff(base=0.1, limit=30)
        while True:
            try:
                self.running = await self.start(self.daemon)
            except ForkFailed as error:
                self.last_exit = str(error)
                self.tried.set()
                if error.missing:
                    self.state = "missing"
                    return
                log.warning("a daemon could not be started", daemon=self.daemon.key, error=error)
            else:
                self.state, self.since, self.paused = "running", time.monotonic(), False
                self.tried.set()
                status = await asyncio.shield(self.running.exited)
                self.running = None
                self.last_exit = describe(status)
                if time.monotonic() - self.since > HEALTHY_SECONDS:
                    backoff.reset()
                log.warning("a daemon ended", daemon=self.daemon.key, how=self.last_exit)
            self.state = "backoff"
            self.restarts += 1
            await asyncio.sleep(backoff.next())


def describe(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "ended, nobody knows how"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
        return f"killed by signal {-status}"
    return f"exit status {status}"
