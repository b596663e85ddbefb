"""Taint-based eviction: a pod on a node with NoExecute taints stays as long as its tolerations let it, counted from when the taint was added."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from kubeling.api import taints
from kubeling.api.conditions import set_condition
from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import (
    copy_json,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    resource_version_of,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.pods import is_terminal, node_of
from kubeling.api.resources import NODES, PODS
from kubeling.api.times import seconds_between
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.controllers.context import POD_INDEXERS, Context, Obj


def seconds_to_stay(pod: Obj, node: Obj, now: datetime) -> float | None:
    """How long a pod may stay on a node from now on: 0 not at all, None for ever."""
    found = [each for each in spec_of(node).get("taints") or () if each.get("effect") == taints.NO_EXECUTE]
    tolerations = spec_of(pod).get("tolerations")
    limits: list[float] = []
    for taint in found:
        seconds = taints.toleration_seconds([taint], tolerations)
        if seconds is None:
            continue
        passed = max(0.0, seconds_between(taint["timeAdded"], now)) if taint.get("timeAdded") else 0.0
        limits.append(max(0.0, seconds - passed))
    return min(limits, default=None)


class TaintEvictionController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._nodes = ctx.informers.informer(NODES)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._events = ctx.recorder("taint-eviction-controller")
        #: Pod → when it will have to go, for taints that do not say when they were added, and for the event of a cancelled eviction.
        self._due: dict[Request, float] = {}
        self._loop = Reconciler("taint-eviction-controller", self.reconcile, workers=8, clock=ctx.clock)
        self._loop.watches(self._pods, self._on_tainted)
        self._loop.watches(self._nodes, self._pods_of)
        self.run = self._loop.run

    def _on_tainted(self, pod: Obj) -> Iterable[Request]:
        node = self._nodes.store.get(node_of(pod)) if node_of(pod) else None
        return (request_for(pod),) if node is not None and _executes(node) else ()

    def _pods_of(self, node: Obj) -> Iterable[Request]:
        """Woken by the old and the new state, so also when the last taint goes; an untainted node has nobody to wake."""
        if not _executes(node):
            return ()
        return [request_for(pod) for pod in self._pods.store.by_index("node", name_of(node))]

    async def reconcile(self, request: Request) -> float | None:
        """Delete the pod when its time is up; look again when it will be."""
        pod = self._pods.store.get(request.name, request.namespace)
        node = self._nodes.store.get(node_of(pod)) if pod else None
        if pod is None or node is None or is_deleting(pod) or is_terminal(pod):
            self._due.pop(request, None)
            return None
        left = seconds_to_stay(pod, node, self._ctx.clock.now())
        if left is None:
            if self._due.pop(request, None) is not None:
                self._events.event(pod, "Normal", "TaintManagerEviction", f"Cancelling deletion of Pod {key_of(pod)}")
            return None
        moment = self._ctx.clock.monotonic() + left
        due = self._due.get(request)
        # A node's taint without timeAdded counts from when we first saw it.
        due = self._due[request] = moment if due is None else min(due, moment)
        wait = due - self._ctx.clock.monotonic()
        if wait > 0:
            return wait
        self._events.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {key_of(pod)}")
        await self._evict(pod)
        self._due.pop(request, None)
        return None

    async def _evict(self, pod: Obj) -> None:
        conditions = copy_json(status_of(pod).get("conditions") or [])
        message = "Taint manager: deleting due to NoExecute taint"
        try:
            if set_condition(
                conditions, "DisruptionTarget", "True", self._ctx.clock.now(), reason="DeletionByTaintManager", message=message
            ):
                meta = {"uid": uid_of(pod), "resourceVersion": resource_version_of(pod)}
                body = {"metadata": meta, "status": {"conditions": conditions}}
                await self._client.patch(PODS, name_of(pod), body, namespace_of(pod), subresource="status")
            await self._client.delete(PODS, name_of(pod), namespace_of(pod), uid=uid_of(pod))
        except ApiError as error:
            if not is_not_found(error):
                raise


def _executes(node: Obj) -> bool:
    return any(each.get("effect") == taints.NO_EXECUTE for each in spec_of(node).get("taints") or ())


def tainteviction(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller that ends what no longer may stay."""
    return TaintEvictionController(ctx).run
