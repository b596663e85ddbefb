"""Makes this server an endpoint of the `kube-dns` Service: an EndpointSlice of its own for each address, kept for as long as the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.meta import name_of, namespace_of
from kubeling.api.resources import ENDPOINT_SLICES
from kubeling.client.informer import Change, InformerFactory
from kubeling.client.rest import Client, ConnectionFailed, retry_on_conflict
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.dns.records import Obj

log = get_logger("dns.register")

NAMESPACE = "kube-system"
SERVICE = "kube-dns"
MANAGED_BY, MANAGER = "endpointslice.kubernetes.io/managed-by", "kubeling-dns"
#: Whose slice it is.
INSTANCE = "kubeling.dev/dns-instance"


class Registration:
    """The slice `kube-dns-<name>` with the address `ip`:`port`, of `instance`. One that somebody deletes is there again at once."""

    def __init__(self, client: Client, informers: InformerFactory, *, instance: str, name: str, ip: str, port: int) -> None:
        self._client = client
        self._missing = asyncio.Event()
        self._slice: Obj = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{SERVICE}-{name}",
                "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": SERVICE, MANAGED_BY: MANAGER, INSTANCE: instance},
            },
            "addressType": "IPv6" if ":" in ip else "IPv4",
            "endpoints": [{"addresses": [ip], "conditions": {"ready": True, "serving": True, "terminating": False}}],
            "ports": [{"name": "dns", "protocol": "UDP", "port": port}, {"name": "dns-tcp", "protocol": "TCP", "port": port}],
        }
        informers.informer(ENDPOINT_SLICES).add_handler(self._on_slice)

    def _on_slice(self, change: Change) -> None:
        if change.new is None and name_of(change.obj) == name_of(self._slice) and namespace_of(change.obj) == NAMESPACE:
            self._missing.set()

    async def run(self) -> None:
        """Write the slice (again and again until that works, and when it has gone), and take it away when cancelled."""
        backoff = Backoff(base=0.1, limit=5)
        self._missing.set()
        try:
            while True:
                await self._missing.wait()
                self._missing.clear()
                try:
                    await retry_on_conflict(self._write)
                    backoff.reset()
                except (ApiError, ConnectionFailed) as error:
                    log.info("cannot register yet", error=str(error))
                    self._missing.set()
                    await asyncio.sleep(backoff.next())
        finally:
            self._missing.clear()
            await attempt(self._client.delete(ENDPOINT_SLICES, name_of(self._slice), NAMESPACE))

    async def _write(self) -> None:
        try:
            current = await self._client.get(ENDPOINT_SLICES, name_of(self._slice), NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            await self._client.create(ENDPOINT_SLICES, self._slice, NAMESPACE)
            return
        own = self._slice
        metadata = {**current["metadata"], "labels": own["metadata"]["labels"]}
        body = {**current, "metadata": metadata, "endpoints": own["endpoints"], "ports": own["ports"]}
        await self._client.update(ENDPOINT_SLICES, body)


async def attempt(work: Awaitable[Any]) -> None:
    """At the end: do it if it is quickly done; who cannot is found silent by the others."""
    try:
        async with asyncio.timeout(2):
            await work
    except (ApiError, ConnectionFailed, TimeoutError) as error:
        log.info("could not take back what was registered", error=str(error))
