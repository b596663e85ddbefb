"""The service controller: a load balancer of the provider for each Service of type LoadBalancer, and none for any other.

The finalizer `service.kubernetes.io/load-balancer-cleanup` is set before anything is made and taken away after everything is gone, so that no crash
leaves something at the provider that no Service speaks of. What the provider refuses is tried again with back-off, and said in an event.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubeling.api import endpointslices
from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.hashing import canonical_json
from kubeling.api.meta import (
    annotations_of,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    resource_version_of,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.resources import ENDPOINT_SLICES, NODES, SERVICES
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Change, InformerFactory
from kubeling.client.rest import Client
from kubeling.cloud.nodes import eligible, fingerprint
from kubeling.cloud.patience import Patience
from kubeling.cloud.provider import Cluster, LoadBalancer, LoadBalancers, Obj, ProviderError
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("service-controller")

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"


def wants_load_balancer(service: Obj) -> bool:
    """Type LoadBalancer, of no class (another controller's), and staying."""
    spec = spec_of(service)
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass") and not is_deleting(service)


def service_fingerprint(service: Obj) -> bytes:
    """What of a Service a load balancer depends on."""
    return canonical_json([spec_of(service), uid_of(service)])


class ServiceController:
    """`balancers` is set after construction, since the provider in its turn reads our copies: see :attr:`cluster`."""

    def __init__(
        self, client: Client, informers: InformerFactory, events: EventRecorder, clock: Clock, patience: Patience | None = None
    ) -> None:
        self._client = client
        self._services = informers.informer(SERVICES, indexers={"address": _by_address})
        self._nodes = informers.informer(NODES)
        self._slices = informers.informer(ENDPOINT_SLICES, indexers=endpointslices.INDEXERS)
        self._events = events
        self.balancers: LoadBalancers | None = None
        #: What each Service's load balancer was last made from, and the Service as it was then.
        self._made: dict[str, tuple[bytes, Obj]] = {}
        self._patience = patience or Patience()
        # One worker: whoever comes first gets the address.
        self._loop = Reconciler("service-controller", self.reconcile, workers=1, clock=clock, max_delay=30.0)
        self._loop.watches(self._services, self._same_address)
        self._loop.needs(self._nodes, self._slices)
        self._nodes.add_handler(self._node_changed)
        self._slices.add_handler(self._slice_changed)
        self.cluster = Cluster(lambda: list(self._services.store), self._nodes_with_endpoints)
        self.run = self._loop.run

    def _same_address(self, service: Obj) -> Iterable[Request]:
        """The Service; and who else shows its address, since one of them has to give it up."""
        yield request_for(service)
        for address in _by_address(service):
            yield from (request_for(each) for each in self._services.store.by_index("address", address))

    def _node_changed(self, change: Change) -> None:
        if change.old and change.new and fingerprint(change.old) == fingerprint(change.new):
            return
        for service in self._services.store:
            if wants_load_balancer(service):
                self._loop.queue.add(request_for(service))

    def _slice_changed(self, change: Change) -> None:
        """Only a Service with the policy Local depends on where its endpoints are."""
        for key in endpointslices.touched(change.old, change.new):
            service = self._services.store.get_key(key)
            if service and wants_load_balancer(service) and spec_of(service).get("externalTrafficPolicy") == "Local":
                self._loop.queue.add(request_for(service))

    def _nodes_with_endpoints(self, service: Obj) -> frozenset[str]:
        found = self._slices.store.by_index("service", f"{namespace_of(service)}/{name_of(service)}")
        return frozenset(
            endpoint["nodeName"]
            for each in found
            for endpoint in each.get("endpoints") or ()
            if endpoint.get("nodeName") and (endpoint.get("conditions") or {}).get("ready") is not False
        )

    async def reconcile(self, request: Request) -> float | None:
        """Make, change or remove the Service's load balancer."""
        key = str(request)
        service = self._services.store.get(request.name, request.namespace)
        balancers = self.balancers
        assert balancers is not None
        if service is None:
            if (last := self._made.get(key)) is not None:
                # It went without us: somebody took the finalizer away.
                try:
                    await self._patience.call(balancers.delete(last[1]))
                except ProviderError as error:
                    return self._patience.later(key, error)
                self._made.pop(key, None)
            self._patience.done(key)
            return None
        try:
            if wants_load_balancer(service):
                await self._ensure(balancers, service, key)
            else:
                await self._remove(balancers, service, key)
        except ProviderError as error:
            doing = "ensure" if wants_load_balancer(service) else "delete"
            message = f"Error syncing load balancer: failed to {doing} load balancer: {error}"
            self._events.event(service, "Warning", "SyncLoadBalancerFailed", message)
            delay = self._patience.later(key, error)
            log.warning("the provider refused", service=key, error=str(error), again_in=round(delay, 1))
            return delay
        self._patience.done(key)
        return None

    async def _ensure(self, balancers: LoadBalancers, service: Obj, key: str) -> None:
        now = service_fingerprint(service)
        nodes = [each for each in self._nodes.store if eligible(each)]
        before = self._made.get(key)
        if before is not None and before[0] == now and _ingress(service) and not self._disputed(service):
            await self._patience.call(balancers.update(service, nodes))
            return
        if FINALIZER not in finalizers_of(service):
            service = await self._set(service, {"finalizers": [*finalizers_of(service), FINALIZER]})
        news = not _ingress(service) or (before is not None and before[0] != now)
        if news:
            self._events.event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
        made = await self._patience.call(balancers.ensure(service, nodes))
        service = await self._show(balancers, service, made)
        if not nodes:
            self._events.event(service, "Warning", "UnAvailableLoadBalancer", "There are no available nodes for LoadBalancer")
        if news:
            self._events.event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        if made.problems and news:
            self._events.event(service, "Warning", "SyncLoadBalancerFailed", "; ".join(made.problems))
        self._made[key] = (now, service)

    def _disputed(self, service: Obj) -> bool:
        return any(len(self._services.store.by_index("address", address)) > 1 for address in _by_address(service))

    async def _show(self, balancers: LoadBalancers, service: Obj, made: LoadBalancer) -> Obj:
        """Annotations first, then the status: who sees the address can rely on the ports."""
        shown = {key: value for key, value in annotations_of(service).items() if key in balancers.owned_annotations}
        if shown != dict(made.annotations):
            service = await self._set(service, {"annotations": {**dict.fromkeys(shown), **made.annotations}})
        if _ingress(service) != list(made.ingress):
            status = {**status_of(service), "loadBalancer": {"ingress": list(made.ingress)}}
            service = await self._client.update_status(SERVICES, {**service, "status": status})
        return service

    async def _remove(self, balancers: LoadBalancers, service: Obj, key: str) -> None:
        self._made.pop(key, None)
        if FINALIZER not in finalizers_of(service):
            return
        self._events.event(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer")
        await self._patience.call(balancers.delete(service))
        if _ingress(service) and not is_deleting(service):
            status = {**status_of(service), "loadBalancer": {}}
            service = await self._client.update_status(SERVICES, {**service, "status": status})
        rest = [each for each in finalizers_of(service) if each != FINALIZER]
        gone = dict.fromkeys(each for each in annotations_of(service) if each in balancers.owned_annotations)
        try:
            await self._set(service, {"finalizers": rest or None, **({"annotations": gone} if gone else {})})
        except ApiError as error:
            if not is_not_found(error):
                raise
        self._events.event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")

    async def _set(self, service: Obj, metadata: Obj) -> Obj:
        """Compare and set."""
        body = {"metadata": {"uid": uid_of(service), "resourceVersion": resource_version_of(service), **metadata}}
        return await self._client.patch(SERVICES, name_of(service), body, namespace_of(service))


def _ingress(service: Obj) -> list[Obj]:
    return list((status_of(service).get("loadBalancer") or {}).get("ingress") or ())


def _by_address(service: Obj) -> Iterable[str]:
    return [each["ip"] for each in _ingress(service) if each.get("ip")] if wants_load_balancer(service) else []
