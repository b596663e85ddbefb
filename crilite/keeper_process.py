"""How a keeper comes to be: forked off by a daemon that is just starting, or started as a program when the last one has died.

Forking is cheaper in time and shares memory; it is only safe while the process has neither threads nor an event loop, so never later.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import sys
import traceback
from collections.abc import Callable

from kubeling.crilite.keeper import Keeper


def serve(state: str, ready: Callable[[], None]) -> None:
    """Be the keeper of `state` from here to the end; the lock makes a second one wait until the first has ended."""
    os.makedirs(os.path.join(state, "containers"), mode=0o700, exist_ok=True)
    lock = os.open(os.path.join(state, "keeper.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as name:
        name.write("crilite-keeper")
    # A collection in a forked child would copy most of the memory that it shares with this process.
    gc.freeze()
    gc.disable()
    Keeper(state).run(ready)


def fork_off(state: str, log: str) -> None:
    """Start a keeper by forking twice, and return when it listens. Only for a process that has no threads and no event loop yet."""
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(write)
        os.read(read, 1)
        os.close(read)
        os.waitpid(pid, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _detach(log, keep=write)
            serve(state, lambda: _say_ready(write))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _say_ready(fd: int) -> None:
    # Whoever started this keeper may have died meanwhile; the next one will find it.
    with contextlib.suppress(BrokenPipeError):
        os.write(fd, b".")
    os.close(fd)


def _detach(log: str, keep: int) -> None:
    """Let go of everything of the parent's: its terminal, its descriptors, its directory."""
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    highest = max((int(name) for name in os.listdir("/proc/self/fd")), default=3)
    os.closerange(3, keep)
    os.closerange(keep + 1, highest + 1)
    if sys.stderr is not None:
        sys.stderr.flush()


def main(argv: list[str]) -> int:
    """``python -m kubeling.crilite.keeper_process STATE READY_FD``: how the daemon starts a new keeper when the old one has died."""
    state, ready = argv[0], int(argv[1])
    os.set_inheritable(ready, False)
    os.chdir("/")
    os.setsid()
    if os.fork():
        os._exit(0)
    serve(state, lambda: _say_ready(ready))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
