"""What a proxy backend is, and the one that drives nft."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from kubeling.daemon.log import get_logger
from kubeling.kubeproxy import flows, nft, rules
from kubeling.kubeproxy.model import ServicePort
from kubeling.kubeproxy.nftwatch import NftWatch

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
    """Packet rules. After the first, a sync touches only what changed; after a failure the table is made anew, with what it remembers of clients."""

    def __init__(
        self,
        *,
        cluster_cidrs: Iterable[str],
        node_ips: Iterable[str],
        inside: Iterable[str] = (),
        reuse: bool = False,
        watch: NftWatch | None = None,
    ) -> None:
        self._nft = nft.Table(rules.TABLE, watch)
        #: Called when somebody else has changed our rules; a sync mends them.
        self.on_tampered: Callable[[], None] = lambda: None
        if watch is not None:
            watch.listen(self._nft.name, self._distrust)
        self._cluster_cidrs = tuple(cluster_cidrs)
        self._node_ips, self._inside, self._reuse = tuple(node_ips), tuple(inside), reuse
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
        anew = table is None
        if table is None:
            table = rules.Table(self._cluster_cidrs, self._node_ips, self._inside, reuse=self._reuse)
            table.change(ports)
            remembered = await self._nft.members(rules.SEEN) if any(each.affinity_seconds for each in ports.values()) else {}
            await self._nft.apply(table.full(remembered))
        if not self._tampered:
            self._table = table
        await self._forget_flows(updates, all_of=ports.values() if anew else None)
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

    async def _forget_flows(self, updates: Mapping[str, ServicePort | None], *, all_of: Iterable[ServicePort] | None) -> None:
        """Flows that lead where these changes, or (`all_of`) the rules made anew, do not lead any more."""
        if all_of is not None:
            ports = flows.expected(all_of, self._node_ips)
        else:
            changed = {key: port for key, port in updates.items() if self._leads_elsewhere(key, port)}
            # What was there before and is not any more leads nowhere.
            gone = [replace(old, internal=(), external=(), everywhere=()) for key in changed if (old := self._ports.get(key))]
            ports = flows.expected([*gone, *filter(None, changed.values())], self._node_ips)
        if not ports:
            return
        try:
            forgotten = await asyncio.to_thread(flows.forget, ports)
        except OSError as error:
            log.warning("cannot look at the flows: those to endpoints that are gone may stay there", error=str(error))
        else:
            if forgotten:
                log.info("flows sent elsewhere", flows=forgotten)

    def _leads_elsewhere(self, key: str, new: ServicePort | None) -> bool:
        """Whether flows may have to move: of UDP by any change, of TCP when an endpoint has gone."""
        old = self._ports.get(key)
        before, after = (flows.expected(filter(None, [each]), self._node_ips) for each in (old, new))
        if "UDP" in {each.protocol for each in (old, new) if each is not None}:
            return before != after
        return any(endpoints - after.get(place, frozenset()) for place, endpoints in before.items())
