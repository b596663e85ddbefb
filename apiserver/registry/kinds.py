"""The kinds that are served: from a place in a URL to the store behind it.

Versions of one kind share a store, which holds one of them; the others are converted at the door. Kinds can be added and removed while the server runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kubeling.api import resources as api_resources
from kubeling.api.apply.versions import Versions
from kubeling.api.builtin import schema_of
from kubeling.api.decode import decode
from kubeling.api.printers.columns import Printer
from kubeling.api.resources import Resource
from kubeling.api.schema import Schema
from kubeling.api.strategies import strategy_of
from kubeling.apiserver import convert
from kubeling.apiserver.cache.cache import Cache
from kubeling.apiserver.cache.entry import Fields, Settle
from kubeling.apiserver.cache.hub import Hub
from kubeling.apiserver.registry.rules import Rules, rules_of
from kubeling.apiserver.registry.store import Store
from kubeling.apiserver.storage.encryption import Encryption
from kubeling.apiserver.storage.kv import KV
from kubeling.daemon.clock import Clock

_DEPRECATED = {
    api_resources.ENDPOINTS: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    api_resources.COMPONENT_STATUSES: "v1 ComponentStatus is deprecated in v1.19+",
}


class Served:
    """One resource in one version. `store` is None for what is only ever created and answered, such as reviews."""

    __slots__ = ("_schema", "_shared", "deprecation", "list_kind", "list_open", "resource", "rules", "store", "stored")

    def __init__(self, resource: Resource, stored: Resource, store: Store | None, rules: Rules, list_kind: str = "") -> None:
        self.resource = resource
        self.stored = stored
        self.store = store
        self.rules = rules
        #: Told to whoever uses it, in a Warning header.
        self.deprecation = _DEPRECATED.get(resource, "")
        #: Whether the kind has other versions.
        self._shared = stored is not resource or len(api_resources.versions_of(stored)) > 1
        self._schema: Schema | None = None
        self.list_kind = list_kind or f"{resource.kind}List"
        #: How a list of it begins.
        self.list_open = f'{{"kind":"{self.list_kind}","apiVersion":"{resource.group_version}","metadata":'.encode()

    @property
    def selectable_names(self) -> frozenset[str]:
        """The fields that field selectors may name in this version."""
        return strategy_of(self.resource).selectable_names

    @property
    def is_builtin(self) -> bool:
        """Whether the kind's schema knows merge keys, which strategic merge needs."""
        return True

    @property
    def schema(self) -> Schema:
        """The shape of the kind."""
        if self._schema is None:
            self._schema = schema_of(self.resource.group_version, self.resource.kind)
        return self._schema

    @property
    def converts(self) -> bool:
        """Whether stored objects are of another version than this one."""
        return self.stored is not self.resource

    @property
    def converts_late(self) -> bool:
        """Whether conversion takes its time: a webhook is asked."""
        return False

    @property
    def printer(self) -> Printer | None:
        """The columns of its Table, None where they go by the kind."""
        return None

    @property
    def scale_paths(self) -> tuple[str, str, str] | None:
        """Where replicas, their actual number and the selector are, None where they are at the usual places."""
        return None

    def versions(self) -> Versions | None:
        """The versions in which managers of fields may have written; None where there is no need to tell them apart."""
        found = api_resources.versions_of(self.stored) if self._shared else ()
        return Versions({each: schema_of(each, self.stored.kind) for each in found}, renames=False) if found else None

    async def convert(self, versions: Versions) -> None:
        """Convert what is wanted. Raises ApiError."""
        for obj, version in versions.wanted:
            versions.learn(obj, version, convert.between(obj, version))

    def decode(self, obj: Any, *, strict: bool, duplicates: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """A client's object, checked, and what is odd about it: see :func:`kubeling.api.decode.decode`."""
        return decode(obj, self.resource.group_version, self.resource.kind, strict=strict, duplicates=duplicates)


class Kinds:
    """The registry of kinds."""

    def __init__(self, kv: KV, hub: Hub, clock: Clock, encryption: Encryption | None = None) -> None:
        self._kv = kv
        self._encryption = encryption or Encryption()
        self._hub = hub
        self._clock = clock
        self._served: dict[tuple[str, str, str], Served] = {}
        self._stores: dict[str, Store] = {}

    def __iter__(self) -> Iterator[Served]:
        return iter(list(self._served.values()))

    def add(self, resource: Resource) -> Served:
        """Serve a resource."""
        stored = resource
        if resource.storage_version:
            stored = api_resources.by_kind(resource.storage_version, resource.kind) or resource
        store = None
        rules = rules_of(stored, resource)
        if "get" in resource.verbs and resource.kept:
            prefix = (
                f"/registry/{stored.storage_group}/{stored.plural}/" if stored.storage_group else f"/registry/{stored.plural}/"
            )
            store = self._stores.get(prefix)
            if store is None:
                self._kv.protect(prefix, self._encryption.of(stored))
                cache = Cache(
                    prefix, stored.group_version, stored.kind, rules.fields, self._kv, self._hub, self._clock, rules.trigger
                )
                store = self._stores[prefix] = Store(stored, prefix, self._kv, cache, self._clock)
        served = Served(resource, stored, store, rules)
        self._served[resource.group, resource.version, resource.plural] = served
        return served

    def add_all(self, resources: Iterable[Resource]) -> None:
        for each in resources:
            self.add(each)

    def put(self, served: Served) -> None:
        """Serve a custom resource, in place of what was served there."""
        resource = served.resource
        self._served[resource.group, resource.version, resource.plural] = served

    def drop(self, resource: Resource) -> None:
        """Serve a custom resource no more."""
        self._served.pop((resource.group, resource.version, resource.plural), None)

    def custom_store(self, resource: Resource, prefix: str, fields: Fields, settle: Settle | None) -> Store:
        """A store for custom resources of which `resource` is the stored version."""
        self._kv.protect(prefix, self._encryption.of(resource))
        cache = Cache(prefix, resource.group_version, resource.kind, fields, self._kv, self._hub, self._clock, settle=settle)
        made = self._stores[prefix] = Store(resource, prefix, self._kv, cache, self._clock)
        return made

    def drop_store(self, store: Store) -> None:
        """The kind is gone: its watches end."""
        self._stores.pop(store.prefix, None)
        self._hub.unsubscribe(store.prefix)
        store.cache.end()

    def find(self, group: str, version: str, plural: str) -> Served | None:
        """What is served at that place."""
        return self._served.get((group, version, plural))

    def store(self, resource: Resource) -> Store:
        """The store of a kind that has one."""
        found = self._served[resource.group, resource.version, resource.plural].store
        assert found is not None
        return found

    def stores(self) -> Iterable[Store]:
        return list(self._stores.values())
