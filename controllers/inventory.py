"""Every object of every kind, as far as its metadata goes: what the garbage collector and the namespace controller both look at.

Which kinds there are is asked of the server, again whenever a CustomResourceDefinition or an APIService changes. Kinds that another controller follows
anyway are read from its informer; the rest get one for metadata only. Events and such are left out: nothing owns or is owned by them, and they churn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource
from kubeling.client.discovery import Discovered, discover
from kubeling.client.informer import Change, Informer
from kubeling.client.metadata import MetadataClient
from kubeling.client.rest import ConnectionFailed
from kubeling.controllers.context import Context
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor

log = get_logger("inventory")

NEEDED_VERBS = frozenset({"list", "watch", "delete"})
IGNORED = frozenset({("", "events"), ("events.k8s.io", "events")})
#: Their changes mean that other kinds are served from now on.
DEFINING = frozenset({("apiextensions.k8s.io", "customresourcedefinitions"), ("apiregistration.k8s.io", "apiservices")})

Handler = Callable[[Resource, Change], None]


def is_watched(resource: Resource) -> bool:
    """Whether the garbage collector has to know of this kind."""
    return set(resource.verbs) >= NEEDED_VERBS and (resource.group, resource.plural) not in IGNORED


class Inventory:
    """One per term of leadership."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.discovered = Discovered(())
        #: Set when the kinds are known and the first list of each is in.
        self.complete = asyncio.Event()
        self._informers: dict[Resource, Informer] = {}
        self._running: dict[Resource, asyncio.Task[None]] = {}
        self._handlers: list[Handler] = []
        self._ask = asyncio.Event()
        self._ask.set()

    def add_handler(self, handler: Handler) -> None:
        """Call `handler` for every change of every kind. Before :meth:`run` only."""
        self._handlers.append(handler)

    def refresh(self) -> None:
        """Ask the server again what it serves: somebody met a kind that is not known."""
        self._ask.set()

    def resource_of(self, api_version: str, kind: str) -> Resource | None:
        """The resource that an owner reference names."""
        return self.discovered.by_kind(api_version, kind)

    def holds(self, resource: Resource, namespace: str) -> bool:
        """Whether our copy shows any object of a kind in a namespace."""
        informer = self._informers.get(resource)
        return informer is not None and bool(informer.store.in_namespace(namespace))

    def count(self, qualified: str, namespace: str) -> int:
        """How many objects of `plural` or `plural.group` our copy shows in a namespace."""
        found = [each for each in self._informers.values() if each.resource.qualified == qualified]
        return len(found[0].store.in_namespace(namespace)) if found else 0

    def resource(self, qualified: str) -> Resource | None:
        """The kind that is called `plural` or `plural.group`, in the version that the server prefers."""
        return next((each for each in self.discovered.preferred() if each.qualified == qualified), None)

    async def run(self) -> None:
        """Follow the kinds until cancelled."""
        async with Supervisor(self._ctx.clock) as parts:
            backoff = Backoff(base=0.2, limit=10)
            while True:
                await self._ask.wait()
                self._ask.clear()
                try:
                    self.discovered = await discover(self._ctx.client)
                except (ApiError, ConnectionFailed) as error:
                    log.warning("cannot ask what is served", error=str(error))
                    self._ask.set()
                    await self._ctx.clock.sleep(backoff.next())
                    continue
                backoff.reset()
                self._follow(parts)
                for informer in list(self._informers.values()):
                    await informer.synced.wait()
                self.complete.set()
                if self.discovered.failed:
                    log.warning("some groups cannot be asked", groups=", ".join(self.discovered.failed))
                    self._ask_later(parts)
                # A burst of new definitions is asked about once.
                await self._ctx.clock.sleep(0.5)

    def _ask_later(self, parts: Supervisor) -> None:
        async def again() -> None:
            await self._ctx.clock.sleep(30)
            self._ask.set()

        parts.spawn(again(), "ask the failed groups again")

    def _follow(self, parts: Supervisor) -> None:
        wanted = {each for each in self.discovered.preferred() if is_watched(each)}
        for resource in [each for each in self._informers if each not in wanted]:
            if any(resource.group_version == each for each in self.discovered.failed):
                continue
            informer = self._informers.pop(resource)
            if (task := self._running.pop(resource, None)) is not None:
                task.cancel()
            for obj in informer.store:
                self._tell(resource, Change("delete", obj, None))
        for resource in sorted(wanted - set(self._informers), key=lambda each: each.qualified):
            informer_or_none = self._ctx.informers.existing(resource)
            if informer_or_none is None:
                informer_or_none = Informer(MetadataClient(self._ctx.client), resource, clock=self._ctx.clock)
                self._running[resource] = parts.start(f"metadata of {resource.qualified}", informer_or_none.run)
            self._informers[resource] = informer_or_none
            informer_or_none.add_handler(self._handler(resource))

    def _handler(self, resource: Resource) -> Callable[[Change], None]:
        defining = (resource.group, resource.plural) in DEFINING

        def handle(change: Change) -> None:
            if defining and self.complete.is_set():
                self._ask.set()
            if resource in self._informers:
                self._tell(resource, change)

        return handle

    def _tell(self, resource: Resource, change: Change) -> None:
        for handler in self._handlers:
            handler(resource, change)


def inventory_of(ctx: Context) -> Inventory:
    """The one inventory of a term, made when first asked for."""
    found: Any = ctx.shared.get("inventory")
    if found is None:
        found = ctx.shared["inventory"] = Inventory(ctx)
        ctx.run_part("inventory", found.run)
    assert isinstance(found, Inventory)
    return found
