"""How long kubelets may keep Secrets and ConfigMaps before they look again: the annotation `node.alpha.kubernetes.io/ttl`, by the size of the cluster.

The steps overlap, so that a cluster at the border of two does not have all its nodes written again and again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import annotations_of
from kubeling.api.resources import NODES
from kubeling.client.controller import Reconciler, Request
from kubeling.client.informer import Change
from kubeling.controllers.context import Context

ANNOTATION = "node.alpha.kubernetes.io/ttl"
#: Smallest and largest number of nodes, and seconds.
STEPS = ((0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, 1 << 31, 300))


def step(before: int, nodes: int) -> int:
    """The step for so many nodes, when it was `before`."""
    while nodes > STEPS[before][1]:
        before += 1
    while nodes < STEPS[before][0]:
        before -= 1
    return before


class TtlController:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._step = 0
        self._nodes = ctx.informers.informer(NODES)
        self._loop = Reconciler("ttl-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._nodes)
        self._nodes.add_handler(self._counted)
        self.run = self._loop.run

    def _counted(self, change: Change) -> None:
        if change.type == "update":
            return
        before, self._step = self._step, step(self._step, len(self._nodes.store))
        if before != self._step:
            for node in self._nodes.store:
                self._loop.queue.add(Request("", node["metadata"]["name"]))

    async def reconcile(self, request: Request) -> float | None:
        """Write the annotation of one node."""
        node = self._nodes.store.get(request.name)
        wanted = str(STEPS[self._step][2])
        if node is None or annotations_of(node).get(ANNOTATION) == wanted:
            return None
        try:
            await self._client.patch(NODES, request.name, {"metadata": {"annotations": {ANNOTATION: wanted}}})
        except ApiError as error:
            if not is_not_found(error):
                raise
        return None


def ttl(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of nodes' TTLs."""
    return TtlController(ctx).run
