"""How a keeper comes to be: a program of its own, executed from a sealed copy of the interpreter.

The keeper's children enter containers before they execute what they were asked to, and for that moment ``/proc/<pid>/exe`` is a way to the file that
they run. If that were the node's own interpreter a hostile container could get hold of it and write to it later, as CVE-2019-5736 did with runc. So
they run a copy in memory that the kernel lets nobody change. Where such a file cannot be executed the interpreter itself is, and the log says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import subprocess
import sys
from collections.abc import Callable

_MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Start:
    """A keeper that is being started; call :meth:`wait` in any case."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._process, self._read = _spawn(state, sealed=True)

    def wait(self) -> None:
        """Return when it listens, or has failed."""
        listens = self._reap()
        if not listens:
            with open(os.path.join(self._state, "keeper.log"), "a") as out:
                out.write("a sealed copy of the interpreter cannot be executed here: the keeper runs the interpreter itself\n")
            self._process, self._read = _spawn(self._state, sealed=False)
            self._reap()

    def _reap(self) -> bool:
        listens = bool(os.read(self._read, 1))
        os.close(self._read)
        self._process.wait()
        return listens


def _spawn(state: str, *, sealed: bool) -> tuple[subprocess.Popen[bytes], int]:
    read, write = os.pipe()
    passed = [write]
    command = [sys.executable, "-m", "kubeling.crilite.keeper_process", state, str(write)]
    program = None
    try:
        if sealed:
            with contextlib.suppress(OSError):
                passed.append(_sealed_copy(sys.executable))
                program = f"/proc/self/fd/{passed[1]}"
        with open(os.path.join(state, "keeper.log"), "ab") as out:
            process = subprocess.Popen(
                command, executable=program, pass_fds=passed, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
    except BaseException:
        os.close(read)
        raise
    finally:
        for fd in passed:
            os.close(fd)
    return process, read


def _sealed_copy(path: str) -> int:
    """A file in memory with the content of `path`, which nobody can ever change."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("crilite-keeper", flags | _MFD_EXEC)
    except OSError:
        # Kernels before 6.3 do not know the flag, and let every such file be executed.
        fd = os.memfd_create("crilite-keeper", flags)
    try:
        with open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            done = 0
            while done < size:
                done += os.sendfile(fd, source.fileno(), done, size - done)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def serve(state: str, ready: Callable[[], None]) -> None:
    """Be the keeper of `state` from here to the end; the lock makes a second one wait until the first has ended."""
    from kubeling.crilite.keeper import Keeper

    os.makedirs(os.path.join(state, "containers"), mode=0o700, exist_ok=True)
    lock = os.open(os.path.join(state, "keeper.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as name:
        name.write("crilite-keeper")
    # A collection in a forked child would copy most of the memory that it shares with this process.
    gc.freeze()
    gc.disable()
    Keeper(state).run(ready)


def _say_ready(fd: int) -> None:
    # Whoever started this keeper may have died meanwhile; the next one will find it.
    with contextlib.suppress(BrokenPipeError):
        os.write(fd, b".")
    os.close(fd)


def main(argv: list[str]) -> int:
    """``python -m kubeling.crilite.keeper_process STATE READY_FD``."""
    state, ready = argv[0], int(argv[1])
    os.set_inheritable(ready, False)
    highest = max((int(name) for name in os.listdir("/proc/self/fd")), default=3)
    os.closerange(3, ready)
    os.closerange(ready + 1, highest + 1)
    os.chdir("/")
    os.setsid()
    if os.fork():
        os._exit(0)
    serve(state, lambda: _say_ready(ready))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
