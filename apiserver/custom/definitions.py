"""Makes kinds of CustomResourceDefinitions: every apiserver follows them by watch and has no state of its own.

A kind is served as soon as its definition is established, and changes with it. Where a client has heard of a definition from another server and comes here
before the news did, :meth:`Definitions.refresh` catches up with the store first; so what one server has acknowledged is never unknown to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kubeling.api import resources
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, spec_of
from kubeling.api.structural.defaulting import apply_defaults
from kubeling.api.structural.definition import Definition
from kubeling.api.structural.prune import prune
from kubeling.apiserver.cache.entry import Entry, Fields, Settle
from kubeling.apiserver.cache.follower import Follower
from kubeling.apiserver.cache.watcher import Event
from kubeling.apiserver.custom.conversion import Converter, Renaming
from kubeling.apiserver.custom.guard import Guard
from kubeling.apiserver.custom.served import CustomServed
from kubeling.apiserver.registry.kinds import Kinds, Served
from kubeling.apiserver.registry.store import Store
from kubeling.apiserver.storage.errors import StoreError
from kubeling.daemon.log import get_logger

log = get_logger("definitions")

MakeConverter = Callable[[Definition], Converter]


@dataclass(slots=True)
class _Known:
    """A definition as it was last seen. `store` is None before it is first served."""

    revision: int
    definition: Definition
    store: Store | None = None


class Definitions:
    """Run :meth:`run` as a task."""

    def __init__(self, kinds: Kinds, by_webhook: MakeConverter) -> None:
        self._kinds = kinds
        self._by_webhook = by_webhook
        self._known: dict[str, _Known] = {}
        self.cache = kinds.store(resources.CUSTOM_RESOURCE_DEFINITIONS).cache
        self._follower = Follower(self.cache, self._replace, self._apply)
        #: Called after every change of a definition, and with its last state when it is gone.
        self.listeners: list[Callable[[Definition], None]] = []
        #: Called when the set of kinds, or one of their schemas, has changed.
        self.on_kinds: list[Callable[[], None]] = []

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._follower.run()

    async def refresh(self) -> None:
        """Catch up with the store. Where it does not answer, what is known must do."""
        try:
            await self.catch_up()
        except (ApiError, StoreError) as error:
            log.debug("definitions may be out of date", error=str(error))

    async def catch_up(self) -> None:
        """Know all that was in the store when this was called. Raises what the store raises."""
        await self.cache.fresh()
        await self._follower.ensure()

    async def find(self, group: str, version: str, plural: str) -> Served | None:
        """A kind that was not known a moment ago."""
        if "." not in group:
            return None
        await self.refresh()
        return self._kinds.find(group, version, plural)

    def all(self) -> list[Definition]:
        """All definitions."""
        return [each.definition for each in self._known.values()]

    def get(self, name: str) -> Definition | None:
        """A definition by its name."""
        known = self._known.get(name)
        return known.definition if known else None

    def key(self, name: str) -> str:
        """Where a definition is in the store."""
        return self.cache.prefix + name

    def revision(self, name: str) -> int:
        """The revision in which a definition was last seen, 0 for none."""
        known = self._known.get(name)
        return known.revision if known else 0

    def store(self, name: str) -> Store | None:
        """The store of a definition's objects."""
        known = self._known.get(name)
        return known.store if known else None

    def _replace(self, entries: Iterable[Entry]) -> None:
        seen = set()
        for entry in entries:
            seen.add(entry.name)
            known = self._known.get(entry.name)
            if known is None or known.revision != entry.revision:
                self._take(entry)
        for name in [each for each in self._known if each not in seen]:
            self._drop(name)

    def _apply(self, event: Event) -> None:
        if event.type == "DELETED":
            self._drop(event.entry.name)
        else:
            self._take(event.entry)

    def _changed(self) -> None:
        for each in self.on_kinds:
            each()

    def _tell(self, definition: Definition) -> None:
        for each in self.listeners:
            each(definition)

    def _take(self, entry: Entry) -> None:
        """A definition is new or has changed."""
        obj = entry.object()
        try:
            definition = Definition(obj)
        except (KeyError, TypeError, AttributeError, ValueError):
            # Written past the API: nothing that validation lets through.
            log.exception("a definition cannot be understood", name=entry.name)
            return
        known = self._known.get(definition.name)
        if known is not None and known.definition.uid != definition.uid:
            self._drop(definition.name)
            known = None
        if known is not None:
            definition.adopt(known.definition)
        fresh = _Known(entry.revision, definition, known.store if known else None)
        self._known[definition.name] = fresh
        self._tell(definition)
        if known is not None and _same(known.definition, definition):
            return
        for each in known.definition.served() if known else ():
            self._kinds.drop(each.resource)
        self._serve(fresh, known.definition if known else None)
        self._changed()

    def _serve(self, known: _Known, before: Definition | None) -> None:
        definition = known.definition
        if not definition.established:
            return
        storage = definition.storage
        fields, settle = _fields(definition), _settle(definition)
        if known.store is None:
            known.store = self._kinds.custom_store(storage.resource, definition.prefix, fields, settle)
        elif before is None or before.storage_facts() != definition.storage_facts():
            known.store.resource = storage.resource
            known.store.cache.renew(storage.group_version, fields, settle)
        guard = Guard(self, definition)
        converter = self._by_webhook(definition) if definition.by_webhook else Renaming()
        for version in definition.served():
            found = self._kinds.find(version.resource.group, version.resource.version, version.resource.plural)
            if found is None or not found.is_builtin:
                served = CustomServed(definition, version, known.store, converter)
                served.rules.companions = guard
                self._kinds.put(served)

    def _drop(self, name: str) -> None:
        known = self._known.pop(name, None)
        if known is None:
            return
        self._tell(known.definition)
        for each in known.definition.served():
            self._kinds.drop(each.resource)
        if known.store is not None:
            self._kinds.drop_store(known.store)
        self._changed()


def _same(old: Definition, new: Definition) -> bool:
    """Whether nothing changed that matters for how the kind is served."""
    return all(_facts(old)[key] == value for key, value in _facts(new).items())


def _facts(definition: Definition) -> dict[str, Any]:
    return {
        "spec": spec_of(definition.obj),
        "names": definition.names,
        "established": definition.established,
        "terminating": definition.terminating,
        "stored": definition.stored_versions,
    }


def _fields(definition: Definition) -> Fields:
    """What selectors of any version may ask for."""
    storage = definition.storage
    versions = [each for each in definition.versions.values() if each is not storage and each.selectable]

    def fields(obj: Object) -> dict[str, str]:
        found = storage.strategy.selectable_fields(obj)
        for each in versions:
            for name, value in each.select(obj).items():
                found.setdefault(name, value)
        return found

    return fields


def _settle(definition: Definition) -> Settle:
    """Stored objects may be of an older schema, and where no webhook is needed for it, of another version."""
    storage = definition.storage
    group_version = storage.group_version
    by_webhook = definition.by_webhook

    def settle(obj: Object) -> bool:
        changed = False
        if obj["apiVersion"] != group_version:
            if by_webhook:
                return False
            obj["apiVersion"] = group_version
            changed = True
        pruned = bool(prune(obj, storage.node))
        return apply_defaults(obj, storage.node, top=True) or pruned or changed

    return settle
