"""The cloud node lifecycle controller: a Node whose machine is gone goes too, and one whose machine is switched off says so.

Without it the Node of a machine that was thrown away would stay, silent, and its pods would wait for it. A node is looked at when it turns ready or silent,
when the cloud tells of changes, and every few seconds while it is silent; Nodes that are none of this cloud's are left alone. The deletion is for the very
Node that was judged (uid), since a new one may have its name by then.
"""

from __future__ import annotations

from kubeling.api.conditions import get_condition
from kubeling.api.errors import ApiError
from kubeling.api.meta import is_deleting, name_of, resource_version_of, spec_of, uid_of
from kubeling.api.resources import NODES
from kubeling.api.taints import NO_SCHEDULE, find_taint, same_taint
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Change, InformerFactory
from kubeling.client.rest import Client
from kubeling.cloud.patience import Patience
from kubeling.cloud.provider import Instances, Obj, ProviderError
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("cloud-node-lifecycle")

SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"
_TAINT = {"key": SHUTDOWN, "effect": NO_SCHEDULE}
#: upstream's --node-monitor-period
MONITOR_SECONDS = 5.0


def readiness(node: Obj) -> str:
    """`True`, `False` or `Unknown`; a node that never spoke is unknown."""
    return str((get_condition(node, "Ready") or {}).get("status") or "Unknown")


class NodeLifecycleController:
    """See the module's docstring."""

    def __init__(
        self,
        client: Client,
        informers: InformerFactory,
        events: EventRecorder,
        instances: Instances,
        clock: Clock,
        patience: Patience,
    ) -> None:
        self._client, self._events, self._instances, self._patience = client, events, instances, patience
        self._nodes = informers.informer(NODES)
        self._loop = Reconciler("cloud-node-lifecycle", self.reconcile, workers=4, clock=clock)
        self._loop.needs(self._nodes)
        self._nodes.add_handler(self._changed)
        self.run = self._loop.run

    def _changed(self, change: Change) -> None:
        if change.old is None or change.new is None or readiness(change.old) != readiness(change.new):
            self._loop.queue.add(request_for(change.obj))

    def news(self) -> None:
        """The cloud's machines have changed."""
        for node in self._nodes.store:
            self._loop.queue.add(request_for(node))

    async def reconcile(self, request: Request) -> float | None:
        """Move one node a step."""
        node = self._nodes.store.get(request.name)
        if node is None or is_deleting(node) or not self._instances.covers(node):
            self._patience.done(request)
            return None
        silent = readiness(node) != "True"
        try:
            if not await self._patience.call(self._instances.exists(node)):
                await self._delete(node)
                return None
            off = silent and await self._patience.call(self._instances.is_shut_down(node))
        except ProviderError as error:
            delay = self._patience.later(request, error)
            log.warning("the cloud does not say how a machine is", node=request.name, error=str(error), again_in=round(delay, 1))
            return delay
        self._patience.done(request)
        await self._taint(node, off)
        return MONITOR_SECONDS if silent else None

    async def _delete(self, node: Obj) -> None:
        message = f"Deleting node {name_of(node)} because it does not exist in the cloud provider"
        self._events.event(node, "Normal", "DeletingNode", message)
        log.info("the machine of a node is gone", node=name_of(node))
        try:
            await self._client.delete(NODES, name_of(node), uid=uid_of(node))
        except ApiError as error:
            if error.code not in (404, 409):  # Gone already, or another one of its name by now.
                raise

    async def _taint(self, node: Obj, off: bool) -> None:
        taints = spec_of(node).get("taints") or []
        if (find_taint(taints, SHUTDOWN, NO_SCHEDULE) is not None) == off:
            return
        wanted = [each for each in taints if not same_taint(each, _TAINT)] + ([_TAINT] if off else [])
        meta = {"uid": uid_of(node), "resourceVersion": resource_version_of(node)}
        await self._client.patch(NODES, name_of(node), {"metadata": meta, "spec": {"taints": wanted or None}})
