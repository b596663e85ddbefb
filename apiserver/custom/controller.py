"""Keeps the status of CustomResourceDefinitions: names, established, and the end of a kind with all its objects.

Every apiserver runs it. It needs no leader: each write is a compare-and-set of a state that follows from what is in the store, so that two who do the same come
to the same. Who gets a name depends on all definitions of a group, though: whoever gives one writes a marker of the group with it, so that no two give at once. It
sleeps until a definition changes, or an object of a kind that is going.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from kubeling.api import errors, resources
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, finalizers_of, is_deleting, remove_finalizer, status_of
from kubeling.api.structural import conditions
from kubeling.api.structural.definition import CLEANUP_FINALIZER, Definition, holds
from kubeling.apiserver.cache.follower import Follower
from kubeling.apiserver.custom.definitions import Definitions
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.apiserver.registry.store import Change, Mutate, Store
from kubeling.apiserver.storage.errors import StoreError
from kubeling.apiserver.storage.kv import Write
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor

log = get_logger("definitions")

_Compute = Callable[[Object], Object]


class Controller:
    """Run :meth:`run` as a task."""

    def __init__(self, definitions: Definitions, kinds: Kinds, clock: Clock) -> None:
        self._definitions = definitions
        self._store = kinds.store(resources.CUSTOM_RESOURCE_DEFINITIONS)
        self.clock = clock
        self._awake = asyncio.Event()
        self._kinds = kinds
        self._cleanups: dict[str, Cleanup] = {}
        #: Definitions that have changed or gone, by group and name.
        self._todo: set[tuple[str, str]] = set()
        definitions.listeners.append(self._heard)

    def _heard(self, definition: Definition) -> None:
        self._todo.add((definition.group, definition.name))
        self._awake.set()

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(base=0.05, limit=5)
        async with Supervisor(self.clock) as parts:
            while True:
                await self._awake.wait()
                self._awake.clear()
                todo, self._todo = self._todo, set()
                try:
                    await self._reconcile_all(todo, parts)
                    backoff.reset()
                except (ApiError, StoreError) as error:
                    log.warning("the status of a definition could not be written, trying again", error=str(error))
                    await self.clock.sleep(backoff.next())
                    self._todo |= todo
                    self._awake.set()

    async def _reconcile_all(self, todo: set[tuple[str, str]], parts: Supervisor) -> None:
        """Those that changed, and of their groups those that wait for a name, which may be free now."""
        changed = {group for group, _ in todo}
        groups: dict[str, list[Definition]] = {}
        for each in self._definitions.all():
            if each.group in changed:
                groups.setdefault(each.group, []).append(each)
        for group, definitions in groups.items():
            # Who came first is asked first.
            definitions.sort(key=lambda each: conditions.seniority(each.obj))
            others = [each.obj for each in definitions]
            for each in definitions:
                if (group, each.name) in todo or not holds(each.obj, conditions.NAMES_ACCEPTED):
                    await self._reconcile(each, others, parts)

    async def _reconcile(self, definition: Definition, others: list[Object], parts: Supervisor) -> None:
        now = self.clock.now()
        if conditions.reconciled(definition.obj, others, now) != status_of(definition.obj):
            await self._change(definition.name, partial(self._settle, definition.group))
        if definition.terminating and CLEANUP_FINALIZER in finalizers_of(definition.obj):
            running = self._cleanups.get(definition.uid)
            if running is None:
                cleanup = self._cleanups[definition.uid] = Cleanup(self, definition)
                parts.start(f"cleanup of {definition.name}", partial(self._clean, cleanup))

    async def _clean(self, cleanup: Cleanup) -> None:
        await cleanup.run()
        self._cleanups.pop(cleanup.definition.uid, None)

    async def _settle(self, group: str, old: Object) -> Change:
        """The status that follows from what the store holds now, with the group's marker where it gives or takes names."""
        marker = f"{self._definitions.cache.prefix.rstrip('/').rpartition('/')[0]}/names/{group}"
        stands, _ = await self._store.kv.get(marker)
        await self._definitions.catch_up()
        others = [each.obj for each in self._definitions.all() if each.group == group]
        change = Change({**old, "status": conditions.reconciled(old, others, self.clock.now())})
        if conditions.held(change.obj or {}) != conditions.held(old):
            change.writes = (Write(marker, b"{}", stands.revision if stands else 0),)
        return change

    async def _write(self, name: str, compute: _Compute) -> None:
        """Change a definition past admission; nothing happens to one that is gone."""

        async def mutate(old: Object) -> Change:
            new = compute(old)
            if is_deleting(new) and not finalizers_of(new):
                return Change(None)
            return Change(new)

        await self._change(name, mutate)

    async def _change(self, name: str, mutate: Mutate) -> None:
        try:
            await self._store.change("", name, mutate)
        except ApiError as error:
            if not errors.is_not_found(error):
                raise

    def store(self, definition: Definition) -> Store:
        """Where its objects are. A kind that was never served here may have been elsewhere."""
        storage = definition.storage
        found = self._definitions.store(definition.name)
        return found or self._kinds.custom_store(storage.resource, definition.prefix, storage.strategy.selectable_fields, None)

    async def note(self, definition: Definition, left: int | None) -> None:
        """Write down how far a cleanup is; with nothing left the definition may go."""

        def compute(obj: Object) -> Object:
            if obj["metadata"].get("uid") != definition.uid or CLEANUP_FINALIZER not in finalizers_of(obj):
                return obj
            conditions.terminating(obj.setdefault("status", {}), self.clock.now(), left)
            if left == 0:
                remove_finalizer(obj, CLEANUP_FINALIZER)
            return obj

        await self._write(definition.name, compute)


class Cleanup:
    """Deletes all objects of a kind whose definition is going, and waits for those that finalizers hold."""

    def __init__(self, controller: Controller, definition: Definition) -> None:
        self._controller = controller
        self.definition = definition
        self._awake = asyncio.Event()

    async def run(self) -> None:
        """Until the definition may go."""
        definition = self.definition
        store = self._controller.store(definition)
        await self._controller.note(definition, None)
        follower = Follower(store.cache, self._wake, self._wake)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follower.run())
            while left := await self._delete_all(store):
                await self._controller.note(definition, left)
                await self._awake.wait()
                self._awake.clear()
            following.cancel()
        await self._controller.note(definition, 0)

    def _wake(self, _: object) -> None:
        self._awake.set()

    async def _delete_all(self, store: Store) -> int:
        """Delete what is there; returns how many objects are held by finalizers."""
        await store.cache.fresh()
        for entry in list(store.cache.entries()):
            try:
                await store.change(entry.namespace, entry.name, self._mark)
            except ApiError as error:
                if not errors.is_not_found(error):
                    raise
        await store.cache.fresh()
        self._awake.clear()
        return len(store.cache)

    async def _mark(self, obj: Object) -> Change:
        if not finalizers_of(obj):
            return Change(None)
        self.definition.storage.strategy.mark_deleting(obj, self._controller.clock.now())
        return Change(obj)
