"""The route controller: at a cloud whose network needs to be told, a route for each pod CIDR of each node, and none for nodes that are gone.

All routes are compared at once, when nodes come, go or get their CIDR, and every so often because routes drift: what somebody removed is made again, what
leads to a node that is gone is taken away. Only destinations inside the cluster's CIDR are ours. Each node says in its condition NetworkUnavailable whether
its routes are there.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from kubeling.api.conditions import get_condition
from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import is_deleting, name_of, spec_of, uid_of
from kubeling.api.resources import NODES
from kubeling.api.times import format_time
from kubeling.client.controller import Reconciler, Request
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Change, InformerFactory
from kubeling.client.rest import Client
from kubeling.cloud.patience import Patience
from kubeling.cloud.provider import Obj, ProviderError, Route, Routes
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("route-controller")

ALL = Request("", "routes")
#: upstream's --route-reconciliation-period
PERIOD_SECONDS = 10.0
#: Calls at once (upstream's number).
MAX_CALLS = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """What is missing and what is too much."""

    create: tuple[Route, ...] = ()
    delete: tuple[Route, ...] = ()


def cidrs_of(node: Obj) -> list[str]:
    """The node's pod CIDRs."""
    spec = spec_of(node)
    return list(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else []))


def plan(nodes: Sequence[Obj], routes: Sequence[Route], cluster_cidrs: Sequence[str]) -> Plan:
    """Compare; routes to destinations outside the cluster's CIDRs are somebody else's."""
    wanted = {(name_of(node), cidr) for node in nodes if not is_deleting(node) for cidr in cidrs_of(node)}
    there = {(each.node, each.destination) for each in routes}
    ours = [ipaddress.ip_network(each) for each in cluster_cidrs]
    missing = [Route(f"{node}-{cidr}", node, cidr) for node, cidr in sorted(wanted - there)]
    return Plan(
        tuple(missing), tuple(each for each in routes if (each.node, each.destination) not in wanted and _inside(each, ours))
    )


def _inside(route: Route, ours: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    found = ipaddress.ip_network(route.destination, strict=False)
    return any(found.version == each.version and found.subnet_of(each) for each in ours)  # type: ignore[arg-type]


class RouteController:
    """See the module's docstring. `cluster` names the cluster at the cloud."""

    def __init__(
        self,
        client: Client,
        informers: InformerFactory,
        events: EventRecorder,
        routes: Routes,
        clock: Clock,
        patience: Patience,
        *,
        cluster: str,
        cluster_cidrs: Sequence[str],
    ) -> None:
        self._client, self._events, self._routes, self._clock, self._patience = client, events, routes, clock, patience
        self._cluster, self._cidrs = cluster, tuple(cluster_cidrs)
        #: Seconds between two comparisons when nothing happens.
        self.period = PERIOD_SECONDS
        self._nodes = informers.informer(NODES)
        self._loop = Reconciler("route-controller", self.reconcile, workers=1, clock=clock)
        self._loop.needs(self._nodes)
        self._nodes.add_handler(self._changed)
        self.run = self._loop.run

    def _changed(self, change: Change) -> None:
        if change.old is None or change.new is None or cidrs_of(change.old) != cidrs_of(change.new):
            self._loop.queue.add(ALL)

    async def reconcile(self, request: Request) -> float | None:
        """Bring all routes to what the nodes are."""
        nodes = list(self._nodes.store)
        try:
            routes = await self._patience.call(self._routes.list(self._cluster))
        except ProviderError as error:
            delay = self._patience.later(request, error)
            log.warning("the cloud does not list its routes", error=str(error), again_in=round(delay, 1))
            return delay
        todo = plan(nodes, routes, self._cidrs)
        slots = asyncio.Semaphore(MAX_CALLS)
        failed = dict(await asyncio.gather(*(self._create(slots, each) for each in todo.create)))
        left = await asyncio.gather(*(self._delete(slots, each) for each in todo.delete))
        for node in nodes:
            if cidrs_of(node) and not is_deleting(node):
                await self._show(node, [failed[each] for each in cidrs_of(node) if failed.get(each)])
        if any(failed.values()) or not all(left):
            return self._patience.later(request)
        self._patience.done(request)
        return self.period

    async def _create(self, slots: asyncio.Semaphore, route: Route) -> tuple[str, str]:
        """(destination, what went wrong)"""
        async with slots:
            try:
                await self._patience.call(self._routes.create(self._cluster, route))
            except ProviderError as error:
                log.warning("a route could not be made", node=route.node, destination=route.destination, error=str(error))
                return route.destination, str(error)
        return route.destination, ""

    async def _delete(self, slots: asyncio.Semaphore, route: Route) -> bool:
        async with slots:
            try:
                await self._patience.call(self._routes.delete(self._cluster, route))
            except ProviderError as error:
                log.warning("a route could not be removed", node=route.node, destination=route.destination, error=str(error))
                return False
        return True

    async def _show(self, node: Obj, problems: list[str]) -> None:
        """The condition NetworkUnavailable, in upstream's words."""
        wanted = ("True", "NoRouteCreated", "RouteController failed to create a route")
        if not problems:
            wanted = ("False", "RouteCreated", "RouteController created a route")
        else:
            message = f"Could not create route for node {name_of(node)}: {problems[0]}"
            self._events.event(node, "Warning", "FailedToCreateRoute", message)
        before = get_condition(node, "NetworkUnavailable") or {}
        if (before.get("status"), before.get("reason")) == wanted[:2]:
            return
        now = format_time(self._clock.now())
        since = before.get("lastTransitionTime") if before.get("status") == wanted[0] else None
        condition = {
            "type": "NetworkUnavailable",
            "status": wanted[0],
            "reason": wanted[1],
            "message": wanted[2],
            "lastHeartbeatTime": now,
            "lastTransitionTime": since or now,
        }
        body = {"metadata": {"uid": uid_of(node)}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(NODES, name_of(node), body, patch_type="strategic", subresource="status")
        except ApiError as error:
            if not is_not_found(error):
                raise
