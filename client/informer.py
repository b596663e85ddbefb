"""A local copy of a collection that follows the server: a watch that begins with what is there (KEP-3157), resumes where it broke off, and begins anew where
that is no longer possible. A server that refuses to begin a watch so is asked for a list first.

The copy may be behind the server, never ahead of it, and it always catches up. It never goes back in time: it begins with what is newest in the store, not with
what some server's cache has, so that also a daemon that was restarted knows no less than it did before; later it asks for nothing older than what it has seen. Handlers are plain functions called in the order of the events, on
the event loop; they enqueue, they do not work. A handler that joins late is first shown what is there already, as additions.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kubeling.api.errors import ApiError, is_expired
from kubeling.api.meta import key_of
from kubeling.api.resources import Resource
from kubeling.client.metadata import MetadataClient
from kubeling.client.rest import Client, ConnectionFailed, Params
from kubeling.client.store import Indexer, Obj, Store
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor

log = get_logger("informer")

#: The server is asked to end a watch after 5 to 10 minutes, as client-go does, so that watches spread over the apiservers anew.
WATCH_SECONDS = 300
#: Asks a watch to begin with everything that is there, and to say when that was all.
_FROM_THE_START: Params = {"sendInitialEvents": True, "resourceVersionMatch": "NotOlderThan"}
_ALL_SAID = "k8s.io/initial-events-end"
#: A watch that lasted this long is healthy: the back-off begins anew.
_HEALTHY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one object. `old` is None for "add", `new` is None for "delete"; a delete that was missed shows the last known state."""

    type: Literal["add", "update", "delete"]
    old: Obj | None
    new: Obj | None

    @property
    def obj(self) -> Obj:
        """The newest state that is known."""
        found = self.new if self.new is not None else self.old
        assert found is not None
        return found


Handler = Callable[[Change], None]


