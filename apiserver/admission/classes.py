"""Classes of which one may be the default, by an annotation: of storage, of ingresses."""

from __future__ import annotations

from kubeling.api.meta import annotations_of, metadata_of
from kubeling.apiserver.registry.store import Store


async def default_class(store: Store, *annotations: str) -> str:
    """The name of the default class, the youngest where there are several; empty where there is none."""
    await store.cache.ready()
    found: list[tuple[str, str]] = []
    for entry in store.cache.entries():
        obj = entry.object()
        if any(annotations_of(obj).get(each) == "true" for each in annotations):
            found.append((str(metadata_of(obj).get("creationTimestamp") or ""), entry.name))
    if not found:
        return ""
    youngest = max(created for created, _ in found)
    return min(name for created, name in found if created == youngest)
