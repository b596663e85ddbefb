"""The proxy's loop: what the informers see becomes what the backend serves, a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kubeling.api.meta import labels_of, namespace_of
from kubeling.api.resources import ENDPOINT_SLICES, NODES, SERVICES
from kubeling.client.informer import Change, InformerFactory
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor
from kubeling.kubeproxy import model
from kubeling.kubeproxy.backend import Backend
from kubeling.kubeproxy.model import SERVICE_NAME, Obj
from kubeling.kubeproxy.routes import RouteKeeper, wanted_routes

log = get_logger("kubeproxy")

#: Changes that come together are served together: a rollout touches many slices at once.
BATCH_SECONDS = 0.01


def _by_service(slice_: Obj) -> Iterable[str]:
    name = labels_of(slice_).get(SERVICE_NAME)
    return (f"{namespace_of(slice_)}/{name}",) if name else ()


class Proxy:
    """Keeps `backend` (and, with `routes`, the routes to other nodes' pods) in step with the cluster."""

    def __init__(
        self,
        informers: InformerFactory,
        backend: Backend,
        *,
        node: str,
        node_ip: str,
        routes: RouteKeeper | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._informers, self._backend, self._node, self._node_ip, self._routes = informers, backend, node, node_ip, routes
        self._clock = clock or SystemClock()
        self._services = informers.informer(SERVICES)
        self._slices = informers.informer(ENDPOINT_SLICES, indexers={"service": _by_service})
        self._dirty = asyncio.Event()
        self._services.add_handler(lambda _change: self._dirty.set())
        self._slices.add_handler(lambda _change: self._dirty.set())
        self._routes_dirty = asyncio.Event()
        #: None while the last sync went well, else what was wrong.
        self.problem: str | None = "not synced yet"

    def resync(self) -> None:
        """Let the backend look at everything again."""
        self._dirty.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with Supervisor(self._clock) as parts:
            if self._routes is not None:
                nodes = self._informers.informer(NODES)
                nodes.add_handler(self._on_node)
                parts.start("routes", self._keep_routes)
            parts.start("services", self._keep_services)
            await asyncio.Event().wait()

    async def _keep_services(self) -> None:
        await self._informers.wait_synced([self._services, self._slices])
        self._dirty.set()
        backoff = Backoff(base=0.2, limit=30)
        while True:
            await self._dirty.wait()
            await self._clock.sleep(BATCH_SECONDS)
            self._dirty.clear()
            try:
                await self._backend.sync(self._build())
            except OSError as error:
                self.problem = str(error)
                log.error("cannot serve all Services, trying again", error=str(error))
                await self._clock.sleep(backoff.next())
                self._dirty.set()
            else:
                self.problem = None
                backoff.reset()

    def _build(self) -> dict[str, model.ServicePort]:
        slices: dict[tuple[str, str], list[Obj]] = {}
        for each in self._slices.store:
            name = labels_of(each).get(SERVICE_NAME)
            if name:
                slices.setdefault((namespace_of(each), name), []).append(each)
        return model.build(self._services.store, slices, self._node)

    def _on_node(self, change: Change) -> None:
        def view(obj: Obj | None) -> object:
            return obj and wanted_routes([obj], self._node, self._node_ip)

        if view(change.old) != view(change.new):
            self._routes_dirty.set()

    async def _keep_routes(self) -> None:
        assert self._routes is not None
        nodes = self._informers.informer(NODES)
        await nodes.synced.wait()
        self._routes_dirty.set()
        backoff = Backoff(base=0.2, limit=30)
        while True:
            await self._routes_dirty.wait()
            self._routes_dirty.clear()
            try:
                await self._routes.sync(wanted_routes(nodes.store, self._node, self._node_ip))
                backoff.reset()
            except OSError as error:
                log.error("cannot set the pod routes, trying again", error=str(error))
                await self._clock.sleep(backoff.next())
                self._routes_dirty.set()
