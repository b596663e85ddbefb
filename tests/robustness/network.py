"""The network between the members: a bridge in the run's own namespace, a namespace and a veth for each member, and a table of who does not hear whom.

The rules sit in the bridge, so neither side sees an error: packets are lost, also those of connections that stand. That is what a broken switch looks like.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

from kubeling.linux import netns, syscalls

#: The clients' address; members follow from 11 on.
HUB = "10.77.0.1"
_TABLE = """
table bridge faults {
  set cut { type ipv4_addr . ipv4_addr; }
  set lossy { type ipv4_addr . ipv4_addr; }
  chain forward { type filter hook forward priority 0; ip saddr . ip daddr @cut drop; ip saddr . ip daddr @lossy numgen random mod 100 < 30 drop; }
  chain input { type filter hook input priority 0; ip saddr . ip daddr @cut drop; }
  chain output { type filter hook output priority 0; ip saddr . ip daddr @cut drop; }
}
"""


def _new_namespace() -> int:
    def make() -> int:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    # `inside` joins first what it is given: our own, from which the thread then leaves.
    return netns.inside("/proc/self/ns/net", make)


class Network:
    """Addresses, and what is cut."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}
        self._cut: set[tuple[str, str]] = set()
        self._lossy: set[tuple[str, str]] = set()
        netns.ip_batch(["link set lo up", "link add hub0 type bridge", f"addr add {HUB}/24 dev hub0", "link set hub0 up"])
        self._nft(_TABLE)

    def attach(self, number: int) -> tuple[str, str]:
        """Plug in member `number`; returns its address and the path of its network namespace."""
        address = f"10.77.0.{10 + number}"
        fd = _new_namespace()
        self._fds[address] = fd
        path = f"/proc/{os.getpid()}/fd/{fd}"
        netns.ip_batch(
            [
                f"link add v{number} type veth peer name eth0 netns {path}",
                f"link set v{number} master hub0",
                f"link set v{number} up",
            ]
        )
        netns.ip_batch(["link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up"], path)
        return address, path

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """From now on the second of each pair does not hear the first."""
        self._cut |= set(pairs)
        self._apply()

    def part(self, one: Iterable[str], other: Iterable[str]) -> None:
        """Neither side hears the other."""
        left, right = list(one), list(other)
        self.cut([(a, b) for a in left for b in right] + [(b, a) for a in left for b in right])

    def lose(self, pairs: Iterable[tuple[str, str]]) -> None:
        """From now on three packets of ten are lost on the way from the first to the second of each pair."""
        self._lossy |= set(pairs)
        self._apply()

    def heal(self) -> None:
        """Everybody hears everybody again."""
        self._cut, self._lossy = set(), set()
        self._apply()

    def _apply(self) -> None:
        lines = []
        for name, pairs in (("cut", self._cut), ("lossy", self._lossy)):
            lines.append(f"flush set bridge faults {name}")
            if pairs:
                elements = ", ".join(f"{source} . {target}" for source, target in sorted(pairs))
                lines.append(f"add element bridge faults {name} {{ {elements} }}")
        self._nft("\n".join(lines) + "\n")

    @staticmethod
    def _nft(script: str) -> None:
        done = subprocess.run(["nft", "-f", "-"], input=script, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise OSError(f"nft: {done.stderr.strip()}")
