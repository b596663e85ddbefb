"""Makes this server an endpoint of the `kube-dns` Service: an EndpointSlice of its own, kept for as long as the server runs."""

from __future__ import annotations

import asyncio

from kubeling.api.errors import ApiError
from kubeling.api.resources import ENDPOINT_SLICES
from kubeling.client.rest import Client, ConnectionFailed, retry_on_conflict
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.dns.records import Obj

log = get_logger("dns.register")

NAMESPACE = "kube-system"
SERVICE = "kube-dns"


class Registration:
    """The slice `kube-dns-<name>` with the address `ip`:`port`."""

    def __init__(self, client: Client, *, name: str, ip: str, port: int) -> None:
        self._client = client
        self._slice: Obj = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{SERVICE}-{name}",
                "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": SERVICE, "endpointslice.kubernetes.io/managed-by": "kubeling-dns"},
            },
            "addressType": "IPv6" if ":" in ip else "IPv4",
            "endpoints": [{"addresses": [ip], "conditions": {"ready": True, "serving": True, "terminating": False}}],
            "ports": [{"name": "dns", "protocol": "UDP", "port": port}, {"name": "dns-tcp", "protocol": "TCP", "port": port}],
        }

    async def run(self) -> None:
        """Write the slice (again and again until that works), and take it away when cancelled."""
        backoff = Backoff(base=0.1, limit=5)
        while True:
            try:
                await retry_on_conflict(self._write)
                break
            except (ApiError, ConnectionFailed) as error:
                log.info("cannot register yet", error=str(error))
                await asyncio.sleep(backoff.next())
        try:
            await asyncio.Event().wait()
        finally:
            await self._remove()

    async def _write(self) -> None:
        try:
            current = await self._client.get(ENDPOINT_SLICES, self._slice["metadata"]["name"], NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            await self._client.create(ENDPOINT_SLICES, self._slice, NAMESPACE)
            return
        await self._client.update(
            ENDPOINT_SLICES, {**current, "endpoints": self._slice["endpoints"], "ports": self._slice["ports"]}
        )

    async def _remove(self) -> None:
        try:
            async with asyncio.timeout(2):
                await self._client.delete(ENDPOINT_SLICES, self._slice["metadata"]["name"], NAMESPACE)
        except (ApiError, ConnectionFailed, TimeoutError) as error:
            log.info("could not take the endpoint away", error=str(error))
