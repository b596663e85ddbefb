"""The policies that have bindings, by name, each with its bindings; taken apart once a change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubeling.api.resources import Resource
from kubeling.apiserver.registry.kinds import Kinds


@dataclass(frozen=True, slots=True)
class Definition:
    """One policy, and the names and specs of what binds it."""

    name: str
    spec: Mapping[str, Any]
    bindings: tuple[tuple[str, Mapping[str, Any]], ...]

    @property
    def is_strict(self) -> bool:
        """Whether what cannot be evaluated is refused."""
        return self.spec.get("failurePolicy") != "Ignore"


class Definitions:
    """Reads them from their caches."""

    def __init__(self, kinds: Kinds, policies: Resource, bindings: Resource) -> None:
        self._policies = kinds.store(policies)
        self._bindings = kinds.store(bindings)
        self._versions: tuple[tuple[str, int], ...] = ()
        self._known: list[Definition] = []

    async def current(self) -> list[Definition]:
        """All that are bound."""
        policies, bindings = self._policies.cache, self._bindings.cache
        await policies.ready()
        await bindings.ready()
        if not len(policies) or not len(bindings):
            return []
        versions = tuple((each.key, each.revision) for cache in (policies, bindings) for each in cache.entries())
        if versions != self._versions:
            self._known = self._read()
            self._versions = versions
        return self._known

    def _read(self) -> list[Definition]:
        bound: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
        for entry in self._bindings.cache.entries():
            spec = entry.object().get("spec") or {}
            bound.setdefault(str(spec.get("policyName") or ""), []).append((entry.name, spec))
        return [
            Definition(entry.name, entry.object().get("spec") or {}, tuple(bound[entry.name]))
            for entry in self._policies.cache.entries()
            if entry.name in bound
        ]
