"""The proxy's loop: what the informers see becomes what the backend serves, a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace

from kubeling.api import endpointslices
from kubeling.api.meta import key_of, labels_of, name_of
from kubeling.api.resources import ENDPOINT_SLICES, NODES, SERVICES
from kubeling.client.informer import Change, InformerFactory
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor, run_until
from kubeling.kubeproxy import model
from kubeling.kubeproxy.backend import Backend
from kubeling.kubeproxy.healthcheck import HealthChecks
from kubeling.kubeproxy.model import Obj, Place, ServicePort
from kubeling.kubeproxy.routes import RouteKeeper, internal_ips, wanted_routes

log = get_logger("kubeproxy")

#: Changes that come together are served together: a rollout touches many slices at once.
BATCH_SECONDS = 0.01
#: The shortest time between two attempts while not all can be had.
_PAUSE_SECONDS = 0.1
ZONE = "topology.kubernetes.io/zone"


class Proxy:
    """Keeps `backend` (and, with `routes`, the routes to other nodes' pods) in step with the cluster."""

    def __init__(
        self,
        informers: InformerFactory,
        backend: Backend,
        *,
        node: str,
        node_ips: Collection[str],
        routes: RouteKeeper | None = None,
        health_address: str = "127.0.0.1",
        clock: Clock | None = None,
    ) -> None:
        self._informers, self._backend, self._node, self._node_ips, self._routes = informers, backend, node, node_ips, routes
        self._clock = clock or SystemClock()
        self._services = informers.informer(SERVICES)
        self._slices = informers.informer(ENDPOINT_SLICES, indexers=endpointslices.INDEXERS)
        self._nodes = informers.informer(NODES)
        self._place = Place(node)
        #: Services of which something has changed, by namespace and name; None: all of them may have.
        self._changed: set[str] | None = None
        self._ports: dict[str, ServicePort] = {}
        self._keys: dict[str, frozenset[str]] = {}
        self._dirty = asyncio.Event()
        self._services.add_handler(self._on_service)
        self._slices.add_handler(self._on_slice)
        self._nodes.add_handler(self._on_node)
        self._routes_dirty = asyncio.Event()
        self._health = HealthChecks(health_address, lambda: self.problem is None)
        #: None while the last sync went well, else what was wrong.
        self.problem: str | None = "not synced yet"

    def resync(self) -> None:
        """Let the backend look at everything again."""
        self._dirty.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with Supervisor(self._clock) as parts:
                if self._routes is not None:
                    parts.start("routes", self._keep_routes)
                parts.start("services", self._keep_services)
                await asyncio.Event().wait()
        finally:
            await self._health.close()

    def _touch(self, key: str) -> None:
        if self._changed is not None:
            self._changed.add(key)
        self._dirty.set()

    def _on_service(self, change: Change) -> None:
        self._touch(key_of(change.obj))

    def _on_slice(self, change: Change) -> None:
        for key in endpointslices.touched(change.old, change.new):
            self._touch(key)

    async def _keep_services(self) -> None:
        await self._informers.wait_synced([self._services, self._slices])
        self._dirty.set()
        backoff = Backoff(base=0.2, limit=30)
        while True:
            await self._dirty.wait()
            await self._clock.sleep(BATCH_SECONDS)
            self._dirty.clear()
            changed = self._rebuild()
            problem: str | None = None
            try:
                await self._backend.sync(self._ports, changed)
            except OSError as error:
                problem = str(error)
                if problem != self.problem:
                    log.error("cannot serve all Services, trying again", error=problem)
            self.problem = problem
            self._health.sync(each for each in self._ports.values() if each.health_port)
            if problem is None:
                backoff.reset()
                continue
            # A port that cannot be had keeps nobody else waiting: what changes meanwhile is served, and all is tried again after a while.
            self._changed = None
            await self._clock.sleep(_PAUSE_SECONDS)
            await run_until(self._dirty, self._clock.sleep(backoff.next()))
            self._dirty.set()

    def _rebuild(self) -> set[str] | None:
        """Bring the ports up to date; returns the keys of those that may have changed, None for all."""
        services, self._changed = self._changed, set()
        if services is None:
            self._ports, self._keys = {}, {}
            for key in self._services.store.all_keys():
                self._take(key)
            return None
        touched: set[str] = set()
        for key in services:
            touched |= self._take(key)
        return touched

    def _take(self, key: str) -> frozenset[str]:
        """Look at one Service anew; returns the keys of its ports, those that it had too."""
        service = self._services.store.get_key(key)
        before = self._keys.pop(key, frozenset())
        for each in before:
            del self._ports[each]
        if service is None:
            return before
        ports = model.ports_of(service, self._slices.store.by_index("service", key), self._place)
        self._ports.update(ports)
        if ports:
            self._keys[key] = frozenset(ports)
        return before | frozenset(ports)

    def _on_node(self, change: Change) -> None:
        def view(obj: Obj | None) -> object:
            return obj and wanted_routes([obj], self._node, self._node_ips)

        place, name = self._place, name_of(change.obj)
        if name == self._node and change.new is not None:
            place = replace(place, zone=labels_of(change.new).get(ZONE, ""))
        elif name != self._node:
            here = change.new is not None and not {*internal_ips(change.new)}.isdisjoint(self._node_ips)
            if here != (name in place.others):
                place = replace(place, others=place.others ^ {name})
        if place != self._place:
            self._place, self._changed = place, None
            self._dirty.set()
        if self._routes is not None and view(change.old) != view(change.new):
            self._routes_dirty.set()

    async def _keep_routes(self) -> None:
        assert self._routes is not None
        await self._nodes.synced.wait()
        self._routes_dirty.set()
        backoff = Backoff(base=0.2, limit=30)
        while True:
            await self._routes_dirty.wait()
            self._routes_dirty.clear()
            try:
                await self._routes.sync(wanted_routes(self._nodes.store, self._node, self._node_ips))
                backoff.reset()
            except OSError as error:
                log.error("cannot set the pod routes, trying again", error=str(error))
                await self._clock.sleep(_PAUSE_SECONDS)
                await run_until(self._routes_dirty, self._clock.sleep(backoff.next()))
                self._routes_dirty.set()
