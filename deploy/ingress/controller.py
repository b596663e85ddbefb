"""The loop: what the informers see becomes HAProxy's configuration a moment later, and each Ingress learns its addresses.

Any number of replicas run side by side: each has a proxy of its own, and all write the same status, as a compare-and-set.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping

from kubeling.api import endpointslices
from kubeling.api.errors import ApiError
from kubeling.api.meta import key_of, status_of
from kubeling.api.resources import ENDPOINT_SLICES, INGRESS_CLASSES, INGRESSES, SECRETS, SERVICES
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Informer, InformerFactory
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor
from kubeling.deploy.ingress import certificates, haproxy, routes
from kubeling.deploy.ingress.process import HAProxy, Refused
from kubeling.deploy.ingress.routes import Cluster, Obj, Routing

log = get_logger("ingress")

#: Changes that come together are made together.
BATCH_SECONDS = 0.05
TLS = "kubernetes.io/tls"


class Controller:
    """`publish` is the key of the Service by which the proxy is reached: its addresses are those of every Ingress."""

    def __init__(self, client: Client, proxy: HAProxy, settings: haproxy.Settings, publish: str) -> None:
        self._client, self._proxy, self._settings, self._publish = client, proxy, settings, publish
        factory = self._factory = InformerFactory(client)
        self._ingresses = factory.informer(INGRESSES)
        self._classes = factory.informer(INGRESS_CLASSES)
        self._services = factory.informer(SERVICES)
        self._slices = factory.informer(ENDPOINT_SLICES, indexers=endpointslices.INDEXERS)
        self._secrets = factory.informer(SECRETS, field_selector=f"type={TLS}")
        self._all: tuple[Informer, ...] = (self._ingresses, self._classes, self._services, self._slices, self._secrets)
        self._events = EventRecorder(client, "haproxy-ingress")
        self._said: dict[str, str] = {}
        self._default = certificates.self_signed("kubeling-ingress")
        self._dirty = asyncio.Event()
        for each in self._all:
            each.add_handler(lambda _change: self._dirty.set())
        #: None while all is well.
        self.problem: str | None = "not synced yet"

    async def run(self) -> None:
        """Serve until cancelled."""
        backoff = Backoff(base=0.2, limit=30)
        async with Supervisor() as parts:
            self._factory.start(parts)
            parts.start("events", self._events.run)
            parts.start("haproxy", self._proxy.run)
            await self._factory.wait_synced(self._all)
            self._dirty.set()
            while True:
                await self._dirty.wait()
                await asyncio.sleep(BATCH_SECONDS)
                self._dirty.clear()
                try:
                    await self._sync()
                except (Refused, ApiError, ConnectionFailed, OSError) as error:
                    self.problem = str(error)
                    log.error("cannot bring the Ingresses into effect, trying again", error=str(error))
                    await asyncio.sleep(backoff.next())
                    self._dirty.set()
                else:
                    self.problem = None
                    backoff.reset()

    async def _sync(self) -> None:
        classes = {each["metadata"]["name"]: each for each in self._classes.store}
        ours = [each for each in self._ingresses.store if routes.is_ours(each, classes)]
        services = {key_of(each): each for each in self._services.store}
        secrets = {key_of(each): each for each in self._secrets.store}
        routing = routes.route(ours, Cluster(services, lambda key: self._slices.store.by_index("service", key), secrets))
        shown = self._certificates(routing, secrets)
        reloads = self._proxy.reloads
        if await self._proxy.apply(lambda slots: haproxy.files(routing, slots, shown, self._settings), haproxy.wanted(routing)):
            log.info(
                "new rules" if self._proxy.reloads != reloads else "new servers",
                ingresses=len(ours),
                backends=len(routing.backends),
                certificates=len(shown) - 1,
            )
        for each in ours:
            self._tell(routing, each)
            await self._publish_addresses(each, services)

    def _certificates(self, routing: Routing, secrets: Mapping[str, Obj]) -> dict[str, bytes]:
        found = {"": self._default}
        for key in list(routing.certificates):
            data = secrets[key].get("data") or {}
            try:
                chain, private = (base64.b64decode(data.get(name) or "", validate=True) for name in ("tls.crt", "tls.key"))
                certificates.check(chain, private)
            except (binascii.Error, ValueError) as error:
                log.warning("a certificate cannot be used", secret=key, error=str(error))
                del routing.certificates[key]
                for ingress in self._ingresses.store:
                    if any(
                        f"{ingress['metadata']['namespace']}/{tls.get('secretName')}" == key
                        for tls in ingress["spec"].get("tls") or ()
                    ):
                        routing.problems.setdefault(key_of(ingress), []).append(f"Secret {key}: {error}")
                continue
            found[key] = chain.rstrip(b"\n") + b"\n" + private
        return found

    def _tell(self, routing: Routing, ingress: Obj) -> None:
        """Say what is wrong with an Ingress, once for each thing."""
        words, key = routes.describe(routing, ingress), key_of(ingress)
        if self._said.get(key, "") != words:
            self._said[key] = words
            if words:
                self._events.event(ingress, "Warning", "Rejected", words)

    async def _publish_addresses(self, ingress: Obj, services: Mapping[str, Obj]) -> None:
        wanted = (status_of(services.get(self._publish, {})).get("loadBalancer") or {}).get("ingress") or []
        wanted = [{key: value for key, value in each.items() if key in ("ip", "hostname")} for each in wanted]
        if not wanted or ((status_of(ingress).get("loadBalancer") or {}).get("ingress") or []) == wanted:
            return
        body = {**ingress, "status": {"loadBalancer": {"ingress": wanted}}}
        try:
            await self._client.update_status(INGRESSES, body)
        except ApiError as error:
            # Another replica was first, or the Ingress has changed or gone: its next version is looked at anew.
            if error.code not in (404, 409):
                raise
