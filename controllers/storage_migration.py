"""StorageVersionMigration: every object of a kind is written anew (KEP-4192).

To write an object without changing it is to store it as objects are stored now: in another version after a CustomResourceDefinition has got another storage version, by
another key after the encryption at rest has changed. Where there is nothing to be done the server writes nothing, so a migration that was broken off, or that two leaders
do at once, is simply done again. A write carries uid and version of what was listed: what has changed since was stored the new way by whoever changed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kubeling.api.conditions import is_true
from kubeling.api.errors import ApiError, is_conflict, is_not_found
from kubeling.api.meta import is_deleting, name_of, namespace_of, resource_version_of, spec_of, status_of, uid_of
from kubeling.api.resources import STORAGE_VERSION_MIGRATIONS, Resource
from kubeling.api.times import format_time
from kubeling.client.controller import Reconciler, Request
from kubeling.client.metadata import MetadataClient
from kubeling.controllers.context import Context, Obj
from kubeling.controllers.on_request import find_resource, when_served

RUNNING, SUCCEEDED, FAILED = "Running", "Succeeded", "Failed"
_REASONS = {
    each: f"StorageVersionMigration{word}" for each, word in ((RUNNING, "InProgress"), (SUCCEEDED, SUCCEEDED), (FAILED, FAILED))
}
#: Objects that are written at a time.
PARALLEL = 8
#: What another attempt may cure.
_TRANSIENT = frozenset({408, 429})


class Refused(Exception):
    """An object that cannot be written as it is."""


class StorageVersionMigrator:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._metadata = MetadataClient(ctx.client)
        self._migrations = ctx.informers.informer(STORAGE_VERSION_MIGRATIONS)
        self._loop = Reconciler("storage-version-migrator-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._migrations)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """One step; each write wakes the next."""
        migration = self._current(request.name)
        if migration is None:
            return None
        found = await self._resource(migration)
        if found is None:
            await self._say(migration, FAILED, "the resource to be migrated is not served, or cannot be listed and patched")
        elif not status_of(migration).get("resourceVersion"):
            listed = await self._metadata.list(found, limit=1)
            await self._write(migration, {**status_of(migration), "resourceVersion": listed["metadata"]["resourceVersion"]})
        elif not is_true(migration, RUNNING):
            await self._say(migration, RUNNING, "")
        else:
            try:
                await self._rewrite(found, request.name)
            except Refused as error:
                await self._say(migration, FAILED, str(error))
            else:
                await self._say(migration, SUCCEEDED, "")
        return None

    def _current(self, name: str) -> Obj | None:
        """The migration, where there is something left to do for it."""
        found = self._migrations.store.get(name)
        done = found is None or is_deleting(found) or is_true(found, SUCCEEDED) or is_true(found, FAILED)
        return None if done else found

    async def _resource(self, migration: Obj) -> Resource | None:
        named = spec_of(migration)["resource"]
        group, version, plural = named.get("group") or "", named["version"], named["resource"]
        found = await find_resource(self._client, group, version, plural)
        if found is None or not {"list", "patch"} <= set(found.get("verbs") or ()):
            return None
        return Resource(group, version, plural, found.get("kind") or "", bool(found.get("namespaced")))

    async def _rewrite(self, resource: Resource, name: str) -> None:
        """Write every object. Raises Refused, and ApiError where another attempt may help."""
        listed = await self._metadata.list(resource)
        items = listed["items"]
        for start in range(0, len(items), PARALLEL):
            if self._current(name) is None:
                return
            await asyncio.gather(*(self._touch(resource, each) for each in items[start : start + PARALLEL]))

    async def _touch(self, resource: Resource, obj: Obj) -> None:
        unchanged = {"metadata": {"uid": uid_of(obj), "resourceVersion": resource_version_of(obj)}}
        namespace = namespace_of(obj) or None
        try:
            await self._client.patch(resource, name_of(obj), unchanged, namespace)
        except ApiError as error:
            if is_not_found(error) or is_conflict(error):
                return
            if error.code < 500 and error.code not in _TRANSIENT:
                where = f"{namespace}/{name_of(obj)}" if namespace else name_of(obj)
                raise Refused(f"{resource.qualified} {where} could not be written: {error}") from None
            raise

    async def _say(self, migration: Obj, kind: str, message: str) -> None:
        status, now = status_of(migration), format_time(self._ctx.clock.now())
        said = {"status": "True", "lastUpdateTime": now, "reason": _REASONS[kind], **({"message": message} if message else {})}
        others = [each for each in status.get("conditions") or () if each["type"] not in (kind, RUNNING)]
        conditions = [*others, {"type": kind, **said}]
        if kind != RUNNING and is_true(migration, RUNNING):
            conditions = [*others, {"type": RUNNING, **said, "status": "False"}, {"type": kind, **said}]
        await self._write(migration, {**status, "conditions": conditions})

    async def _write(self, migration: Obj, status: Obj) -> None:
        try:
            await self._client.update_status(STORAGE_VERSION_MIGRATIONS, {**migration, "status": status})
        except ApiError as error:
            if not is_not_found(error):
                raise


def storageversionmigrator(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of StorageVersionMigrations."""
    return when_served(ctx, STORAGE_VERSION_MIGRATIONS, lambda ctx: StorageVersionMigrator(ctx).run)
