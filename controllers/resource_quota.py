"""ResourceQuota: `status.used`, counted anew whenever something in the namespace comes, goes or changes its size."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubeling.api.meta import is_deleting, namespace_of, spec_of, status_of
from kubeling.api.pods import is_terminal
from kubeling.api.resources import PERSISTENT_VOLUME_CLAIMS, PODS, RESOURCE_QUOTAS, SERVICES, Resource
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.client.informer import Change
from kubeling.controllers.context import POD_INDEXERS, Context
from kubeling.controllers.inventory import inventory_of
from kubeling.controllers.quota_plan import used

#: Changes of a namespace are gathered for so long.
_GATHER = 0.2


class ResourceQuotaController:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._quotas = ctx.informers.informer(RESOURCE_QUOTAS)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._services = ctx.informers.informer(SERVICES)
        self._claims = ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._inventory = inventory_of(ctx)
        self._loop = Reconciler("resourcequota-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._quotas)
        self._loop.needs(self._pods, self._services, self._claims)
        self._inventory.add_handler(self._changed)

    async def run(self) -> None:
        """Wait until every kind was listed, then work until cancelled."""
        await self._inventory.complete.wait()
        await self._loop.run()

    def _changed(self, resource: Resource, change: Change) -> None:
        namespace = namespace_of(change.obj)
        if not namespace or not self._matters(resource, change):
            return
        for quota in self._quotas.store.in_namespace(namespace):
            self._loop.queue.add_after(request_for(quota), _GATHER)

    @staticmethod
    def _matters(resource: Resource, change: Change) -> bool:
        """An object that came or went; of an update, the end of a pod, or a change of what is measured inside."""
        if change.old is None or change.new is None:
            return True
        if resource is PODS:
            return is_terminal(change.old) != is_terminal(change.new) or spec_of(change.old) != spec_of(change.new)
        return resource in (SERVICES, PERSISTENT_VOLUME_CLAIMS) and spec_of(change.old) != spec_of(change.new)

    async def reconcile(self, request: Request) -> float | None:
        """Count, and write where the numbers differ."""
        quota = self._quotas.store.get(request.name, request.namespace)
        if quota is None or is_deleting(quota):
            return None
        hard = spec_of(quota).get("hard") or {}
        amounts = used(
            quota,
            self._pods.store.in_namespace(request.namespace),
            self._services.store.in_namespace(request.namespace),
            self._claims.store.in_namespace(request.namespace),
            lambda name: self._inventory.count(name, request.namespace),
        )
        status = {"hard": hard, "used": amounts}
        if status != status_of(quota):
            await self._client.update_status(RESOURCE_QUOTAS, {**quota, "status": status})
        return None


def resourcequota(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of ResourceQuotas."""
    return ResourceQuotaController(ctx).run