class Informer:
    """Follows `resource`; `store` is the copy, `synced` is set when everything that was there is in it."""

    def __init__(
        self,
        client: Client | MetadataClient,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        indexers: Mapping[str, Indexer] | None = None,
        transform: Callable[[Obj], Obj] | None = None,
        clock: Clock | None = None,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.resource = resource
        self.store = Store(indexers)
        self.synced = asyncio.Event()
        #: The resourceVersion up to which the copy is complete.
        self.resource_version = ""
        self._client = client
        self._selection: dict[str, Any] = {
            "namespace": namespace,
            "label_selector": label_selector,
            "field_selector": field_selector,
        }
        self._transform = transform
        self._clock = clock or SystemClock()
        self._rand = rand
        self._handlers: list[Handler] = []
        #: Whether the copy has to be compared with all that the server has, and whether that takes a list.
        self._afresh = True
        self._lists = False

    def add_handler(self, handler: Handler) -> None:
        """Call `handler` for every change from now on, and at once for what is in the copy already."""
        self._handlers.append(handler)
        for obj in self.store:
            self._call(handler, Change("add", None, obj))

    async def run(self) -> None:
        """Follow the server until cancelled. Failures are logged and retried with back-off, for ever."""
        backoff = Backoff(base=0.2, limit=10.0)
        while True:
            began = self._clock.monotonic()
            try:
                if self._afresh and self._lists:
                    await self._list()
                await self._watch()
                if self._clock.monotonic() - began < 1.0:
                    await self._clock.sleep(backoff.next())
                else:
                    backoff.reset()
                continue
            except ApiError as error:
                if self._afresh and not self._lists and error.code in (400, 422):
                    log.info("the server wants to be asked for a list first", resource=self.resource.qualified, error=str(error))
                    self._lists = True
                    continue
                # 410: our place in the history is gone. Anything else that a server answers may be cured by a fresh look as well, unless it says "not now".
                self._afresh = self._afresh or error.code not in (429, 503, 504)
                if is_expired(error):
                    self.resource_version = ""
                    log.info("the place in the history is gone, beginning anew", resource=self.resource.qualified)
                    continue
                log.warning("cannot follow the server", resource=self.resource.qualified, error=str(error))
            except ConnectionFailed as error:
                log.debug("the apiserver is away", resource=self.resource.qualified, error=str(error))
            if self._clock.monotonic() - began > _HEALTHY_SECONDS:
                backoff.reset()
            await self._clock.sleep(backoff.next())

    async def _list(self) -> None:
        listed = await self._client.list(self.resource, resource_version=self.resource_version or None, **self._selection)
        identity = {"apiVersion": self.resource.group_version, "kind": self.resource.kind}
        shaped = (self._shape({**identity, **item}) for item in listed.get("items") or [])
        self._replace({key_of(obj): obj for obj in shaped}, listed["metadata"]["resourceVersion"])

    def _replace(self, fresh: dict[str, Obj], version: str) -> None:
        """These are all that there are."""
        for key in self.store.all_keys():
            if key not in fresh:
                self._remove(key, None)
        for obj in fresh.values():
            self._put(obj)
        self.resource_version = version
        self._afresh = False
        self.synced.set()

    async def _watch(self) -> None:
        fresh: dict[str, Obj] | None = {} if self._afresh else None
        stream = self._client.watch(
            self.resource,
            resource_version=self.resource_version or None,
            timeout_seconds=int(WATCH_SECONDS * (1 + self._rand())),
            params=_FROM_THE_START if self._afresh else None,
            **self._selection,
        )
        async for kind, obj in stream:
            version = obj["metadata"]["resourceVersion"]
            if kind == "BOOKMARK":
                if fresh is None:
                    self.resource_version = version
                elif _ALL_SAID in (obj["metadata"].get("annotations") or {}):
                    self._replace(fresh, version)
                    fresh = None
                continue
            shaped = self._shape(obj)
            key = key_of(shaped)
            if fresh is not None:
                # Not shown to anybody before it is known what is there no more.
                fresh.pop(key, None)
                if kind != "DELETED":
                    fresh[key] = shaped
                continue
            if kind == "DELETED":
                self._remove(key, shaped)
            else:
                self._put(shaped)
            self.resource_version = version

    def _shape(self, obj: Obj) -> Obj:
        return self._transform(obj) if self._transform else obj

    def _put(self, obj: Obj) -> None:
        old = self.store.put(obj)
        if old is None:
            self._tell(Change("add", None, obj))
        elif old["metadata"].get("resourceVersion") != obj["metadata"].get("resourceVersion"):
            if old["metadata"].get("uid") != obj["metadata"].get("uid"):
                # Deleted and made again while we did not look: both happened.
                self._tell(Change("delete", old, None))
                self._tell(Change("add", None, obj))
            else:
                self._tell(Change("update", old, obj))

    def _remove(self, key: str, last: Obj | None) -> None:
        old = self.store.remove(key)
        if old is not None:
            self._tell(Change("delete", last or old, None))

    def _tell(self, change: Change) -> None:
        for handler in self._handlers:
            self._call(handler, change)

    def _call(self, handler: Handler, change: Change) -> None:
        try:
            handler(change)
        except Exception:
            log.exception("a handler failed", resource=self.resource.qualified, key=key_of(change.obj))


def without_managed_fields(obj: Obj) -> Obj:
    """For `transform`: half of an object's size, and nothing that a controller reads."""
    obj["metadata"].pop("managedFields", None)
    return obj


class InformerFactory:
    """One informer per resource and selection, shared by all who ask for it. `transform` shapes what every one of them keeps; `shapes` does, of the kinds in it."""

    def __init__(
        self,
        client: Client,
        *,
        transform: Callable[[Obj], Obj] | None = without_managed_fields,
        shapes: Mapping[Resource, Callable[[Obj], Obj]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._transform = transform
        self._shapes = shapes or {}
        self._clock = clock
        self._informers: dict[Hashable, Informer] = {}
        self._parts: Supervisor | None = None

    def informer(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        indexers: Mapping[str, Indexer] | None = None,
    ) -> Informer:
        """The shared informer; indexers are added to the ones that it has. Runs at once if the factory was started already."""
        key = (resource, namespace, label_selector, field_selector)
        found = self._informers.get(key)
        if found is None:
            found = Informer(
                self._client,
                resource,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                indexers=indexers,
                transform=self._shapes.get(resource, self._transform),
                clock=self._clock,
            )
            self._informers[key] = found
            if self._parts is not None:
                self._parts.start(f"informer {resource.qualified}", found.run)
        else:
            for name, indexer in (indexers or {}).items():
                found.store.add_indexer(name, indexer)
        return found

    def existing(self, resource: Resource) -> Informer | None:
        """The informer that follows all of `resource`, if somebody has asked for it."""
        return self._informers.get((resource, None, None, None))

    def start(self, parts: Supervisor) -> None:
        """Run all informers, present and future, as parts of `parts`."""
        self._parts = parts
        for informer in self._informers.values():
            parts.start(f"informer {informer.resource.qualified}", informer.run)

    async def wait_synced(self, informers: Iterable[Informer] | None = None) -> None:
        """Return when the first list of each (of all, where `informers` is None) is in."""
        for informer in list(informers if informers is not None else self._informers.values()):
            await informer.synced.wait()
