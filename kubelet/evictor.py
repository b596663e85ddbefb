"""Keeping the node alive: when memory, disk or process ids run short, pods are ended, one at a time, until there is enough again.

Every ten seconds the signals are read (two system calls and a line of /proc); only when a threshold is crossed is anything dearer done. A disk that is short
is first helped by removing dead containers and unused images. Pods that exceed their own limits of local storage go at any time. What was decided is in
:mod:`thresholds` and :mod:`ranking`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from kubeling.api.meta import uid_of
from kubeling.daemon.log import get_logger
from kubeling.kubelet import thresholds as limits
from kubeling.kubelet.context import Context
from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.imagegc import ImageCollector
from kubeling.kubelet.machine import pid_limit, read_pressure
from kubeling.kubelet.podstate import CONTAINER_NAME, POD_UID
from kubeling.kubelet.ranking import Usage, eviction_message, has_storage_limit, local_storage_excess, name_of, rank
from kubeling.kubelet.stopping import grace_of
from kubeling.kubelet.thresholds import Observation, Pressure, Threshold
from kubeling.kubelet.usage import UsageReader
from kubeling.kubelet.worker import PodWorker

log = get_logger("kubelet.eviction")

#: A pod that is being evicted is given this long to be gone before the next one is looked for.
_CLEANUP_SECONDS = 30.0
_EXITED = 2


class Evictor:
    """`workers` gives all pods of the node; `changed` is called when the conditions of the node have changed."""

    def __init__(
        self,
        context: Context,
        images: ImageCollector,
        workers: Callable[[], list[PodWorker]],
        changed: Callable[[], None],
        tell: Callable[[str, str], None],
    ) -> None:
        self._context = context
        self._images = images
        self._workers = workers
        self._changed = changed
        self._tell = tell
        self._reader = UsageReader(context)
        self._pressure = Pressure()
        self._leaving: tuple[PodWorker, float] | None = None
        self._measure_after = float("-inf")
        self.evictions: dict[str, int] = {}
        #: Where the runtime keeps its images, as far as it has said so.
        self.image_root: Path | None = None

    @property
    def conditions(self) -> frozenset[str]:
        """MemoryPressure, DiskPressure, PIDPressure: those that hold."""
        return self._pressure.conditions

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.round()
            except (RuntimeFailure, OSError) as error:
                log.warning("the node's resources could not be looked at", error=str(error))
            await self._context.clock.sleep(self._context.config.housekeeping)

    def observe(self) -> dict[str, Observation]:
        """All signals, as they are now."""
        config, machine = self._context.config, self._context.machine
        left = read_pressure(config.root_dir)
        found = {
            limits.MEMORY: Observation(left.memory_available, machine.memory),
            limits.NODE_BYTES: Observation(left.disk_available, machine.disk),
            limits.PIDS: Observation(left.pids_available, pid_limit()),
        }
        if machine.inodes:
            found[limits.NODE_INODES] = Observation(left.inodes_available, machine.inodes)
        disk = os.statvfs(self.image_root if self.image_root is not None and self.image_root.exists() else config.root_dir)
        found[limits.IMAGE_BYTES] = Observation(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
        if disk.f_files:
            found[limits.IMAGE_INODES] = Observation(disk.f_favail, disk.f_files)
        return found

    def image_filesystem(self) -> tuple[int, int]:
        """Free and all bytes of the file system of the images."""
        seen = self.observe()[limits.IMAGE_BYTES]
        return seen.available, seen.capacity

    async def round(self) -> None:
        """One look, and at most one eviction for the node's sake."""
        config = self._context.config
        if self.image_root is None:
            self.image_root = await self._context.runtime.image_root()
        observed = self.observe()
        before = self._pressure.conditions
        self._pressure = self._look(observed)
        if self._pressure.conditions != before:
            log.info("the node's pressure changed", conditions=sorted(self._pressure.conditions))
            self._changed()
        self._context.cgroups.weigh(each.pod for each in self._active())
        await self._enforce_limits()
        if not self._pressure.acting or self._busy():
            return
        threshold = self._pressure.acting[0]
        self._tell("EvictionThresholdMet", f"Attempting to reclaim {limits.SIGNALS[threshold.signal][1]}")
        if threshold.signal in limits.DISK_SIGNALS and await self._reclaim(threshold):
            return
        pods = self._active()
        disk = threshold.signal in limits.DISK_SIGNALS
        usage = await self._reader.measure([each.pod for each in pods], disk=disk)
        workers = {each.uid: each for each in pods}
        for victim in rank(threshold.signal, [each.pod for each in pods], lambda pod: usage[uid_of(pod)]):
            grace = 1 if not threshold.grace else min(config.eviction_max_grace, grace_of(victim))
            words = eviction_message(threshold, observed.get(threshold.signal), victim, usage[uid_of(victim)])
            self._evict(workers[uid_of(victim)], words, grace, threshold.signal)
            return
        log.warning("the node is short, and there is nobody to evict", signal=threshold.signal)

    def _look(self, observed: Mapping[str, Observation]) -> Pressure:
        config = self._context.config
        now = self._context.clock.monotonic()
        return limits.look(self._pressure, config.thresholds, observed, now, config.pressure_transition)

    def _active(self) -> list[PodWorker]:
        return [each for each in self._workers() if each.active]

    def _busy(self) -> bool:
        """Whether the last victim is still on its way out."""
        if self._leaving is None:
            return False
        worker, since = self._leaving
        if worker.over or self._context.clock.monotonic() - since > _CLEANUP_SECONDS:
            self._leaving = None
        return self._leaving is not None

    def _evict(self, worker: PodWorker, words: str, grace: int, signal: str, *, own_fault: bool = False) -> None:
        log.warning("a pod is evicted", pod=name_of(worker.pod), why=words)
        self._context.event(worker.pod, "Warning", "Evicted", words)
        worker.end(("Evicted", words), grace, own_fault=own_fault)
        self._leaving = (worker, self._context.clock.monotonic())
        self.evictions[signal] = self.evictions.get(signal, 0) + 1

    async def _enforce_limits(self) -> None:
        """End the pods that write more than they may."""
        limited = [each for each in self._active() if has_storage_limit(each.pod)]
        began = self._context.clock.monotonic()
        if not limited or began < self._measure_after:
            return
        usage = await self._reader.measure([each.pod for each in limited], disk=True)
        took = self._context.clock.monotonic() - began
        self._measure_after = began + took + 10 * took
        for worker in limited:
            words = local_storage_excess(worker.pod, usage.get(worker.uid, Usage()))
            if words and worker.active:
                self._evict(worker, words, 1, "ephemeralcontainerfs.limit", own_fault=True)

    async def _reclaim(self, threshold: Threshold) -> bool:
        """Remove what nobody needs; whether that was enough."""
        runtime = self._context.runtime
        newest: set[tuple[str, str]] = set()
        for each in await runtime.list_containers():
            key = (each.labels.get(POD_UID, ""), each.labels.get(CONTAINER_NAME, ""))
            if each.state == _EXITED and key in newest:
                await runtime.remove_container(each.id)
            newest.add(key)
        freed = await self._images.everything()
        self._pressure = self._look(self.observe())
        log.info("dead containers and unused images were removed", freed=freed, enough=threshold not in self._pressure.acting)
        return threshold not in self._pressure.acting
