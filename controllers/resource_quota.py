"""ResourceQuota: `status.used`, counted anew whenever something in the namespace comes, goes or changes its size.

The apiserver adds to `status.used` in the Txn that creates an object, so a quota of revision R has been charged for everything that there was at R. What the
informers show may be older. They only say whether there is anything to do; before a number is written, the quota is read and then, after it, what it counts.
The write is conditional on the quota as it was read. So nothing that was charged is ever taken off again while its object is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubeling.api.admission.quota import MEASURED, counted, used
from kubeling.api.errors import is_not_found
from kubeling.api.meta import is_deleting, namespace_of, spec_of, status_of
from kubeling.api.pods import is_terminal
from kubeling.api.resources import PERSISTENT_VOLUME_CLAIMS, PODS, RESOURCE_QUOTAS, SERVICES, Resource
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.client.informer import Change
from kubeling.controllers.context import POD_INDEXERS, Context, Obj
from kubeling.controllers.inventory import inventory_of

#: Changes of a namespace are gathered for so long.
_GATHER = 0.2
_CHUNK = 500


class ResourceQuotaController:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._clock = ctx.clock
        self._quotas = ctx.informers.informer(RESOURCE_QUOTAS)
        self._informers = {
            "pods": ctx.informers.informer(PODS, indexers=POD_INDEXERS),
            "services": ctx.informers.informer(SERVICES),
            "persistentvolumeclaims": ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS),
        }
        self._inventory = inventory_of(ctx)
        self._loop = Reconciler("resourcequota-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._quotas)
        self._loop.needs(*self._informers.values())
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
        if _status(quota, self._seen(quota, request.namespace)) == status_of(quota):
            return None
        try:
            quota = await self._client.get(RESOURCE_QUOTAS, request.name, request.namespace)
        except Exception as error:
            if is_not_found(error):
                return None
            raise
        status = _status(quota, await self._counted(quota, request.namespace))
        if status != status_of(quota):
            await self._client.update_status(RESOURCE_QUOTAS, {**quota, "status": status})
        return None

    def _seen(self, quota: Obj, namespace: str) -> dict[str, str]:
        """By what the informers show."""
        return used(
            quota,
            lambda kind: self._informers[kind].store.in_namespace(namespace),
            lambda kind: self._inventory.count(kind, namespace),
            self._clock.now(),
        )

    async def _counted(self, quota: Obj, namespace: str) -> dict[str, str]:
        """By what the server has now."""
        measured: dict[str, list[Obj]] = {}
        numbers: dict[str, int] = {}
        for kind in {counted(key) for key in spec_of(quota).get("hard") or {}}:
            if kind in MEASURED:
                measured[kind] = await self._list(self._informers[kind].resource, namespace)
            elif kind is not None:
                numbers[kind] = await self._number(kind, namespace)
        return used(quota, lambda kind: measured[kind], lambda kind: numbers[kind], self._clock.now())

    async def _list(self, resource: Resource, namespace: str) -> list[Obj]:
        found: list[Obj] = []
        params: dict[str, str] = {"limit": str(_CHUNK)}
        while True:
            page = await self._client.request("GET", resource.path(namespace), params=params)
            found += page.get("items") or ()
            token = page["metadata"].get("continue")
            if not token:
                return found
            params["continue"] = token

    async def _number(self, kind: str, namespace: str) -> int:
        """How many there are: the first of them tells how many follow."""
        resource = self._inventory.resource(kind)
        if resource is None:
            return 0
        page = await self._client.request("GET", resource.path(namespace), params={"limit": "1"})
        return len(page.get("items") or ()) + int(page["metadata"].get("remainingItemCount") or 0)


def _status(quota: Obj, amounts: dict[str, str]) -> Obj:
    return {"hard": spec_of(quota).get("hard") or {}, "used": amounts}


def resourcequota(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of ResourceQuotas."""
    return ResourceQuotaController(ctx).run
