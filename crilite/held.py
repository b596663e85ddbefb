"""What the keeper holds: a running container with its pipes and its log, a command run by exec, and a child that is still being set up."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubeling.crilite.crilog import CriLog

_READ = 65536
_READS_A_TURN = 4
#: What an attached client may lag behind before it is cut off, in bytes.
_MAX_LAG = 1 << 20

#: Set aside on disk when a container starts, so that its end can be written down although the disk is full by then.
_ROOM = b" " * 512

_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3


def exit_code(status: int) -> int:
    """The code that is reported for a wait status: 128 + N for death by signal N."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def wait_pidfd_exit(pidfd: int) -> int | None:
    """The exit code of an ended process that was not our child, from kernels that tell it (6.15 and later)."""
    # struct pidfd_info: u64 mask, u64 cgroupid, 11 u32 ids, s32 exit_code: 64 bytes in its first version.
    buffer = bytearray(struct.pack("=Q", _PIDFD_INFO_EXIT) + b"\0" * 56)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    except OSError:
        return None
    mask = struct.unpack_from("=Q", buffer)[0]
    return exit_code(struct.unpack_from("=i", buffer, 60)[0]) if mask & _PIDFD_INFO_EXIT else None


def process_start(pid: int) -> str:
    """The moment a process began, in ticks since boot: with the pid, a name that is never used twice. Empty for no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def write_atomically(path: str, data: bytes, *, settled: bool = True) -> None:
    """All of `data` or the old content, whatever happens in between.

    Without `settled` that holds against the death of any process, but not when the machine loses its power within the next seconds: the file may be
    empty then.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            view = memoryview(data)
            while view:  # A disk that is nearly full takes a part.
                view = view[os.write(fd, view) :]
            if settled:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_in_place(path: str, data: bytes) -> None:
    """Overwrite the file at `path`, which has as much room as is needed, and then has the content's own length. What is there must not be needed any more."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def short_path(folder: str) -> Iterator[str]:
    """Another name for `folder` that is short: the path of a Unix socket may only have 107 bytes."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


class _Sink:
    """Where an attached client reads a container's output."""

    def __init__(self, selector: selectors.BaseSelector, fd: int) -> None:
        self._selector, self.fd, self._waiting = selector, fd, b""
        os.set_blocking(fd, False)

    def write(self, data: bytes) -> bool:
        """False when the client is gone or lags too far behind."""
        if self._waiting:
            self._waiting += data
            return len(self._waiting) <= _MAX_LAG
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        if sent < len(data):
            self._waiting = data[sent:]
            self._selector.register(self.fd, selectors.EVENT_WRITE, self._more)
        return True

    def _more(self) -> None:
        try:
            self._waiting = self._waiting[os.write(self.fd, self._waiting) :]
        except BlockingIOError:
            return
        except OSError:
            self._waiting = b""
        if not self._waiting:
            self._selector.unregister(self.fd)

    def close(self) -> None:
        if self._waiting:
            self._selector.unregister(self.fd)
            with contextlib.suppress(OSError):
                os.write(self.fd, self._waiting)
        os.close(self.fd)


