"""How an apiserver that runs as a static pod gets the port of the API on the host: a listening socket of the host's namespace, handed over a Unix socket.

What is forked from the zygote inherits its socket; what a kubelet starts cannot. So each control-plane node's folder holds a socket of the supervisor's,
and whoever connects to it is sent a fresh listening socket. `python -m kubeling.cluster.handover --socket=PATH -- COMMAND…` does that, puts the descriptor's
number in the place of `{api}` in the command, and becomes the command.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from kubeling.daemon.log import get_logger

log = get_logger("cluster.handover")

NAME = "api.sock"
_SECONDS = 10.0


class Handover:
    """The supervisor's side: gives what `listener` makes to everyone who connects to the socket at `path`."""

    def __init__(self, path: Path, listener: Callable[[], socket.socket]) -> None:
        self._path = path
        self._listener = listener
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)

    def open(self) -> None:
        """Begin to serve on the running event loop."""
        self._path.unlink(missing_ok=True)
        # The path may be longer than the address of a socket can be.
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.bind(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)
        self._socket.listen(16)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._give)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _give(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError as error:
            log.warning("a socket could not be handed over", error=error)
            return
        with connection, contextlib.suppress(OSError), self._listener() as listener:
            # One byte and one descriptor: this never fills a socket's buffer.
            socket.send_fds(connection, [b"+"], [listener.fileno()])


def receive(path: str) -> int:
    """The number of the descriptor that the supervisor gives, inheritable. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_SECONDS)
        sock.connect(path)
        _, fds, _, _ = socket.recv_fds(sock, 1, 1)
    if not fds:
        raise ConnectionError(f"{path} gave no socket")
    os.set_inheritable(fds[0], True)
    return fds[0]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    parser = argparse.ArgumentParser(
        prog="python -m kubeling.cluster.handover", description="runs a command with the API's socket"
    )
    parser.add_argument("--socket", required=True)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args(argv)
    try:
        number = receive(args.socket)
    except OSError as error:
        sys.exit(f"the supervisor does not give the socket of the API: {error}")
    command = [each.replace("{api}", str(number)) for each in args.command]
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
