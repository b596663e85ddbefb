"""ConfigMaps, Secrets and other objects that pods refer to: each followed by a watch of its own while some pod needs it.

A node may read only what its pods name, and polling what does not change costs for nothing; so every referenced object has an informer that selects
it by name. Pods hold references; an object that nobody holds is forgotten a while later, since pods come and go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from kubeling.api.meta import Object
from kubeling.api.resources import Resource
from kubeling.client.informer import Change, Informer
from kubeling.client.rest import Client
from kubeling.daemon.clock import Clock
from kubeling.daemon.tasks import Supervisor

LINGER_SECONDS = 60.0
SYNC_SECONDS = 10.0
_MAX_FOLLOWED = 4096


class Reference(NamedTuple):
    """One object; `namespace` is empty for cluster-scoped kinds."""

    resource: Resource
    namespace: str
    name: str


class NotSynced(Exception):
    """The object could not be read yet."""


@dataclass(slots=True)
class _Followed:
    informer: Informer
    task: asyncio.Task[None]
    holders: set[str] = field(default_factory=set)
    linger: asyncio.Task[None] | None = None


class ObjectCache:
    """`changed` is called with a holder's name when an object that it holds has changed."""

    def __init__(self, client: Client, parts: Supervisor, changed: Callable[[str], None], clock: Clock) -> None:
        self._client = client
        self._parts = parts
        self._changed = changed
        self._clock = clock
        self._followed: dict[Reference, _Followed] = {}
        self._held: dict[str, set[Reference]] = {}

    def hold(self, holder: str, references: Iterable[Reference]) -> None:
        """From now on `holder` needs exactly these."""
        wanted = set(references)
        before = self._held.get(holder, set())
        for each in wanted - before:
            self._follow(each).holders.add(holder)
        for each in before - wanted:
            self._let_go(each, holder)
        if wanted:
            self._held[holder] = wanted
        else:
            self._held.pop(holder, None)

    async def get(self, reference: Reference) -> Object | None:
        """The object, None where it does not exist. One that nobody holds is remembered for a while only. Raises NotSynced where the apiserver cannot be asked."""
        followed = self._follow(reference)
        if not followed.holders:
            followed.linger = self._parts.spawn(self._forget(reference))
        if not followed.informer.synced.is_set():
            try:
                async with asyncio.timeout(SYNC_SECONDS):
                    await followed.informer.synced.wait()
            except TimeoutError:
                what = f'{reference.resource.singular_name} "{reference.name}"'
                raise NotSynced(f"failed to sync {what}: timed out waiting for the apiserver") from None
        return followed.informer.store.get(reference.name, reference.namespace or None)

    def _follow(self, reference: Reference) -> _Followed:
        found = self._followed.get(reference)
        if found is None:
            if len(self._followed) >= _MAX_FOLLOWED:
                raise NotSynced(f"this node follows {_MAX_FOLLOWED} objects already")
            informer = Informer(
                self._client,
                reference.resource,
                namespace=reference.namespace or None,
                field_selector=f"metadata.name={reference.name}",
                clock=self._clock,
            )
            task = self._parts.start(f"follow {reference.resource.plural}/{reference.name}", informer.run)
            found = self._followed[reference] = _Followed(informer, task)
            informer.add_handler(partial(self._tell, found))
        if found.linger is not None:
            found.linger.cancel()
            found.linger = None
        return found

    def _tell(self, followed: _Followed, change: Change) -> None:
        for holder in list(followed.holders):
            self._changed(holder)

    def _let_go(self, reference: Reference, holder: str) -> None:
        found = self._followed.get(reference)
        if found is None:
            return
        found.holders.discard(holder)
        if not found.holders and found.linger is None:
            found.linger = self._parts.spawn(self._forget(reference))

    async def _forget(self, reference: Reference) -> None:
        await self._clock.sleep(LINGER_SECONDS)
        found = self._followed.get(reference)
        if found is not None and not found.holders:
            del self._followed[reference]
            found.task.cancel()
