"""Mirror pods: the images in the API of this node's static pods, so that they can be seen, and count when others are scheduled.

A mirror follows its static pod and never leads it: one that is deleted, or that shows another version, is made anew, and one whose pod is gone goes. The
pod itself runs on. What is written of its status goes to the mirror that is there at the moment (see :mod:`statuses`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, is_deleting, key_of, metadata_of, namespace_of, uid_of
from kubeling.api.resources import PODS
from kubeling.client.informer import Change
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.kubelet.manifests import mirror_of, mirrors
from kubeling.kubelet.statuses import StatusManager

log = get_logger("kubelet.mirrors")


class Mirrors:
    """`node` gives the Node as the API shows it: mirrors belong to it, so without it there are none."""

    def __init__(self, client: Client, clock: Clock, statuses: StatusManager, node: Callable[[], Object | None]) -> None:
        self._client = client
        self._clock = clock
        self._statuses = statuses
        self._node = node
        self._wanted: dict[str, Object] = {}
        self._known: dict[str, Object] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        #: Set when the static pods are known: until then a mirror may yet turn out to have one.
        self.begun = False

    def show(self, pod: Object) -> None:
        """That static pod is to be seen, in the place of any other version."""
        self._wanted[key_of(pod)] = pod
        self._touch(key_of(pod))

    def hide(self, pod: Object) -> None:
        """Nothing is left of that static pod."""
        found = self._wanted.get(key_of(pod))
        if found is not None and uid_of(found) == uid_of(pod):
            del self._wanted[key_of(pod)]
            self._touch(key_of(pod))

    def observe(self, change: Change) -> None:
        """The API shows something of a mirror."""
        key = key_of(change.obj)
        if change.type == "delete":
            self._known.pop(key, None)
            if key in self._wanted:
                self._statuses.reflect(self._wanted[key], None)
        else:
            self._known[key] = change.obj
        self._touch(key)

    def lost(self, uid: str) -> None:
        """The API said, when asked to write, that the mirror of the static pod `uid` is not there."""
        for key, pod in self._wanted.items():
            if uid_of(pod) == uid:
                self._known.pop(key, None)
                self._touch(key)

    def begin(self) -> None:
        """The static pods have been read: mirrors that have none may go."""
        self.begun = True
        for key in {*self._known, *self._wanted}:
            self._touch(key)

    def node_changed(self, change: Change) -> None:
        """The Node has been made, or made anew."""
        if change.type == "add":
            for key in self._wanted:
                self._touch(key)

    def _touch(self, key: str) -> None:
        self._dirty.add(key)
        self._wake.set()

    async def run(self) -> None:
        """Bring mirrors into line until cancelled."""
        backoff = Backoff(base=0.2, limit=10.0)
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting = list(self._dirty) if self.begun else []
            failed = False
            for key in waiting:
                self._dirty.discard(key)
                try:
                    await self._settle(key)
                except (ApiError, ConnectionFailed) as error:
                    log.debug("a mirror pod could not be brought into line", pod=key, error=str(error))
                    self._dirty.add(key)
                    failed = True
            if failed:
                await self._clock.sleep(backoff.next())
                self._wake.set()
            else:
                backoff.reset()

    async def _settle(self, key: str) -> None:
        wanted, known = self._wanted.get(key), self._known.get(key)
        if known is not None and (wanted is None or is_deleting(known) or not mirrors(wanted, known)):
            await self._delete(known)
        elif wanted is not None and known is not None:
            self._statuses.reflect(wanted, known)
        elif wanted is not None and (node := self._node()) is not None:
            await self._create(key, wanted, node)

    async def _delete(self, known: Object) -> None:
        name, namespace = metadata_of(known)["name"], namespace_of(known)
        try:
            await self._client.delete(PODS, name, namespace, grace_period_seconds=0, uid=uid_of(known))
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        # That it is gone is told by the watch, which then has the next one made.

    async def _create(self, key: str, wanted: Object, node: Object) -> None:
        try:
            made = await self._client.create(PODS, mirror_of(wanted, node))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                log.warning("a mirror pod was refused", pod=key, error=str(error))
            raise
        log.info("a mirror pod was made", pod=key)
        if key not in self._known:
            self._known[key] = made
            self._statuses.reflect(wanted, made)
