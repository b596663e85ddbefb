"""Pod garbage: pods of nodes that are gone, pods that end on nodes that will not answer, pods that were deleted before they had a node, and the
oldest of too many finished ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from kubeling.api.conditions import get_condition, set_condition
from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import copy_json, is_deleting, name_of, namespace_of, resource_version_of, spec_of, status_of, uid_of
from kubeling.api.pods import is_terminal, node_of
from kubeling.api.resources import NODES, PODS
from kubeling.client.batch import parallel
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.client.informer import Change
from kubeling.controllers.children import oldest_first
from kubeling.controllers.context import POD_INDEXERS, Context, Obj

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
#: A node that is missing may only be late in our copy, or about to register again.
QUARANTINE = 40.0
_FINISHED = Request("", "finished pods")

Reason = Literal["orphaned", "unscheduled", "out of service"]

_MESSAGES = {
    "orphaned": "PodGC: node no longer exists",
    "out of service": "PodGC: node is out of service",
    "unscheduled": "",
}


def why_collect(pod: Obj, node: Obj | None) -> Reason | None:
    """Why a pod is garbage, going by its node as the copy shows it; None where it is not."""
    if not node_of(pod):
        return "unscheduled" if is_deleting(pod) else None
    if node is None:
        return "orphaned"
    lost = (get_condition(node, "Ready") or {}).get("status") != "True"
    if is_deleting(pod) and lost and any(each.get("key") == OUT_OF_SERVICE for each in spec_of(node).get("taints") or ()):
        return "out of service"
    return None


def finished_too_many(everything: Iterable[Obj], threshold: int) -> list[Obj]:
    """The finished pods beyond the threshold, oldest first."""
    if threshold <= 0:
        return []
    finished = [each for each in everything if is_terminal(each) and not is_deleting(each)]
    return oldest_first(finished)[: max(0, len(finished) - threshold)]


class PodGcController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._nodes = ctx.informers.informer(NODES)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        #: Pods whose node is missing → since when, by our clock.
        self._missing: dict[Request, float] = {}
        self._finished = 0
        self._loop = Reconciler("pod-garbage-collector", self.reconcile, workers=4, clock=ctx.clock)
        self._loop.watches(self._pods, self._suspect)
        self._loop.watches(self._nodes, self._pods_of)
        self._pods.add_handler(self._count)
        self.run = self._loop.run

    def _suspect(self, pod: Obj) -> Iterable[Request]:
        node = node_of(pod)
        return (request_for(pod),) if is_deleting(pod) or (node and self._nodes.store.get(node) is None) else ()

    def _pods_of(self, node: Obj) -> Iterable[Request]:
        gone = self._nodes.store.get(name_of(node)) is None
        tainted = any(each.get("key") == OUT_OF_SERVICE for each in spec_of(node).get("taints") or ())
        return [request_for(pod) for pod in self._pods.store.by_index("node", name_of(node))] if gone or tainted else ()

    def _count(self, change: Change) -> None:
        self._finished += _finished(change.new) - _finished(change.old)
        if 0 < self._ctx.options.terminated_pod_gc_threshold < self._finished:
            self._loop.queue.add_after(_FINISHED, 1.0)

    async def reconcile(self, request: Request) -> float | None:
        """Collect one pod if it is garbage, or the finished ones that are too many."""
        if request == _FINISHED:
            await parallel(finished_too_many(self._pods.store, self._ctx.options.terminated_pod_gc_threshold), self._delete)
            return None
        pod = self._pods.store.get(request.name, request.namespace)
        reason = why_collect(pod, self._nodes.store.get(node_of(pod)) if node_of(pod) else None) if pod else None
        if pod is None or reason is None:
            self._missing.pop(request, None)
            return None
        if reason == "orphaned":
            now = self._ctx.clock.monotonic()
            left = self._missing.setdefault(request, now) + QUARANTINE - now
            if left > 0:
                return left
            if await self._exists(node_of(pod)):
                self._missing.pop(request, None)
                return None
        await self._collect(pod, _MESSAGES[reason])
        self._missing.pop(request, None)
        return None

    async def _exists(self, node: str) -> bool:
        try:
            await self._client.get(NODES, node)
        except ApiError as error:
            if is_not_found(error):
                return False
            raise
        return True

    async def _collect(self, pod: Obj, message: str) -> None:
        """Nobody will ever report how it ended, so we say that it failed; then it goes at once."""
        try:
            if not is_terminal(pod) and message:
                conditions = copy_json(status_of(pod).get("conditions") or [])
                set_condition(
                    conditions, "DisruptionTarget", "True", self._ctx.clock.now(), reason="DeletionByPodGC", message=message
                )
                meta = {"uid": uid_of(pod), "resourceVersion": resource_version_of(pod)}
                body = {"metadata": meta, "status": {"phase": "Failed", "conditions": conditions}}
                await self._client.patch(PODS, name_of(pod), body, namespace_of(pod), subresource="status")
        except ApiError as error:
            if is_not_found(error):
                return
            raise
        await self._delete(pod)

    async def _delete(self, pod: Obj) -> None:
        try:
            await self._client.delete(PODS, name_of(pod), namespace_of(pod), grace_period_seconds=0, uid=uid_of(pod))
        except ApiError as error:
            if not is_not_found(error):
                raise


def _finished(pod: Obj | None) -> bool:
    return pod is not None and is_terminal(pod) and not is_deleting(pod)


def podgc(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The collector of pods that nobody will end."""
    return PodGcController(ctx).run
