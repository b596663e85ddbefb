"""What a proxy backend is, and the one that drives nft."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from kubeling.daemon.log import get_logger
from kubeling.kubeproxy import nft, rules
from kubeling.kubeproxy.model import ServicePort
from kubeling.kubeproxy.nftwatch import NftWatch
from kubeling.kubeproxy.text import family_of

log = get_logger("kubeproxy.nft")


class Backend(Protocol):
    """Makes service ports work on this node."""

    async def sync(self, ports: Mapping[str, ServicePort], changed: Collection[str] | None = None) -> None:
        """Make it so that exactly `ports` are served. `changed` names those that may differ from the last call's, None: any of them.

        Raises OSError where that failed; the next call starts from what is really there.
        """

    async def close(self) -> None:
        """Stop; what the kernel does by itself may stay."""


class NftBackend:
    """Packet rules. After the first, a sync touches only what changed; after a failure the table is made anew."""

    def __init__(self, *, cluster_cidrs: Iterable[str], node_ips: Iterable[str], watch: NftWatch | None = None) -> None:
        self._nft = nft.Table(rules.TABLE, watch)
        #: Called when somebody else has changed our rules; a sync mends them.
        self.on_tampered: Callable[[], None] = lambda: None
        if watch is not None:
            watch.listen(self._nft.name, self._distrust)
        self._cluster_cidrs = tuple(cluster_cidrs)
        self._node_ips = tuple(node_ips)
        #: None while it is not known what is in the kernel.
        self._table: rules.Table | None = None
        self._tampered = False
        self._ports: dict[str, ServicePort] = {}

    async def sync(self, ports: Mapping[str, ServicePort], changed: Collection[str] | None = None) -> None:
        keys = {*ports, *self._ports} if changed is None else changed
        updates = {key: ports.get(key) for key in keys if ports.get(key) is not self._ports.get(key)}
        table, self._table, self._tampered = self._table, None, False
        if table is not None:
            script = table.change(updates)
            try:
                if script:
                    await self._nft.apply(script)
            except OSError as error:
                log.warning("the rules are not what we left there, making them anew", error=str(error))
                table = None
        if table is None:
            table = rules.Table(self._cluster_cidrs, self._node_ips)
            table.change(ports)
            await self._nft.apply(table.full())
        if not self._tampered:
            self._table = table
        await self._forget_udp_flows(updates)
        for key, port in updates.items():
            if port is not None:
                self._ports[key] = port
            else:
                self._ports.pop(key, None)

    def _distrust(self) -> None:
        """What is in the table is not known any more: the next sync makes it anew."""
        log.warning("somebody else has changed our rules, making them anew")
        self._table, self._tampered = None, True
        self.on_tampered()

    async def close(self) -> None:
        """The rules stay: the node goes on serving while the proxy is away."""

    async def cleanup(self) -> None:
        """Take our table away."""
        await self._nft.apply(rules.removal())

    async def _forget_udp_flows(self, updates: Mapping[str, ServicePort | None]) -> None:
        """A UDP flow sticks to its endpoint in the kernel's table after that has gone, unless it is told to forget."""
        conntrack = shutil.which("conntrack")
        if conntrack is None:
            return
        for key, new in updates.items():
            old = self._ports.get(key)
            if old is None or old.protocol != "UDP":
                continue
            gone = set(old.internal + old.external) - set(new.internal + new.external if new else ())
            for ip in (*old.cluster_ips, *old.external_ips):
                family = ["-f", f"ipv{family_of(ip)}"]
                for endpoint in gone:
                    if family_of(endpoint.ip) == family_of(ip):
                        await nft.run([conntrack, "-D", *family, "-p", "udp", "--orig-dst", ip, "--dst-nat", endpoint.ip])
                if new and not old.internal and new.internal:
                    await nft.run([conntrack, "-D", *family, "-p", "udp", "--orig-dst", ip, "--dport", str(new.port)])
            if old.node_port and gone:
                for endpoint in gone:
                    family = ["-f", f"ipv{family_of(endpoint.ip)}"]
                    command = [conntrack, "-D", *family, "-p", "udp", "--dport", str(old.node_port), "--dst-nat", endpoint.ip]
                    await nft.run(command)
