"""How the supervisor, the zygote and the node inits talk: JSON messages with file descriptors, over socket pairs that keep message boundaries.

``SOCK_SEQPACKET``: one send is one message, whole, and the end of either side is seen by the other at once. That is what ties the processes
together: a node init whose supervisor is gone reads the end of the channel and takes its node down.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

MAX_MESSAGE = 128 * 1024
MAX_FDS = 8


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new channel, close-on-exec."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return ours, theirs


def send(sock: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message. Raises OSError where the other side has gone."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE:
        raise ValueError(f"a message of {len(data)} bytes is longer than {MAX_MESSAGE}")
    socket.send_fds(sock, [data], list(fds), socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and the descriptors that came with it (close-on-exec); None at the end of the channel."""
    try:
        data, fds, _flags, _address = socket.recv_fds(sock, MAX_MESSAGE, MAX_FDS)
    except ConnectionResetError:
        return None
    for fd in fds:
        # MSG_CMSG_CLOEXEC would do it, if Python 3.11 passed the flags on.
        os.set_inheritable(fd, False)
    if not data:
        for fd in fds:
            os.close(fd)
        return None
    message: dict[str, Any] = json.loads(data)
    return message, fds
