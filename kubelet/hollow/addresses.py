"""Addresses of hollow pods: out of their node's podCIDR, none twice. Who has which is read back from the pods in the API."""

from __future__ import annotations

import ipaddress


class Block:
    """The addresses of one node. The first host address is the node's own gateway, as the network plugins do it."""

    def __init__(self, cidr: str) -> None:
        network = ipaddress.ip_network(cidr)
        self.cidr = cidr
        self._first = int(network.network_address) + 2
        self._size = max(0, network.num_addresses - 3)
        self._kind = type(network.network_address)
        self._taken: dict[int, str] = {}
        self._of: dict[str, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._of)

    def claim(self, uid: str, address: str) -> None:
        """The API says that the pod has this address."""
        try:
            at = int(ipaddress.ip_address(address)) - self._first
        except ValueError:
            return
        if 0 <= at < self._size and self._taken.setdefault(at, uid) == uid:
            self._of[uid] = at

    def address(self, uid: str) -> str | None:
        """The pod's address, a new one where it has none; None where the block is full."""
        at = self._of.get(uid)
        if at is None:
            if len(self._taken) >= self._size:
                return None
            # Not the one that was given back last: who still remembers it would reach the wrong pod.
            while self._next in self._taken:
                self._next = (self._next + 1) % self._size
            at = self._next
            self._next = (self._next + 1) % self._size
            self._taken[at], self._of[uid] = uid, at
        return str(self._kind(self._first + at))

    def release(self, uid: str) -> None:
        """The pod has gone."""
        at = self._of.pop(uid, None)
        if at is not None and self._taken.get(at) == uid:
            del self._taken[at]


def node_block(pool: str, index: int) -> str:
    """The podCIDR of the node of that number, a /24 (or /64) out of a pool; empty where the pool has no such block."""
    network = ipaddress.ip_network(pool)
    prefix = 24 if network.version == 4 else 64
    if index >= 1 << max(0, prefix - network.prefixlen):
        return ""
    size = 1 << (network.max_prefixlen - prefix)
    return f"{type(network.network_address)(int(network.network_address) + index * size)}/{prefix}"
