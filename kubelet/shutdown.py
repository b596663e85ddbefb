"""Graceful shutdown of the node: its pods are ended before it is, the critical ones last.

With `--shutdown-grace-period` the kubelet takes SIGTERM for the end of the node. (systemd's inhibitor, by which upstream learns of a shutdown, would need a D-Bus, which is
not there in a container or on a node of `kubeling up`; a unit that stops the kubelet before the machine goes down does the same.) The node says that it is
not ready and takes no new pods; ordinary pods have the whole period but for what is kept for critical ones; then those are ended too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeling.daemon.log import get_logger
from kubeling.kubelet.context import Context
from kubeling.kubelet.ranking import CRITICAL_PRIORITY, priority
from kubeling.kubelet.stopping import grace_of
from kubeling.kubelet.worker import PodWorker

log = get_logger("kubelet.shutdown")

REFUSAL = ("NodeShutdown", "Pod was rejected as the node is shutting down.")
VERDICT = ("Terminated", "Pod was terminated in response to imminent node shutdown.")
#: Beyond the periods: for what comes after the containers' ends, and for the last statuses to be written.
_SLACK_SECONDS = 5.0


class NodeShutdown:
    """`report` has the Node's status written at once."""

    def __init__(self, context: Context, workers: Callable[[], list[PodWorker]], report: Callable[[], None]) -> None:
        self._context = context
        self._workers = workers
        self._report = report
        self.begun = False
        self._ended = asyncio.Event()

    def worker_over(self) -> None:
        self._ended.set()

    async def run(self) -> None:
        """End all pods; returns when they have ended, or their time is over."""
        config = self._context.config
        self.begun = True
        log.warning("the node is shutting down", seconds=config.shutdown_grace, critical=config.shutdown_grace_critical)
        self._report()
        everyone = [each for each in self._workers() if each.active]
        ordinary = [each for each in everyone if priority(each.pod) < CRITICAL_PRIORITY]
        critical = [each for each in everyone if each not in ordinary]
        await self._end(ordinary, max(0.0, config.shutdown_grace - config.shutdown_grace_critical))
        await self._end(critical, config.shutdown_grace_critical)
        try:
            async with asyncio.timeout(_SLACK_SECONDS):
                await self._context.statuses.settled()
        except TimeoutError:
            log.warning("not all last statuses could be written")

    async def _end(self, workers: list[PodWorker], period: float) -> None:
        for worker in workers:
            worker.end(VERDICT, max(1, min(grace_of(worker.pod), int(period))))
        try:
            async with asyncio.timeout(period + _SLACK_SECONDS):
                while not all(each.over for each in workers):
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            log.warning("pods have not ended in their time", left=sum(not each.over for each in workers))
