"""Work inside a network namespace without moving the process.

A socket belongs to the namespace in which it was made, for ever. So a short-lived thread joins the namespace, makes the socket (or runs what it
was given), and ends; the socket is then used from any thread and event loop.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from kubeling.linux import syscalls

T = TypeVar("T")


def inside(path: str, work: Callable[[], T]) -> T:
    """Call `work` in a thread that has joined the network namespace at `path`, and return or raise what it does."""
    result: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            syscalls.setns_path(path, syscalls.CLONE_NEWNET)
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def make_socket(path: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A non-blocking socket that lives in the network namespace at `path`."""

    def make() -> socket.socket:
        return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    return inside(path, make)


class CommandError(OSError):
    """A network command failed; the text holds its own words and the lines that it was given."""


def ip_batch(lines: Iterable[str], netns: str | None = None) -> None:
    """Run `lines` (each an ``ip`` command without the leading ``ip``) in one process, in the namespace at `netns` where one is given.

    Raises CommandError at the first line that fails; the lines before it have taken effect.
    """
    script = "\n".join(lines) + "\n"
    command = ["ip", "-batch", "-"]
    if netns is not None:
        # Never `ip netns exec`: it remounts /sys, which hides the cgroups.
        command = ["nsenter", f"--net={netns}", *command]
    done = subprocess.run(command, input=script, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise CommandError(done.returncode, f"ip: {done.stderr.strip() or done.stdout.strip()}; given: {script.strip()}")
