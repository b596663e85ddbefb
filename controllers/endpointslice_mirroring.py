"""EndpointSlices for Endpoints that people or other controllers write themselves, for Services without a selector.

Those who read slices only then see them too. Endpoints with the label `endpointslice.kubernetes.io/skip-mirror`, those of leader elections, and those of
Services with a selector (which have slices of their own) are left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from kubeling.api import endpointslices
from kubeling.api.endpointslices import SERVICE_NAME
from kubeling.api.meta import annotations_of, is_deleting, labels_of, name_of, namespace_of, uid_of
from kubeling.api.owner import make_owner_reference
from kubeling.api.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers import slices
from kubeling.controllers.children import child_prefix
from kubeling.controllers.context import Context, Obj
from kubeling.controllers.endpoints_plan import family_of, selects
from kubeling.controllers.endpointslice import MANAGED_BY, write

CONTROLLER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
MAX_PER_SUBSET = 1000


def is_mirrored(endpoints: Obj | None, service: Obj | None) -> bool:
    """Whether these Endpoints are somebody's own, for a Service that is there."""
    if endpoints is None or service is None or is_deleting(endpoints) or is_deleting(service):
        return False
    if labels_of(endpoints).get(SKIP) == "true" or _LEADER in annotations_of(endpoints):
        return False
    return selects(service) is None


def plan_mirror(endpoints: Obj, existing: Sequence[Obj]) -> slices.Changes:
    """The slices that say what the Endpoints say."""
    wanted: dict[tuple[str, slices.Ports], list[Obj]] = defaultdict(list)
    for subset in endpoints.get("subsets") or ():
        ports = tuple(
            sorted(
                (
                    (each.get("name") or "", each.get("protocol") or "TCP", each.get("port"), each.get("appProtocol"))
                    for each in subset.get("ports") or ()
                ),
                key=repr,
            )
        )
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for each in (subset.get(field) or ())[:MAX_PER_SUBSET]:
                wanted[family_of(each["ip"]), ports].append(_endpoint(each, ready))
    labels = {**labels_of(endpoints), SERVICE_NAME: name_of(endpoints), MANAGED_BY: CONTROLLER}
    template = {"namespace": namespace_of(endpoints), "ownerReferences": [make_owner_reference(endpoints, "v1", "Endpoints")]}
    return slices.pack(child_prefix(name_of(endpoints)), uid_of(endpoints), labels, template, wanted, existing)


def _endpoint(address: Obj, ready: bool) -> Obj:
    found: Obj = {"addresses": [address["ip"]], "conditions": {"ready": ready, "serving": ready, "terminating": False}}
    for ours, theirs in (("hostname", "hostname"), ("nodeName", "nodeName"), ("targetRef", "targetRef")):
        if address.get(theirs):
            found[ours] = address[theirs]
    return found


class MirroringController:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._services = ctx.informers.informer(SERVICES)
        self._endpoints = ctx.informers.informer(ENDPOINTS)
        self._slices = ctx.informers.informer(ENDPOINT_SLICES, indexers=endpointslices.INDEXERS)
        self._loop = Reconciler("endpoint-slice-mirroring-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._services)
        self._loop.watches(self._endpoints)
        self._loop.watches(self._slices, _service)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Mirror, or take the mirror away."""
        endpoints = self._endpoints.store.get(request.name, request.namespace)
        service = self._services.store.get(request.name, request.namespace)
        existing = [
            each for each in self._slices.store.by_index("service", str(request)) if labels_of(each).get(MANAGED_BY) == CONTROLLER
        ]
        if endpoints is not None and is_mirrored(endpoints, service):
            await write(self._client, plan_mirror(endpoints, existing))
        else:
            await write(self._client, slices.Changes(delete=existing))
        return None


def _service(slice_: Obj) -> Sequence[Request]:
    service = labels_of(slice_).get(SERVICE_NAME)
    return (Request(namespace_of(slice_), service),) if service and labels_of(slice_).get(MANAGED_BY) == CONTROLLER else ()


def endpointslicemirroring(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of mirrored EndpointSlices."""
    return MirroringController(ctx).run
