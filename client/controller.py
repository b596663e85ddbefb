"""The one reconcile shape: a request names an object, reconcile reads the state and moves it one step.

Reconcile never learns which event woke it, and may be called for nothing. It returns the seconds after which it wants to look again, or None. What
it raises is retried with back-off; a 409 Conflict is ordinary (somebody else wrote first) and retried without noise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from kubeling.api.errors import ApiError
from kubeling.client.informer import Change, Informer
from kubeling.client.rest import ConnectionFailed
from kubeling.client.store import Obj
from kubeling.client.workqueue import ShutDown, WorkQueue
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor


class Request(NamedTuple):
    """A namespace (empty for cluster-scoped kinds) and a name: all that reconcile is told."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def request_for(obj: Obj) -> Request:
    """The request that names `obj`."""
    meta = obj["metadata"]
    return Request(meta.get("namespace", ""), meta["name"])


def itself(obj: Obj) -> Iterable[Request]:
    """For :meth:`Reconciler.watches`: an object wakes the reconcile of itself."""
    return (request_for(obj),)


def owner_of_kind(kind: str) -> Callable[[Obj], Iterable[Request]]:
    """For :meth:`Reconciler.watches`: an object wakes the reconcile of its controlling owner, if that is of `kind`."""

    def owners(obj: Obj) -> Iterable[Request]:
        meta = obj["metadata"]
        return [
            Request(meta.get("namespace", ""), reference["name"])
            for reference in meta.get("ownerReferences") or []
            if reference.get("controller") and reference.get("kind") == kind
        ]

    return owners


class Reconciler:
    """A queue of requests and the workers that reconcile them."""

    def __init__(
        self,
        name: str,
        reconcile: Callable[[Request], Awaitable[float | None]],
        *,
        workers: int = 4,
        clock: Clock | None = None,
        max_delay: float = 60.0,
    ) -> None:
        self.name = name
        self.queue: WorkQueue[Request] = WorkQueue(name=name, clock=clock, max_delay=max_delay)
        self._reconcile = reconcile
        self._workers = workers
        self._clock = clock or SystemClock()
        self._sources: list[Informer] = []
        self._log = get_logger(name)

    def watches(self, informer: Informer, requests: Callable[[Obj], Iterable[Request]] = itself) -> None:
        """Every change that `informer` sees wakes the requests that `requests` makes of the old and of the new object."""
        self._sources.append(informer)

        def handler(change: Change) -> None:
            woken: set[Request] = set()
            for obj in (change.old, change.new):
                if obj is not None:
                    woken.update(requests(obj))
            for request in woken:
                self.queue.add(request)

        informer.add_handler(handler)

    def needs(self, *informers: Informer) -> None:
        """Reconcile reads these too: it begins when they are complete."""
        self._sources.extend(informers)

    async def run(self) -> None:
        """Wait until the informers are complete, then work until cancelled."""
        for informer in self._sources:
            await informer.synced.wait()
        async with Supervisor(self._clock) as parts:
            for number in range(self._workers):
                parts.start(f"{self.name} worker {number}", self._work)
            await asyncio.Event().wait()  # Leaving the block ends the workers.

    async def _work(self) -> None:
        while True:
            try:
                request = await self.queue.get()
            except ShutDown:
                return
            try:
                await self._handle(request)
            finally:
                self.queue.done(request)

    async def _handle(self, request: Request) -> None:
        try:
            again = await self._reconcile(request)
        except ApiError as error:
            if error.reason in ("Conflict", "AlreadyExists"):
                self._log.debug("somebody wrote first, trying again", object=str(request))
            elif error.reason == "NotFound":
                self._log.debug("it is gone from under us, looking again", object=str(request), error=str(error))
            else:
                self._log.warning("reconcile was refused", object=str(request), error=str(error))
            self.queue.add_rate_limited(request)
        except ConnectionFailed as error:
            self._log.debug("the apiserver is away", object=str(request), error=str(error))
            self.queue.add_rate_limited(request)
        except Exception:
            self._log.exception("reconcile failed", object=str(request))
            self.queue.add_rate_limited(request)
        else:
            self.queue.forget(request)
            if again is not None:
                self.queue.add_after(request, again)
