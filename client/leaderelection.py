"""Leader election by a Lease object, as client-go does it: for liveness and for not doing work twice, never for correctness.

The holder renews every `retry_period`; another takes over when the record has not changed for `lease_duration` *of its own clock*, so that
clocks need not agree; a holder that was killed on this very machine is succeeded at once (:mod:`kubeling.client.identity`). Every write is a
compare-and-set on the resourceVersion. Two leaders are possible for moments: whatever runs under a lease must be safe with two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.resources import LEASES
from kubeling.api.times import format_micro_time
from kubeling.client.identity import is_known_dead
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger

log = get_logger("leaderelection")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. A leader that could not renew for `renew_deadline` stops; the others wait `lease_duration`."""

    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0


class LeaderElector:
    """Campaigns for the Lease `namespace`/`name` as `identity`."""

    def __init__(
        self,
        client: Client,
        name: str,
        identity: str,
        *,
        namespace: str = "kube-system",
        timing: Timing = Timing(),
        annotations: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`annotations` are put on the Lease while we hold it: how others reach the leader."""
        self._client = client
        self._annotations = dict(annotations or {})
        self._name, self._namespace, self._identity = name, namespace, identity
        self._timing = timing
        self._clock = clock or SystemClock()
        self._observed: dict[str, Any] = {}
        self._observed_at = 0.0
        self.is_leader = False
        self._renewed_at = float("-inf")

    @property
    def is_certain(self) -> bool:
        """Whether nobody else can hold the lease yet: we do, and renewed it within the renew deadline by our own clock.

        A process that slept through its lease finds this false before it has noticed anything else: ask right before a write that a successor must not see.
        """
        return self.is_leader and self._clock.monotonic() - self._renewed_at < self._timing.renew_deadline

    @property
    def holder(self) -> str:
        """Who holds the lease, as far as we have seen."""
        return str((self._observed.get("spec") or {}).get("holderIdentity") or "")

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Campaign, run `lead` while we hold the lease, cancel it when we lose it, and campaign again; until cancelled, then give the lease up."""
        try:
            while True:
                await self._campaign()
                log.info("became leader", lease=self._name, identity=self._identity)
                self.is_leader = True
                try:
                    await self._hold(lead)
                finally:
                    self.is_leader = False
                log.warning("lost the lease", lease=self._name, identity=self._identity)
        finally:
            await self._release()

    async def _campaign(self) -> None:
        while not await self._try_acquire():
            await self._clock.sleep(self._timing.retry_period)

    async def _hold(self, lead: Callable[[], Awaitable[None]]) -> None:
        work = asyncio.ensure_future(lead())
        renewal = asyncio.ensure_future(self._renew_until_lost())
        try:
            await asyncio.wait({work, renewal}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, renewal):
                task.cancel()
            await asyncio.gather(work, renewal, return_exceptions=True)
        if not work.cancelled() and (error := work.exception()) is not None:
            raise error

    async def _renew_until_lost(self) -> None:
        renewed = self._clock.monotonic()
        while self._clock.monotonic() - renewed < self._timing.renew_deadline:
            await self._clock.sleep(self._timing.retry_period)
            try:
                async with asyncio.timeout(self._timing.renew_deadline / 2):
                    if await self._try_acquire():
                        renewed = self._clock.monotonic()
                    elif self.holder != self._identity:
                        return
            except TimeoutError:
                continue

    async def _try_acquire(self) -> bool:
        """One step: read, judge, write. False when somebody else holds it or the write did not go through.

        The holder writes over what it wrote last and reads only where that fails: the compare-and-set shows whether it is still the last.
        """
        began = self._clock.monotonic()
        if not await self._step():
            return False
        self._renewed_at = began
        return True

    async def _step(self) -> bool:
        seen = self._observed.get("spec") or {}
        current = self._clock.monotonic() < self._observed_at + self._timing.lease_duration
        if (
            self.holder == self._identity
            and current
            and await self._write(self._observed, int(seen.get("leaseTransitions") or 0))
        ):
            return True
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except ApiError as error:
            if error.code == 404:
                return await self._write(None, transitions=0)
            log.debug("cannot read the lease", lease=self._name, error=str(error))
            return False
        except ConnectionFailed as error:
            log.debug("cannot read the lease", lease=self._name, error=str(error))
            return False
        self._observe(lease)
        spec = lease.get("spec") or {}
        mine = spec.get("holderIdentity") == self._identity
        duration = spec.get("leaseDurationSeconds") or self._timing.lease_duration
        holder = spec.get("holderIdentity")
        if holder and not mine and self._clock.monotonic() < self._observed_at + duration and not is_known_dead(holder):
            return False
        return await self._write(lease, transitions=int(spec.get("leaseTransitions") or 0) + (0 if mine else 1))

    async def _write(self, lease: dict[str, Any] | None, transitions: int) -> bool:
        now = format_micro_time(self._clock.now())
        old = (lease or {}).get("spec") or {}
        mine = old.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._timing.lease_duration),
            "acquireTime": old.get("acquireTime", now) if mine else now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        try:
            if lease is None:
                body = {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": self._name, "namespace": self._namespace, "annotations": self._annotations},
                    "spec": spec,
                }
                written = await self._client.create(LEASES, body, self._namespace)
            else:
                meta = lease["metadata"]
                if self._annotations:
                    meta = {**meta, "annotations": {**(meta.get("annotations") or {}), **self._annotations}}
                written = await self._client.update(LEASES, {**lease, "metadata": meta, "spec": spec})
        except (ApiError, ConnectionFailed) as error:
            log.debug("cannot write the lease", lease=self._name, error=str(error))
            return False
        self._observe(written)
        return True

    def _observe(self, lease: dict[str, Any]) -> None:
        if (self._observed.get("spec"), self._observed.get("metadata", {}).get("uid")) != (
            lease.get("spec"),
            lease["metadata"].get("uid"),
        ):
            self._observed = lease
            self._observed_at = self._clock.monotonic()

    async def _release(self) -> None:
        """Let the next one in at once; a failure costs it only the wait for the lease's end."""
        if self.holder != self._identity:
            return
        now = format_micro_time(self._clock.now())
        spec = {**self._observed["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now, "acquireTime": now}
        try:
            async with asyncio.timeout(2):
                await self._client.update(LEASES, {**self._observed, "spec": spec})
        except (ApiError, ConnectionFailed, TimeoutError) as error:
            log.info("could not give the lease up, it will run out", lease=self._name, error=str(error))
