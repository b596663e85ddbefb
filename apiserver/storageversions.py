"""Says in StorageVersions in which version this server stores each kind, and which it can read (KEP-2339); where --runtime-config has that kind served.

Custom kinds are included: when a definition changes, what was said is brought up to date. The entries of servers that are gone are taken out by a controller.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kubeling.api import errors, resources
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, generation_of, status_of
from kubeling.api.resources import STORAGE_VERSIONS
from kubeling.api.storageversions import entry, name_of_kind, with_entry, without
from kubeling.apiserver.context import Context
from kubeling.apiserver.custom.served import CustomServed
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.registry.planting import plant
from kubeling.apiserver.registry.store import Change
from kubeling.apiserver.storage.errors import StoreError
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger

log = get_logger("storageversions")

Entry = dict[str, Any]


def entries_of(kinds: list[Served], server: str) -> dict[str, Entry]:
    """What there is to say: by the StorageVersion's name."""
    grouped: dict[str, list[Served]] = {}
    for each in kinds:
        if each.store is not None:
            grouped.setdefault(name_of_kind(each.resource.group, each.resource.plural), []).append(each)
    return {name: _entry(every, server) for name, every in grouped.items()}


def _entry(every: list[Served], server: str) -> Entry:
    first = every[0]
    versions = {each.resource.group_version for each in every}
    if isinstance(first, CustomServed):
        definition = first.definition
        decodable = {each.group_version for each in definition.versions.values()}
        return entry(server, definition.storage.group_version, decodable, versions)
    return entry(server, first.stored.group_version, versions, versions)


class StorageVersions:
    """Run :meth:`run` as a task. `server` is the name of the identity Lease."""

    def __init__(self, context: Context, server: str) -> None:
        self._context = context
        self._server = server
        self._store = context.kinds.store(STORAGE_VERSIONS)
        #: What has been written.
        self._said: dict[str, Entry] = {}
        self._awake = asyncio.Event()
        self._awake.set()
        context.definitions.on_kinds.append(self._awake.set)

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(base=0.1, limit=10)
        while True:
            await self._awake.wait()
            self._awake.clear()
            try:
                await self._write(entries_of(list(self._context.kinds), self._server))
                backoff.reset()
            except (ApiError, StoreError) as error:
                log.warning("the storage versions could not be written, trying again", error=str(error))
                await self._context.clock.sleep(backoff.next())
                self._awake.set()

    async def _write(self, wanted: dict[str, Entry]) -> None:
        if not self._said and await self._planted(wanted):
            self._said = dict(wanted)
        for name, said in wanted.items():
            if self._said.get(name) != said:
                await self._say(name, said)
                self._said[name] = said
        for name in [each for each in self._said if each not in wanted]:
            await self._take_back(name)
            del self._said[name]

    async def _planted(self, wanted: dict[str, Entry]) -> bool:
        """Whether all could be written at once, as in a new cluster."""
        now = self._context.clock.now()

        def finish(obj: Object) -> None:
            obj["status"] = with_entry({}, wanted[obj["metadata"]["name"]], now)

        return await plant(self._context, [_body(each) for each in wanted], finish) is not None

    async def _say(self, name: str, said: Entry) -> None:
        now = self._context.clock.now()

        async def mutate(obj: Object) -> Change:
            return Change({**obj, "status": with_entry(status_of(obj), said, now, generation_of(obj))})

        try:
            await self._store.change("", name, mutate)
        except ApiError as error:
            if not errors.is_not_found(error):
                raise
            made = await plant(self._context, [_body(name)], lambda obj: obj.update(status=with_entry({}, said, now)))
            if made is None:
                # Another server was first.
                await self._store.change("", name, mutate)

    async def _take_back(self, name: str) -> None:
        """The kind is served no more: the last one takes the object along."""
        now = self._context.clock.now()

        async def mutate(obj: Object) -> Change:
            status = without(status_of(obj), {self._server}, now, generation_of(obj))
            return Change({**obj, "status": status} if status.get("storageVersions") else None)

        try:
            await self._store.change("", name, mutate)
        except ApiError as error:
            if not errors.is_not_found(error):
                raise


def _body(name: str) -> Object:
    resource = resources.STORAGE_VERSIONS
    return {"apiVersion": resource.group_version, "kind": resource.kind, "metadata": {"name": name}, "spec": {}}
