"""EndpointSlices of the Services that select pods: who serves, where, and whether it is ready, serving or on its way out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence

from kubeling.api import endpointslices
from kubeling.api.endpointslices import SERVICE_NAME
from kubeling.api.errors import ApiError, is_namespace_terminating, is_not_found
from kubeling.api.labels import from_labels
from kubeling.api.meta import is_deleting, labels_of, name_of, namespace_of, resource_version_of, uid_of
from kubeling.api.owner import make_controller_ref
from kubeling.api.pods import node_of
from kubeling.api.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from kubeling.client.batch import parallel
from kubeling.client.controller import Reconciler, Request
from kubeling.client.informer import Change
from kubeling.client.rest import Client
from kubeling.controllers import endpoints_plan as plan
from kubeling.controllers import slices, topology
from kubeling.controllers.children import child_prefix
from kubeling.controllers.context import POD_INDEXERS, Context, Obj
from kubeling.controllers.service_index import SERVICE_INDEXERS, services_of_pod

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
#: Labels that say who keeps a slice and for what; a Service's own labels never override them.
RESERVED = frozenset({SERVICE_NAME, MANAGED_BY, plan.HEADLESS_LABEL})


class EndpointSliceController:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._services = ctx.informers.informer(SERVICES, indexers=SERVICE_INDEXERS)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._nodes = ctx.informers.informer(NODES)
        self._slices = ctx.informers.informer(ENDPOINT_SLICES, indexers=endpointslices.INDEXERS)
        self._events = ctx.recorder("endpoint-slice-controller")
        self._loop = Reconciler("endpoint-slice-controller", self.reconcile, workers=5, clock=ctx.clock)
        self._loop.watches(self._services)
        self._loop.watches(self._pods, lambda pod: services_of_pod(self._services.store, pod))
        self._loop.watches(self._slices, _service_of)
        self._loop.needs(self._nodes)
        #: None when it has to be found out anew.
        self._zones: topology.Zones | None = None
        self._nodes.add_handler(self._on_node)
        self.run = self._loop.run

    def _on_node(self, change: Change) -> None:
        """Nodes say often that they are well; only what hints depend on wakes Services, and of these only those that it concerns."""
        before, after = (topology.facts_of(each) if each else None for each in (change.old, change.new))
        if before == after:
            return
        self._zones = None
        moved = (before and before.zone) != (after and after.zone)
        for service in self._services.store if self._nodes.synced.is_set() else ():
            if moved or topology.wants_auto(service):
                self._loop.queue.add(Request(namespace_of(service), name_of(service)))

    async def reconcile(self, request: Request) -> float | None:
        """Write the slices that differ from what the Service's pods make of them."""
        service = self._services.store.get(request.name, request.namespace)
        existing = [
            each for each in self._slices.store.by_index("service", str(request)) if labels_of(each).get(MANAGED_BY) == CONTROLLER
        ]
        if service is None or is_deleting(service):
            return None  # The garbage collector takes the slices.
        selector = plan.selects(service)
        if selector is None:
            changes = slices.Changes(delete=existing)
        else:
            chosen = from_labels(selector)
            selected = [pod for pod in self._pods.store.in_namespace(request.namespace) if chosen.matches(labels_of(pod))]
            if self._zones is None:
                self._zones = topology.zones_of(self._nodes.store)
            changes = plan_slices(service, selected, existing, self._zones)
        await write(self._client, changes)
        return None


def plan_slices(service: Obj, selected: Sequence[Obj], existing: Sequence[Obj], zones: topology.Zones) -> slices.Changes:
    """What to write so that the slices show these pods."""
    wanted: dict[tuple[str, slices.Ports], list[Obj]] = defaultdict(list)
    keep_empty: dict[str, slices.Ports] = {}
    for family in plan.families_of(service, (address for pod in selected for address in plan.addresses_of(pod))):
        keep_empty[family] = ()
        for each in plan.candidates(service, selected, family):
            wanted[family, each.ports].append(_endpoint(each, service, zones))
    for endpoints in wanted.values():
        topology.add_hints(service, endpoints, zones)
    labels = {key: value for key, value in labels_of(service).items() if key not in RESERVED}
    labels |= {SERVICE_NAME: name_of(service), MANAGED_BY: CONTROLLER}
    if plan.is_headless(service):
        labels[plan.HEADLESS_LABEL] = ""
    template = {"namespace": namespace_of(service), "ownerReferences": [make_controller_ref(service, "v1", "Service")]}
    prefix = child_prefix(name_of(service))
    return slices.pack(prefix, uid_of(service), labels, template, wanted, existing, keep_empty=keep_empty)


def _endpoint(candidate: plan.Candidate, service: Obj, zones: topology.Zones) -> Obj:
    node = node_of(candidate.pod)
    found: Obj = {
        "addresses": [candidate.address],
        "conditions": {"ready": candidate.ready, "serving": candidate.serving, "terminating": candidate.terminating},
        "targetRef": plan.target_ref(candidate.pod),
    }
    if node:
        found["nodeName"] = node
        if zone := zones.of_node.get(node):
            found["zone"] = zone
    if hostname := plan.hostname_of(candidate.pod, service):
        found["hostname"] = hostname
    return found


def _service_of(slice_: Obj) -> Iterable[Request]:
    service = labels_of(slice_).get(SERVICE_NAME)
    mine = service and labels_of(slice_).get(MANAGED_BY) == CONTROLLER
    return (Request(namespace_of(slice_), str(service)),) if mine else ()


async def write(client: Client, changes: slices.Changes) -> None:
    """Additions before removals, so that an endpoint that moves is never missing. Every write is a compare-and-set."""

    async def create(body: Obj) -> None:
        try:
            await client.create(ENDPOINT_SLICES, body, namespace_of(body))
        except ApiError as error:
            if not is_namespace_terminating(error):
                raise

    async def update(body: Obj) -> None:
        await client.update(ENDPOINT_SLICES, body)

    async def delete(slice_: Obj) -> None:
        try:
            await client.delete(
                ENDPOINT_SLICES,
                name_of(slice_),
                namespace_of(slice_),
                uid=uid_of(slice_),
                resource_version=resource_version_of(slice_),
            )
        except ApiError as error:
            if not is_not_found(error):
                raise

    await parallel(changes.create, create)
    await parallel(changes.update, update)
    await parallel(changes.delete, delete)


def endpointslice(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of EndpointSlices."""
    return EndpointSliceController(ctx).run
