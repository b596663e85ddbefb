"""The webhooks that are configured, in the order in which they are called: by the name of their configuration, then as they stand in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubeling.api.resources import Resource
from kubeling.apiserver.registry.kinds import Kinds


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of one configuration."""

    uid: str
    configuration: str
    name: str
    spec: Mapping[str, Any]

    @property
    def ignores_failure(self) -> bool:
        return self.spec.get("failurePolicy") == "Ignore"

    @property
    def seconds(self) -> int:
        return int(self.spec.get("timeoutSeconds") or 10)


class Hooks:
    """Reads the configurations from their cache; each is taken apart once a change."""

    def __init__(self, kinds: Kinds, resource: Resource) -> None:
        self._store = kinds.store(resource)
        self._known: dict[str, tuple[int, tuple[Hook, ...]]] = {}

    async def current(self) -> list[Hook]:
        """All of them."""
        cache = self._store.cache
        await cache.ready()
        if not len(cache):
            self._known.clear()
            return []
        known: dict[str, tuple[int, tuple[Hook, ...]]] = {}
        found: list[Hook] = []
        for entry in cache.entries():
            held = self._known.get(entry.key)
            if held is None or held[0] != entry.revision:
                held = (entry.revision, _hooks(entry.name, entry.object()))
            known[entry.key] = held
            found += held[1]
        self._known = known
        return found


def _hooks(configuration: str, obj: Mapping[str, Any]) -> tuple[Hook, ...]:
    return tuple(
        Hook(f"{configuration}/{each.get('name')}/{at}", configuration, str(each.get("name") or ""), each)
        for at, each in enumerate(obj.get("webhooks") or ())
    )
