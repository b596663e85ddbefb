"""A local copy of a collection, with indexes. Objects in it are shared: never change one, copy it first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kubeling.api.meta import key_of

Obj = dict[str, Any]
#: From an object to the values under which it is found.
Indexer = Callable[[Obj], Iterable[str]]


def by_namespace(obj: Obj) -> Iterable[str]:
    """An indexer that every informer has, under the name "namespace"."""
    return (obj["metadata"].get("namespace", ""),)


class Store:
    """Key → object, and index name → value → keys."""

    def __init__(self, indexers: Mapping[str, Indexer] | None = None) -> None:
        self._objects: dict[str, Obj] = {}
        self._indexers: dict[str, Indexer] = {"namespace": by_namespace, **(indexers or {})}
        self._indexes: dict[str, dict[str, set[str]]] = {name: {} for name in self._indexers}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Obj]:
        return iter(list(self._objects.values()))

    def all_keys(self) -> list[str]:
        """The keys as they are now; the store may change while the caller goes through them."""
        return list(self._objects)

    def get(self, name: str, namespace: str | None = None) -> Obj | None:
        """The object, None where there is none."""
        return self._objects.get(f"{namespace}/{name}" if namespace else name)

    def get_key(self, key: str) -> Obj | None:
        """The object by :func:`kubeling.api.meta.key_of`."""
        return self._objects.get(key)

    def by_index(self, index: str, value: str) -> list[Obj]:
        """All objects for which the indexer yields `value`."""
        return [self._objects[key] for key in self._indexes[index].get(value, ())]

    def in_namespace(self, namespace: str) -> list[Obj]:
        return self.by_index("namespace", namespace)

    def add_indexer(self, name: str, indexer: Indexer) -> None:
        """Add an index; what is in the store already is indexed at once. The same name again is a no-op."""
        if name in self._indexers:
            return
        self._indexers[name] = indexer
        self._indexes[name] = {}
        for key, obj in self._objects.items():
            for value in indexer(obj):
                self._indexes[name].setdefault(value, set()).add(key)

    def put(self, obj: Obj) -> Obj | None:
        """Insert or replace; returns what stood there."""
        key = key_of(obj)
        old = self._objects.get(key)
        if old is not None:
            self._unindex(key, old)
        self._objects[key] = obj
        for name, indexer in self._indexers.items():
            for value in indexer(obj):
                self._indexes[name].setdefault(value, set()).add(key)
        return old

    def remove(self, key: str) -> Obj | None:
        """Delete; returns what stood there."""
        old = self._objects.pop(key, None)
        if old is not None:
            self._unindex(key, old)
        return old

    def _unindex(self, key: str, obj: Obj) -> None:
        for name, indexer in self._indexers.items():
            index = self._indexes[name]
            for value in indexer(obj):
                keys = index.get(value)
                if keys is not None:
                    keys.discard(key)
                    if not keys:
                        del index[value]
