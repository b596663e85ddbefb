"""A client for one controller-manager of one run: it sees one namespace (and what is named after it), counts its writes, and can die, or have its copies stand still, at one of them.

What a controller asks of the whole cluster is asked of the run's namespace; objects without a namespace are those whose name begins with it. So many runs share one apiserver.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from kubeling.api.resources import Resource, by_plural
from kubeling.client.kubeconfig import ClientConfig
from kubeling.client.rest import Client

#: How long a copy stands still.
FROZEN_SECONDS = 1.0
#: Writes that are none of the cluster's state.
_ASIDE = ("/events", "reviews", "/leases")


@dataclass(frozen=True, slots=True)
class Death:
    """To be killed at a write: right before it is sent, or right after it was answered."""

    write: int
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} write {self.write}"


def parse(path: str) -> tuple[Resource | None, list[str]]:
    """The resource of a path, and the parts behind its version."""
    parts = path.strip("/").split("/")
    group, version, rest = "", "", []
    if parts[0] == "api" and len(parts) > 2:
        version, rest = parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    if len(rest) >= 3 and rest[0] == "namespaces" and by_plural(group, version, rest[2]):
        return by_plural(group, version, rest[2]), rest
    return (by_plural(group, version, rest[0]) if rest else None), rest


class ScopedClient(Client):
    """See the module's docstring. `death` None: it lives."""

    def __init__(self, config: ClientConfig, namespace: str, death: Death | None = None, freeze_at: int | None = None) -> None:
        super().__init__(config, user_agent="kube-controller-manager")
        self._namespace = namespace
        self._death = death
        self._freeze_at = freeze_at
        self.writes: list[str] = []
        self.dead = asyncio.Event()
        # While it is not set, nothing that is watched arrives.
        self._flowing = asyncio.Event()
        self._flowing.set()

    def _scope(self, path: str) -> tuple[str, bool]:
        """The path to ask, and whether the answer is to be filtered by name."""
        resource, rest = parse(path)
        if resource is None or len(rest) != 1:
            return path, False
        return (resource.path(self._namespace), False) if resource.namespaced else (path, True)

    async def request_bytes(self, method: str, path: str, **options: Any) -> bytes:
        if self.dead.is_set():
            await asyncio.Event().wait()
        where, filtered = self._scope(path) if method == "GET" else (path, False)
        fatal = False
        if method != "GET" and not any(each in path for each in _ASIDE):
            self.writes.append(f"{method} {path}")
            fatal = self._death is not None and len(self.writes) == self._death.write
            if len(self.writes) == self._freeze_at:
                self._flowing.clear()
                asyncio.get_running_loop().call_later(FROZEN_SECONDS, self._flowing.set)
        if fatal and self._death is not None and not self._death.after:
            await self._die()
        try:
            answer = await super().request_bytes(method, where, **options)
        finally:
            if fatal:
                self.dead.set()
        if fatal or self.dead.is_set():
            await self._die()
        return self._own(answer) if filtered else answer

    async def _die(self) -> None:
        """Whoever asked never hears of it."""
        self.dead.set()
        await asyncio.Event().wait()

    def _own(self, answer: bytes) -> bytes:
        listed = orjson.loads(answer)
        if "items" in listed:
            listed["items"] = [each for each in listed["items"] if self._is_own(each)]
        return orjson.dumps(listed)

    def _is_own(self, obj: dict[str, Any]) -> bool:
        return str(obj["metadata"].get("name") or "").startswith(self._namespace)

    async def stream_lines(self, method: str, path: str, **options: Any) -> AsyncIterator[bytes]:
        where, filtered = self._scope(path)
        async for line in super().stream_lines(method, where, **options):
            await self._flowing.wait()
            if filtered:
                event = orjson.loads(line)
                if event["type"] in ("ADDED", "MODIFIED", "DELETED") and not self._is_own(event["object"]):
                    continue
            yield line
