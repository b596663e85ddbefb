"""ResourceQuota: nothing is created that its namespace has no room for, whichever and however many apiservers are asked.

What an object uses is added to the `status.used` of each quota that counts it in the very Txn that creates the object, on the condition that the quota is as
it was seen. So a quota is charged if and only if the object is there, and two requests cannot both take the last of it; who comes second computes anew.
Giving back is the business of the controller, which counts what there is (:mod:`kubeling.controllers.resource_quota`).

The requests of one namespace that charge a quota take turns within a server: they would only get into each other's way at the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from kubeling.api import errors, resources
from kubeling.api.admission import quota
from kubeling.api.admission.quota import Exceeded, Usage
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.cache.entry import Entry, encode
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.apiserver.storage.kv import Commit, Write
from kubeling.daemon.clock import Clock

_MAX_SEEN = 4096
_ON_UPDATE = {("pods", "resize"), ("services", ""), ("persistentvolumeclaims", "")}


class ResourceQuota(Plugin):
    """See the module."""

    def __init__(self, kinds: Kinds, clock: Clock) -> None:
        self._kinds = kinds
        self._clock = clock
        #: What Txns have told of quotas, where it is newer than the cache; None for one that is gone.
        self._seen: dict[str, tuple[int, Entry | None]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def validate(self, attributes: Attributes) -> None:
        obj, qualified = attributes.obj, attributes.resource.qualified
        if obj is None or not attributes.namespace or not attributes.resource.namespaced or not _applies(attributes, qualified):
            return
        if not await self._quotas(attributes.namespace):
            return
        now = self._clock.now()
        usage = quota.usage_of(qualified, obj, now)
        if attributes.old is not None:
            usage = quota.grown(usage, quota.usage_of(qualified, attributes.old, now))
        if not usage:
            return
        charge = Charge(self, attributes, obj, usage)
        if await charge.writes() and not attributes.dry_run:
            attributes.guard = charge

    async def _quotas(self, namespace: str, *, live: bool = False) -> list[Entry]:
        """The newest that is known of each quota of a namespace; with `live`, from the store."""
        store = self._kinds.store(resources.RESOURCE_QUOTAS)
        if live:
            page = await store.kv.list_all(store.collection(namespace))
            entries = [Entry(each.key, each.value, each.revision, {}, {}) for each in page.items]
            for entry in entries:
                self._note(entry.key, entry.revision, entry)
            return entries
        await store.cache.ready()
        found: list[Entry] = []
        for entry in store.cache.entries(store.collection(namespace)):
            revision, seen = self._seen.get(entry.key, (0, None))
            if revision <= entry.revision:
                self._seen.pop(entry.key, None)
                found.append(entry)
            elif seen is not None:
                found.append(seen)
        return found

    def _note(self, key: str, revision: int, entry: Entry | None) -> None:
        if len(self._seen) >= _MAX_SEEN:
            self._seen.clear()  # What is forgotten is in the cache, or is learnt again from the next Txn that fails.
        if revision >= self._seen.get(key, (0, None))[0]:
            self._seen[key] = (revision, entry)

    def _lock(self, namespace: str) -> asyncio.Lock:
        found = self._locks.get(namespace)
        if found is None:
            if len(self._locks) >= _MAX_SEEN:
                self._locks = {key: lock for key, lock in self._locks.items() if lock.locked()}
            found = self._locks[namespace] = asyncio.Lock()
        return found


class Charge:
    """What one request adds to the quotas of its namespace: see :class:`kubeling.apiserver.admission.chain.Guard`."""

    def __init__(self, plugin: ResourceQuota, attributes: Attributes, obj: dict[str, Any], usage: Usage) -> None:
        self._plugin = plugin
        self._attributes = attributes
        self._obj = obj
        self._usage = usage
        self._writes: list[Write] = []
        self._lock = plugin._lock(attributes.namespace)

    async def __aenter__(self) -> Charge:
        await self._lock.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()

    async def writes(self) -> Sequence[Write]:
        """The quotas with the usage added. A refusal is looked at again with what the store has. Raises 403."""
        namespace = self._attributes.namespace
        try:
            self._writes = self._charged(await self._plugin._quotas(namespace))
        except Exceeded:
            try:
                self._writes = self._charged(await self._plugin._quotas(namespace, live=True))
            except Exceeded as error:
                resource = self._attributes.resource
                raise errors.forbidden(resource.group, resource.plural, self._attributes.name, str(error)) from None
        return self._writes

    def _charged(self, entries: list[Entry]) -> list[Write]:
        writes: list[Write] = []
        for entry in entries:
            found = entry.object()
            qualified = self._attributes.resource.qualified
            used = quota.charge(found, qualified, self._obj, self._usage, creating=self._attributes.operation == "CREATE")
            if used is not None:
                found["status"]["used"] = used
                writes.append(Write(entry.key, encode(found), entry.revision))
        return writes

    def learn(self, commit: Commit, at: int) -> bool:
        """Remember how the quotas stand now."""
        stale = False
        for offset, write in enumerate(self._writes):
            if commit.done:
                assert write.value is not None
                self._plugin._note(write.key, commit.revision, Entry(write.key, write.value, commit.revision, {}, {}))
                continue
            now = commit.current[at + offset]
            if now is None or now.revision != write.expect:
                stale = True
                entry = Entry(write.key, now.value, now.revision, {}, {}) if now is not None else None
                self._plugin._note(write.key, now.revision if now is not None else commit.revision, entry)
        return stale


def _applies(attributes: Attributes, qualified: str) -> bool:
    if attributes.operation == "CREATE":
        return not attributes.subresource
    return attributes.operation == "UPDATE" and (qualified, attributes.subresource) in _ON_UPDATE
