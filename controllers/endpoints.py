"""Endpoints: the older, single-object form of what EndpointSlices show. At most 1000 addresses; where there are more, an annotation says so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kubeling.api.errors import ApiError, is_namespace_terminating, is_not_found
from kubeling.api.labels import from_labels
from kubeling.api.meta import annotations_of, is_deleting, labels_of, name_of, namespace_of, resource_version_of, spec_of, uid_of
from kubeling.api.pods import node_of
from kubeling.api.resources import ENDPOINTS, PODS, SERVICES
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers import endpoints_plan as plan
from kubeling.controllers.context import POD_INDEXERS, Context, Obj
from kubeling.controllers.service_index import SERVICE_INDEXERS, services_of_pod

MAX_ADDRESSES = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"


class EndpointsController:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._services = ctx.informers.informer(SERVICES, indexers=SERVICE_INDEXERS)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._endpoints = ctx.informers.informer(ENDPOINTS)
        self._loop = Reconciler("endpoint-controller", self.reconcile, workers=5, clock=ctx.clock)
        self._loop.watches(self._services)
        self._loop.watches(self._pods, lambda pod: services_of_pod(self._services.store, pod))
        self._loop.watches(self._endpoints)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Write the Endpoints where they differ; where the Service is gone, delete those that were ours."""
        service = self._services.store.get(request.name, request.namespace)
        existing = self._endpoints.store.get(request.name, request.namespace)
        if service is None or is_deleting(service):
            if service is None and existing is not None and labels_of(existing).get(MANAGED_BY) == MANAGER:
                await self._delete(existing)
            return None
        selector = plan.selects(service)
        if selector is None:
            return None
        chosen = from_labels(selector)
        selected = [pod for pod in self._pods.store.in_namespace(request.namespace) if chosen.matches(labels_of(pod))]
        wanted = plan_endpoints(service, selected, existing)
        if wanted is None:
            return None
        try:
            if existing is None:
                await self._client.create(ENDPOINTS, wanted, request.namespace)
            else:
                await self._client.update(ENDPOINTS, wanted)
        except ApiError as error:
            if not is_namespace_terminating(error):
                raise
        return None

    async def _delete(self, existing: Obj) -> None:
        try:
            await self._client.delete(
                ENDPOINTS,
                name_of(existing),
                namespace_of(existing),
                uid=uid_of(existing),
                resource_version=resource_version_of(existing),
            )
        except ApiError as error:
            if not is_not_found(error):
                raise


def plan_endpoints(service: Obj, selected: Sequence[Obj], existing: Obj | None) -> Obj | None:
    """The Endpoints to write, None where the existing ones say it already."""
    family = plan.families_of(service, (address for pod in selected for address in plan.addresses_of(pod)))[0]
    subsets, over = _subsets(service, plan.candidates(service, selected, family))
    labels = {**labels_of(service), MANAGED_BY: MANAGER}
    labels.pop(plan.HEADLESS_LABEL, None)
    if plan.is_headless(service):
        labels[plan.HEADLESS_LABEL] = ""
    annotations = {key: value for key, value in annotations_of(existing or {}).items() if key != OVER_CAPACITY}
    if over:
        annotations[OVER_CAPACITY] = "truncated"
    if existing is not None:
        same = (existing.get("subsets") or []) == subsets and labels_of(existing) == labels
        if same and annotations_of(existing) == annotations:
            return None
        return {
            **existing,
            "metadata": {**existing["metadata"], "labels": labels, "annotations": annotations},
            "subsets": subsets,
        }
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name_of(service), "namespace": namespace_of(service), "labels": labels, "annotations": annotations},
        "subsets": subsets,
    }


def _subsets(service: Obj, found: Sequence[plan.Candidate]) -> tuple[list[Obj], bool]:
    """Addresses with the same ports and readiness together, in a fixed order. Terminating pods are not in Endpoints."""
    usable = sorted(
        (each for each in found if not each.terminating or plan.publishes_not_ready(service)),
        key=lambda each: (not each.ready, each.address, uid_of(each.pod)),
    )
    by_ports: dict[tuple[plan.Port, ...], dict[str, list[Obj]]] = defaultdict(lambda: {"addresses": [], "notReadyAddresses": []})
    for each in usable[:MAX_ADDRESSES]:
        by_ports[each.ports]["addresses" if each.ready else "notReadyAddresses"].append(_address(each, service))
    subsets: list[Obj] = []
    for ports, addresses in sorted(by_ports.items(), key=repr):
        subset: Obj = {key: value for key, value in addresses.items() if value}
        shown = [_port(each) for each in ports if each[2] is not None]
        if shown:
            subset["ports"] = shown
        elif spec_of(service).get("ports"):
            continue  # None of its ports resolves on these pods.
        subsets.append(subset)
    return subsets, len(usable) > MAX_ADDRESSES


def _address(candidate: plan.Candidate, service: Obj) -> Obj:
    found: Obj = {"ip": candidate.address, "targetRef": plan.target_ref(candidate.pod)}
    if node := node_of(candidate.pod):
        found["nodeName"] = node
    if hostname := plan.hostname_of(candidate.pod, service):
        found["hostname"] = hostname
    return found


def _port(port: plan.Port) -> dict[str, Any]:
    name, protocol, number, app = port
    found = {"name": name or None, "port": number, "protocol": protocol, "appProtocol": app}
    return {key: value for key, value in found.items() if value is not None}


def endpoints(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of Endpoints."""
    return EndpointsController(ctx).run
