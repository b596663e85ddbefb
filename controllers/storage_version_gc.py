"""Takes the entries of apiservers that are gone out of StorageVersions (KEP-2339), and in the end the StorageVersions that nobody speaks of any more.

An apiserver is there while its identity Lease is in kube-system. One that was told to stop takes its Lease away; one that was lost leaves it behind, and it is removed here when it was not
renewed for an hour, by our clock. Before an entry is taken out the live API is asked for the Lease: the copy may not show one that has just been made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from kubeling.api.errors import ApiError, is_conflict, is_not_found
from kubeling.api.meta import generation_of, is_deleting, name_of, resource_version_of, spec_of, status_of, uid_of
from kubeling.api.resources import LEASES, STORAGE_VERSIONS
from kubeling.api.storageversions import without
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers.context import Context, Obj
from kubeling.controllers.kubernetes_service import IDENTITY_LABEL
from kubeling.controllers.on_request import when_served

NAMESPACE = "kube-system"
LOST_SECONDS = 3600.0


class StorageVersionCollector:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._versions = ctx.informers.informer(STORAGE_VERSIONS)
        self._leases = ctx.informers.informer(LEASES, namespace=NAMESPACE, label_selector=f"{IDENTITY_LABEL}=kube-apiserver")
        #: Lease → its renewTime, and when we saw that.
        self._seen: dict[str, tuple[str, float]] = {}
        self._loop = Reconciler("storage-version-gc", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._versions)
        self._loop.watches(self._leases, self._concerned)
        self.run = self._loop.run

    def _concerned(self, lease: Obj) -> Iterable[Request]:
        """A new Lease wants to be watched over; one that has gone, its entries to be taken out."""
        name = name_of(lease)
        if self._leases.store.get(name, NAMESPACE) is None:
            return [Request("", name_of(each)) for each in self._versions.store if name in _servers(each)]
        return () if name in self._seen else (Request(NAMESPACE, name),)

    async def reconcile(self, request: Request) -> float | None:
        """A Lease has a namespace, a StorageVersion has none."""
        if request.namespace:
            return await self._watch_over(request.name)
        found = self._versions.store.get(request.name)
        if found is None or is_deleting(found):
            return None
        gone = {each for each in _servers(found) if not await self._is_there(each)}
        if not gone:
            return None
        status = without(status_of(found), gone, self._ctx.clock.now(), generation_of(found))
        try:
            if status.get("storageVersions"):
                await self._client.update_status(STORAGE_VERSIONS, {**found, "status": status})
            else:
                version = resource_version_of(found)
                await self._client.delete(STORAGE_VERSIONS, request.name, uid=uid_of(found), resource_version=version)
        except ApiError as error:
            if not is_not_found(error):
                raise
        return None

    async def _is_there(self, server: str) -> bool:
        if self._leases.store.get(server, NAMESPACE) is not None:
            return True
        try:
            await self._client.get(LEASES, server, NAMESPACE)
        except ApiError as error:
            if is_not_found(error):
                return False
            raise
        return True

    async def _watch_over(self, name: str) -> float | None:
        """The seconds until a Lease counts as lost; it is removed then."""
        lease = self._leases.store.get(name, NAMESPACE)
        if lease is None:
            self._seen.pop(name, None)
            return None
        renewed, now = str(spec_of(lease).get("renewTime") or ""), self._ctx.clock.monotonic()
        before, at = self._seen.get(name, ("", now))
        if before != renewed:
            at = now
        self._seen[name] = (renewed, at)
        left = at + LOST_SECONDS - now
        if left > 0:
            return left
        try:
            version = resource_version_of(lease)
            await self._client.delete(LEASES, name, NAMESPACE, uid=uid_of(lease), resource_version=version)
        except ApiError as error:
            if not (is_not_found(error) or is_conflict(error)):
                raise
        return LOST_SECONDS


def _servers(version: Obj) -> list[str]:
    return [each.get("apiServerID") or "" for each in status_of(version).get("storageVersions") or ()]


def storageversiongc(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The collector of what lost apiservers have said."""
    return when_served(ctx, STORAGE_VERSIONS, lambda ctx: StorageVersionCollector(ctx).run)
