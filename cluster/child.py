"""What a freshly forked process does to become a daemon: join its node, take its own stdio, name and session, forget its parent's state, and live.

Everything happens between ``fork`` and the daemon's ``main``, in a process that has one thread and no gRPC object yet (the zygote sees to that).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from kubeling.linux import syscalls

#: The room that a process title has: the zygote is executed with an argument of this length, which its children write over.
TITLE_ROOM = 1024

#: The kinds of namespaces that make a node, in the order in which they are joined: after the mount namespace /proc is another.
NODE_NAMESPACES = ("ipc", "uts", "net", "mnt")


@dataclass(frozen=True, slots=True)
class Birth:
    """What a process is to become. `namespaces` and `keep` are open descriptors; `log` becomes standard output and error."""

    name: str
    node: str
    module: str
    args: tuple[str, ...]
    log: int
    namespaces: tuple[int, ...] = ()
    keep: tuple[int, ...] = ()
    die_with_parent: bool = False


def live(birth: Birth) -> NoReturn:
    """Become the daemon that `birth` describes and exit with its status. Never returns into the zygote's loop, whatever happens."""
    status = 1
    try:
        _settle(birth)
        status = _main(birth)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else (0 if end.code is None else 1)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)


def _settle(birth: Birth) -> None:
    if birth.die_with_parent:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    reset_signals()
    os.setsid()
    stdio(birth.log)
    for namespace in birth.namespaces:
        syscalls.setns(namespace)
    os.chdir("/")
    close_others(birth.keep)
    for fd in birth.keep:
        os.set_inheritable(fd, True)
    title(birth.name, f"kubeling-{birth.name} [{birth.node}] {' '.join(birth.args)}")


def _main(birth: Birth) -> int:
    module = importlib.import_module(birth.module)
    gc.freeze()
    gc.enable()
    sys.argv = [f"kubeling-{birth.name}", *birth.args]
    main = module.main
    result = main(list(birth.args)) if inspect.signature(main).parameters else main()
    return result if isinstance(result, int) else 0


def reset_signals() -> None:
    """Signals as a new process has them: the zygote's handlers and its wake-up descriptor mean nothing here."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def stdio(log: int) -> None:
    """Nothing to read, and all that is written goes to the log file, line by line."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def close_others(keep: Sequence[int]) -> None:
    """Close every descriptor but stdio and `keep`: a socket of the zygote that stayed open here would hide the zygote's death."""
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX") if not os.path.isdir("/proc/self/fd") else _highest_fd() + 1)


def _highest_fd() -> int:
    return max(int(name) for name in os.listdir("/proc/self/fd"))


def title(comm: str, line: str) -> None:
    """Show `line` as the command line and `kl-<comm>` as the name (of which the kernel keeps 15 bytes) in ps and top."""
    with open("/proc/self/comm", "w") as file:
        file.write(f"kl-{comm}"[:15])
    with open("/proc/self/stat") as file:
        stat = file.read()
    fields = stat[stat.rindex(")") + 2 :].split()
    start, end = int(fields[45]), int(fields[46])
    room = end - start
    if start and room > 1:
        raw = line.encode()[: room - 1]
        ctypes.memmove(start, raw + b"\0" * (room - len(raw)), room)