class Held:
    """A container. Its directory has ``pid`` from just before its program runs, and ``exit`` from its end."""

    def __init__(self, name: str, folder: str, spec: dict[str, Any]) -> None:
        self.name = name
        self.folder = folder
        self.pid = 0
        self.pidfd = -1
        self.start = ""
        self.terminal = -1
        self.stdin = -1
        self.began = time.time_ns()
        self.oom_file: str = spec["oom_file"]
        self.log = CriLog("")
        self._log_path: str = spec["log_path"]
        self._tty: bool = spec["tty"]
        self._wants_stdin: bool = spec["stdin"]
        self._outputs: dict[int, str] = {}
        self._sinks: dict[str, list[_Sink]] = {"stdout": [], "stderr": []}
        self._marker: str = spec.get("marker", "")

    @classmethod
    def from_disk(cls, name: str, folder: str) -> Held | None:
        """A container that ran when the last keeper died, or None. Called once, by a keeper that starts."""
        if os.path.exists(os.path.join(folder, "exit")) or not os.path.exists(os.path.join(folder, "pid")):
            return None
        with open(os.path.join(folder, "pid"), "rb") as file:
            record = json.load(file)
        spec = {"log_path": "", "tty": False, "stdin": False, "oom_file": ""}
        with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, "spec.json"), "rb") as file:
            spec = json.load(file)
        held = cls(name, folder, spec)
        held.pid, held.start, held.began = record["pid"], record["start"], record["began"]
        held.open_log()
        if spec["log_path"] and not spec["tty"]:
            # They may just be going, with a container that is being removed: it is taken over all the same, so that it can be ended.
            with contextlib.suppress(FileNotFoundError):
                held.open_fifos()
        return held

    def is_same_process(self) -> bool:
        return process_start(self.pid) == self.start != ""

    def open_log(self) -> None:
        """To be called before its program runs."""
        self.log = CriLog(self._log_path)

    # -- pipes ---------------------------------------------------------------------------------------------------------------------------------

    def fifo_paths(self) -> tuple[str, str, str]:
        stdin = os.path.join(self.folder, "stdin") if self._wants_stdin else ""
        return stdin, os.path.join(self.folder, "stdout"), os.path.join(self.folder, "stderr")

    def make_fifos(self) -> None:
        if self._tty:
            return
        for path in filter(None, self.fifo_paths()):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(path, 0o600)
        self.open_fifos()

    def open_fifos(self) -> None:
        stdin, stdout, stderr = self.fifo_paths()
        if stdin:
            self.stdin = os.open(stdin, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        for path, name in ((stdout, "stdout"), (stderr, "stderr")):
            self._outputs[os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)] = name

    def use_terminal(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.terminal = fd
        self._outputs[fd] = "stdout"

    def close_stdin(self) -> None:
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def listen(self, selector: selectors.BaseSelector) -> None:
        for fd in self._outputs:
            selector.register(fd, selectors.EVENT_READ, lambda fd=fd: self._read(selector, fd))

    def _read(self, selector: selectors.BaseSelector, fd: int, reads: int = _READS_A_TURN) -> None:
        stream = self._outputs[fd]
        for _ in range(reads):
            try:
                data = os.read(fd, _READ)
            except BlockingIOError:
                return
            except OSError:
                data = b""  # A terminal whose last user has closed it answers EIO.
            if not data:
                selector.unregister(fd)
                return
            self.log.feed(stream, data, time.time_ns())
            for sink in self._sinks[stream][:]:
                if not sink.write(data):
                    self._sinks[stream].remove(sink)
                    sink.close()

    def attach(self, selector: selectors.BaseSelector, fds: list[int]) -> None:
        """`fds`: stdout and stderr, or only stdout."""
        for stream, fd in zip(("stdout", "stderr"), fds, strict=False):
            self._sinks[stream].append(_Sink(selector, fd))

    # -- life ----------------------------------------------------------------------------------------------------------------------------------

    def started(self, said: dict[str, Any]) -> None:
        """The child is ready and may go on: put it on record before."""
        self.open_log()
        self.start = process_start(self.pid)
        self.began = time.time_ns()
        record = {"pid": self.pid, "start": self.start, "began": self.began, "user": said.get("uid"), "said": said}
        with open(os.path.join(self.folder, "exit.room"), "wb") as file:
            file.write(_ROOM)
        # It is of use only for as long as the process lives.
        write_atomically(os.path.join(self.folder, "pid"), json.dumps(record).encode(), settled=False)
        owner = said.get("owner", said.get("uid"))
        if owner and not self._tty and os.getuid() == 0:
            # So that the container's user can open /dev/stdout anew.
            for path in filter(None, self.fifo_paths()):
                with contextlib.suppress(OSError):
                    os.chown(path, owner, -1)

    def kill(self, number: int, *, everything: bool = False) -> None:
        """Signal the first process; with `everything` also its process group, and what carries its mark (containers without namespaces)."""
        if everything and self._marker:
            for pid in _marked(self._marker):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)
        elif self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def finish(self, selector: selectors.BaseSelector, code: int, reason: str = "") -> dict[str, Any]:
        """The process has ended: take in what it has still written, put its end on record, and let go of everything."""
        if self._marker:
            self.kill(signal.SIGKILL, everything=True)
        registered = selector.get_map()
        for fd, stream in self._outputs.items():
            if fd in registered:
                self._read(selector, fd, reads=1 << 30)
            self.log.finish(stream, time.time_ns())
        if not reason:
            reason = "OOMKilled" if code and self._oom_killed() else ("Completed" if code == 0 else "Error")
        record = {"code": code, "reason": reason, "began": self.began, "ended": time.time_ns()}
        try:
            self._write_end(json.dumps(record).encode())
        except FileNotFoundError:
            pass  # Its folder is gone: it is being removed.
        except OSError:
            # It is told all the same; only a daemon that is away just now will not learn it.
            traceback.print_exc()
            sys.stderr.flush()
        self.discard(selector)
        return record

    def _write_end(self, data: bytes) -> None:
        room, path = os.path.join(self.folder, "exit.room"), os.path.join(self.folder, "exit")
        try:
            write_in_place(room, data)
        except FileNotFoundError:
            write_atomically(path, data)  # A process that only holds a namespace, or one that an older keeper has started.
        else:
            os.rename(room, path)

    def _oom_killed(self) -> bool:
        """Whether the kernel has killed in this container's memory cgroup. To be read before the cgroup goes."""
        if not self.oom_file:
            return False
        with contextlib.suppress(OSError), open(self.oom_file) as file:
            for line in file:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count) > 0
        return False

    def discard(self, selector: selectors.BaseSelector) -> None:
        registered = selector.get_map()
        for fd in self._outputs:
            if fd in registered:
                selector.unregister(fd)
            os.close(fd)
        self._outputs.clear()
        for sinks in self._sinks.values():
            for sink in sinks:
                sink.close()
            sinks.clear()
        self.close_stdin()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self.log.close()


def _marked(marker: str) -> list[int]:
    """The processes whose environment carries `marker`: how the descendants of a container without a pid namespace are found."""
    wanted, found = marker.encode(), []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(int(name))
    return found


@dataclass(eq=False, slots=True)
class Session:
    """A command run by exec."""

    name: str
    pid: int
    client: Any

    def kill(self, number: int) -> None:
        for target in (-self.pid, self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(target, number)


@dataclass(eq=False, slots=True)
class Launch:
    """A child between fork and exec; or a helper, which has somebody else start what is wanted and ends then.

    One that has only been prepared for is not `wanted` yet: it waits when it is ready, and nobody is told when it fails.
    """

    pid: int
    sock: socket.socket
    client: Any
    request: int
    wanted: bool = True
    held: Held | None = None
    session: Session | None = None
    said: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
    terminal: int = -1
    status: int | None = None
    helper: bool = False
