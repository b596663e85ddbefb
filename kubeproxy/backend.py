"""What a proxy backend is, and the one that drives nft."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from kubeling.daemon.log import get_logger
from kubeling.kubeproxy import rules
from kubeling.kubeproxy.model import ServicePort
from kubeling.kubeproxy.nft import Table, run
from kubeling.kubeproxy.nftwatch import NftWatch

log = get_logger("kubeproxy.nft")


class Backend(Protocol):
    """Makes service ports work on this node."""

    async def sync(self, ports: Mapping[str, ServicePort]) -> None:
        """Make it so that exactly `ports` are served. Raises OSError where that failed; the next call starts from what is really there."""

    async def close(self) -> None:
        """Stop; what the kernel does by itself may stay."""


class NftBackend:
    """Packet rules. After the first, a sync touches only what changed; after a failure the table is made anew."""

    def __init__(self, *, cluster_cidr: str, node_ips: Iterable[str], watch: NftWatch | None = None) -> None:
        self._table = Table(rules.TABLE, watch)
        #: Called when somebody else has changed our rules; a sync mends them.
        self.on_tampered: Callable[[], None] = lambda: None
        if watch is not None:
            watch.listen(self._table.name, self._distrust)
        self._cluster_cidr = cluster_cidr
        self._node_ips = tuple(node_ips)
        self._applied: rules.Ruleset | None = None
        self._ports: Mapping[str, ServicePort] = {}

    async def sync(self, ports: Mapping[str, ServicePort]) -> None:
        wanted = rules.build(ports.values(), cluster_cidr=self._cluster_cidr)
        script = rules.full(wanted, self._node_ips) if self._applied is None else rules.changes(self._applied, wanted)
        if script:
            was_incremental = self._applied is not None
            self._applied = None
            try:
                await self._table.apply(script)
            except OSError as error:
                if not was_incremental:
                    raise
                log.warning("the rules are not what we left there, making them anew", error=str(error))
                await self._table.apply(rules.full(wanted, self._node_ips))
            self._applied = wanted
        await self._forget_udp_flows(ports)
        self._ports = dict(ports)

    def _distrust(self) -> None:
        """What is in the table is not known any more: the next sync makes it anew."""
        self._applied = None
        self.on_tampered()

    async def close(self) -> None:
        """The rules stay: the node goes on serving while the proxy is away."""

    async def cleanup(self) -> None:
        """Take our table away."""
        await self._table.apply(f"add table {rules.TABLE}\ndelete table {rules.TABLE}\n")

    async def _forget_udp_flows(self, ports: Mapping[str, ServicePort]) -> None:
        """A UDP flow sticks to its endpoint in the kernel's table after that has gone, unless it is told to forget."""
        conntrack = shutil.which("conntrack")
        if conntrack is None:
            return
        for key, old in self._ports.items():
            if old.protocol != "UDP":
                continue
            new = ports.get(key)
            gone = set(old.internal + old.external) - set(new.internal + new.external if new else ())
            for endpoint in gone:
                await run(
                    [
                        conntrack,
                        "-D",
                        "-p",
                        "udp",
                        "--orig-dst",
                        old.cluster_ips[0] if old.cluster_ips else "0.0.0.0/0",
                        "--dst-nat",
                        endpoint.ip,
                    ],
                    b"",
                )
            if new and not old.internal and new.internal and new.cluster_ips:
                await run([conntrack, "-D", "-p", "udp", "--orig-dst", new.cluster_ips[0], "--dport", str(new.port)])
