"""Faults on request: what goes wrong in a data centre, by name, for tests and for people who want to see it.

Everything is done by the supervisor, which knows the processes and the cables; a :class:`Faults` is a thin client of its control socket.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path

from kubeling.cluster.control import Control


class Faults:
    """The faults of the cluster in `root`. Each method returns when the fault is there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _call(self, op: str, **values: object) -> dict[str, object]:
        with Control(self._root) as control:
            return control.call(op, **values)

    def kill(self, node: str, daemon: str) -> int:
        """`kill -9` a daemon, which the supervisor will start again. Returns the process id that it had."""
        return self.send(node, daemon, signal.SIGKILL)

    def send(self, node: str, daemon: str, number: int) -> int:
        """Send a signal to a daemon; returns its process id."""
        pid = self._call("signal", node=node, daemon=daemon, signal=int(number))["pid"]
        assert isinstance(pid, int)
        return pid

    def pause(self, node: str, daemon: str) -> None:
        """Stop a daemon in its tracks (SIGSTOP): it holds its connections and answers nobody."""
        self.send(node, daemon, signal.SIGSTOP)

    def resume(self, node: str, daemon: str) -> None:
        """Let a paused daemon go on, with all that it missed."""
        self.send(node, daemon, signal.SIGCONT)

    def stop_node(self, node: str, *, orderly: bool = False) -> None:
        """Pull the plug of a node, or shut it down in order."""
        self._call("node-stop", node=node, orderly=orderly)

    def start_node(self, node: str) -> None:
        """Boot a stopped node again, from the same disk."""
        self._call("node-start", node=node)

    def isolate(self, node: str) -> None:
        """Pull the network cable of a node."""
        self._call("isolate", node=node, isolated=True)

    def rejoin(self, node: str) -> None:
        """Plug the network cable of a node in again."""
        self._call("isolate", node=node, isolated=False)

    def partition(self, left: Iterable[str], right: Iterable[str]) -> None:
        """Drop all packets between the nodes of `left` and those of `right`; more partitions add up."""
        self._call("cut", left=list(left), right=list(right))

    def heal(self) -> None:
        """Undo every isolation and partition."""
        self._call("heal")
