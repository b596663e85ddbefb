"""The control socket of a cluster: one JSON object a line each way, over a Unix socket that only its owner may open.

A request is ``{"op": NAME, …}``. Answers are ``{"ok": true, …}`` or ``{"ok": false, "error": TEXT}``, after any number of ``{"step": …}`` lines
where the operation reports its progress. A connection carries one request at a time, as many as one likes.
The supervisor's end is :mod:`.controlserver`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubeling.cluster.state import ClusterError
from kubeling.daemon.unixpath import short_path


class Control:
    """The client side, blocking: a command line needs no event loop for it. `sock` is a connection that is there already."""

    def __init__(self, root: Path, timeout: float | None = 120.0, sock: socket.socket | None = None) -> None:
        self._root = root
        self._socket = sock or socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        if sock is None:
            self._connect()
        self._file = self._socket.makefile("rb")

    def _connect(self) -> None:
        root = self._root
        try:
            with short_path(root) as folder:
                self._socket.connect(f"{folder}/control.sock")
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self._socket.close()
            raise ClusterError(
                f"the cluster {root.name!r} does not answer (its supervisor is not running): "
                f"`kubeling up --name {root.name}` boots it again, `kubeling down --name {root.name}` removes it"
            ) from error

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def messages(self, op: str, **values: Any) -> Iterator[dict[str, Any]]:
        """Send a request and yield what comes back, the answer last. Raises ClusterError where the answer is a refusal."""
        try:
            self._socket.sendall(json.dumps({"op": op, **values}).encode() + b"\n")
            while line := self._file.readline():
                message: dict[str, Any] = json.loads(line)
                if message.get("ok") is False:
                    raise ClusterError(str(message["error"]))
                yield message
                if "ok" in message:
                    return
        except TimeoutError as error:
            raise ClusterError(
                f"the supervisor of {self._root.name!r} has not answered {op!r} in time: see {self._root}/logs"
            ) from error
        except ConnectionError:
            pass  # As with a plain end: the supervisor is gone.
        raise ClusterError(
            f"the supervisor of {self._root.name!r} ended while it was asked to {op}: see {self._root}/logs/supervisor.log"
        )

    def call(self, op: str, **values: Any) -> dict[str, Any]:
        """Send a request and return its answer."""
        answer: dict[str, Any] = {}
        for message in self.messages(op, **values):
            answer = message
        return answer
