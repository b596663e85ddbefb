"""The cloud node controller: tells a new node which machine it is.

A kubelet whose machine is the cloud's registers with the taint `node.cloudprovider.kubernetes.io/uninitialized`, so that nothing is scheduled there before
its zone and size are known. One write sets the provider id and the labels and takes the taint away, as a compare-and-set: there is no moment in which a
node is half initialised. Addresses are compared again every five minutes, since a cloud may change them.
"""

from __future__ import annotations

from dataclasses import replace

from kubeling.api.conditions import is_true
from kubeling.api.meta import is_deleting, name_of, resource_version_of, spec_of, status_of, uid_of
from kubeling.api.resources import NODES
from kubeling.client.controller import Reconciler, Request
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.rest import Client
from kubeling.cloud.patience import Patience
from kubeling.cloud.provider import Instances, Metadata, Obj, ProviderError, Zones
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("cloud-node-controller")

UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ZONE = "topology.kubernetes.io/zone"
REGION = "topology.kubernetes.io/region"
#: The names that these labels had before, which are still set.
_OLD = {
    INSTANCE_TYPE: "beta.kubernetes.io/instance-type",
    ZONE: "failure-domain.beta.kubernetes.io/zone",
    REGION: "failure-domain.beta.kubernetes.io/region",
}
#: upstream's --node-status-update-frequency
ADDRESS_SECONDS = 300.0


def is_uninitialized(node: Obj) -> bool:
    """Whether it waits to be told which machine it is."""
    return any(each.get("key") == UNINITIALIZED for each in spec_of(node).get("taints") or ())


def labels_for(found: Metadata) -> dict[str, str]:
    """What a machine's labels are."""
    values = {INSTANCE_TYPE: found.instance_type, ZONE: found.zone, REGION: found.region}
    return {name: value for key, value in values.items() if value for name in (key, _OLD[key])}


def initialisation(node: Obj, found: Metadata) -> Obj:
    """The patch that makes an ordinary node of one that waits; it holds only for the node as it was judged."""
    taints = [each for each in spec_of(node).get("taints") or () if each.get("key") != UNINITIALIZED]
    spec: Obj = {"taints": taints or None}
    if not spec_of(node).get("providerID"):
        spec["providerID"] = found.provider_id
    return {
        "metadata": {"uid": uid_of(node), "resourceVersion": resource_version_of(node), "labels": labels_for(found)},
        "spec": spec,
    }


def addresses(node: Obj, found: Metadata) -> list[Obj] | None:
    """The addresses that the node should show; None where it does. What the cloud says nothing of stays: the host's name, another family of addresses."""
    shown = status_of(node).get("addresses") or []
    told = [dict(each) for each in found.addresses]
    kinds = {_kind(each) for each in told}
    wanted = told + [each for each in shown if _kind(each) not in kinds]
    return wanted if told and [each for each in shown if _kind(each) in kinds] != told else None


def _kind(address: Obj) -> tuple[str, bool]:
    return str(address.get("type")), ":" in str(address.get("address"))


class NodeController:
    """Initialises nodes and keeps their addresses."""

    def __init__(
        self,
        client: Client,
        informers: InformerFactory,
        events: EventRecorder,
        instances: Instances,
        clock: Clock,
        patience: Patience,
        zones: Zones | None = None,
    ) -> None:
        self._client, self._events, self._instances, self._patience = client, events, instances, patience
        self._zones = zones
        self._nodes = informers.informer(NODES)
        self._loop = Reconciler("cloud-node-controller", self.reconcile, workers=4, clock=clock)
        self._loop.watches(self._nodes, self._waiting)
        self.run = self._loop.run

    @staticmethod
    def _waiting(node: Obj) -> list[Request]:
        """Heartbeats wake nobody; what becomes ready has its addresses looked at."""
        return [Request("", name_of(node))] if is_uninitialized(node) or not is_true(node, "Ready") else []

    async def reconcile(self, request: Request) -> float | None:
        """Move one node a step."""
        node = self._nodes.store.get(request.name)
        if node is None or is_deleting(node) or not (is_uninitialized(node) or self._instances.covers(node)):
            self._patience.done(request)
            return None
        try:
            found = await self._patience.call(self._instances.metadata(node))
            if self._zones is not None and not found.zone:
                region, zone = await self._patience.call(self._zones.zone_of(node))
                found = replace(found, region=region, zone=zone)
        except ProviderError as error:
            delay = self._patience.later(request, error)
            log.warning("the cloud does not say what a node is", node=request.name, error=str(error), again_in=round(delay, 1))
            return delay
        self._patience.done(request)
        if is_uninitialized(node):
            node = await self._client.patch(NODES, request.name, initialisation(node, found))
            log.info("a node knows its machine", node=request.name, provider_id=found.provider_id)
            self._events.event(node, "Normal", "Synced", "Node synced successfully")
        wanted = addresses(node, found)
        if wanted is not None:
            body = {"status": {"addresses": [{"$patch": "replace"}, *wanted]}}
            await self._client.patch(NODES, request.name, body, patch_type="strategic", subresource="status")
        return ADDRESS_SECONDS
