"""Noticing what happens in the runtime: its event stream where it has one, else comparing lists each second while there is anything to compare.

Either way the pod's worker is only woken; it reads the state itself. A stream tells nothing of what happened before the runtime had begun it, which may be some time
after we have asked, so everything is looked at in the moment in which it has. A full comparison every few minutes catches what a stream may have lost all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.kubelet.cri import Runtime, RuntimeFailure
from kubeling.kubelet.podstate import POD_UID

log = get_logger("kubelet.pleg")

POLL_SECONDS = 1.0
SAFETY_SECONDS = 300.0


class EventGenerator:
    """`wake(uid)` is called for each pod of which something has changed, `wake_all()` when anything may have."""

    def __init__(
        self, runtime: Runtime, clock: Clock, busy: asyncio.Event, wake: Callable[[str], None], wake_all: Callable[[], None]
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._busy = busy
        self._wake = wake
        self._wake_all = wake_all
        self._seen: dict[str, dict[str, int]] = {}
        #: When the runtime was last heard of, in monotonic seconds; for the health check.
        self.last_heard = clock.monotonic()
        self.streaming = False

    async def run(self) -> None:
        """Follow the runtime until cancelled."""
        backoff = Backoff(base=0.1, limit=2.0)
        while True:
            began = self._clock.monotonic()
            try:
                self.streaming = True
                safety = asyncio.ensure_future(self._safety())
                try:
                    # What happened before the runtime listens to us is not told: look at everything once it does.
                    async for event in self._runtime.events(self._wake_all):
                        self.last_heard = self._clock.monotonic()
                        uid = event.pod_sandbox_status.metadata.uid
                        if uid:
                            self._wake(uid)
                        else:
                            self._wake_all()
                finally:
                    safety.cancel()
                    self.streaming = False
            except RuntimeFailure as error:
                if error.unimplemented:
                    log.info("the runtime has no event stream, comparing lists each second while pods run")
                    await self._poll()
                log.debug("the runtime's event stream broke off", error=str(error))
            if self._clock.monotonic() - began > 10:
                backoff.reset()
            await self._clock.sleep(backoff.next())
            # What happened meanwhile has not been told.
            self._wake_all()

    async def _safety(self) -> None:
        while True:
            await self._clock.sleep(SAFETY_SECONDS)
            self._wake_all()

    async def _poll(self) -> None:
        """Compare lists for as long as the runtime lives."""
        backoff = Backoff(base=0.5, limit=5)
        swept = self._clock.monotonic()
        while True:
            await self._busy.wait()
            try:
                await self.relist()
                backoff.reset()
            except RuntimeFailure as error:
                log.debug("cannot list", error=str(error))
                await self._clock.sleep(backoff.next())
                continue
            if self._clock.monotonic() - swept > SAFETY_SECONDS:
                swept = self._clock.monotonic()
                self._wake_all()
            await self._clock.sleep(POLL_SECONDS)

    async def relist(self) -> None:
        """Read all sandboxes and containers, and wake the pods of which anything differs from the last time."""
        sandboxes, containers = await asyncio.gather(self._runtime.list_sandboxes(), self._runtime.list_containers())
        self.last_heard = self._clock.monotonic()
        now: dict[str, dict[str, int]] = {}
        for sandbox in sandboxes:
            now.setdefault(sandbox.metadata.uid, {})[sandbox.id] = sandbox.state
        for container in containers:
            now.setdefault(container.labels.get(POD_UID, ""), {})[container.id] = container.state
        before, self._seen = self._seen, now
        for uid in {*before, *now}:
            if uid and before.get(uid) != now.get(uid):
                self._wake(uid)
