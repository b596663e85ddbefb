"""What nodes and pods are using: measured at the kubelets when somebody asks.

A kubelet counts (`/metrics/resource`); use is the difference of two counts. Nothing is collected in advance, so a cluster whose use nobody looks at does no work
for it. Who asks regularly gets the mean since they last asked; who asks for the first time waits a second between two looks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from kubeling.api.errors import ApiError
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("usage")

#: What is not older is answered again.
_FRESH = 10.0
#: Between the two looks of one measurement at least this much, and at most that.
_LEAST, _MOST = 1.0, 120.0
_SECONDS = 5.0
_AT_ONCE = 32
_NODES = 10_000

_LINE = re.compile(r"^([a-z_]+)(?:\{([^}]*)\})? ([0-9.eE+-]+)(?: (\d+))?$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_PREFIXES = ("node_cpu_usage", "node_memory_working", "container_cpu_usage", "container_memory_working", "container_start_time")


class Used(NamedTuple):
    """Use over `window` seconds that ended at `at` (seconds since 1970): nanocores and bytes."""

    at: float
    window: float
    cpu: int
    memory: int


@dataclass(slots=True)
class _Count:
    """A running total of processor time, when it was taken."""

    at: float = 0.0
    cpu: float = -1.0
    memory: int = -1
    started: float = 0.0


@dataclass(slots=True)
class Sample:
    """One look at a node. Containers are found by namespace and pod, then by their name."""

    taken: float
    node: _Count = field(default_factory=_Count)
    pods: dict[tuple[str, str], dict[str, _Count]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """Two looks at a node, the later one first."""

    now: Sample
    before: Sample

    def node(self) -> Used | None:
        """Use of the whole node; None where it does not say."""
        return _used(self.now.node, self.before.node)

    def pod(self, namespace: str, name: str) -> dict[str, Used]:
        """Use by container; empty unless all of them could be measured."""
        found = {}
        before = self.before.pods.get((namespace, name)) or {}
        for container, count in (self.now.pods.get((namespace, name)) or {}).items():
            used = _used(count, before.get(container))
            if used is None:
                return {}
            found[container] = used
        return found


def _used(now: _Count, before: _Count | None) -> Used | None:
    """A container that has been started since has used nothing before that."""
    if before is None or before.started != now.started:
        if not now.started:
            return None
        before = _Count(now.started, 0.0, 0, now.started)
    window = now.at - before.at
    if window <= 0 or now.cpu < before.cpu or now.cpu < 0 or before.cpu < 0 or now.memory < 0:
        return None
    return Used(now.at, window, round((now.cpu - before.cpu) / window * 1e9), now.memory)


def parse(text: str, taken: float) -> Sample:
    """A kubelet's page."""
    sample = Sample(taken)
    for name, labels, value, stamp in _LINE.findall(text):
        if not name.startswith(_PREFIXES):
            continue
        count = sample.node
        if name.startswith("container_"):
            names = dict(_LABEL.findall(labels))
            pod = sample.pods.setdefault((names.get("namespace", ""), names.get("pod", "")), {})
            count = pod.setdefault(names.get("container", ""), _Count())
        number = float(value)
        if "_cpu_" in name:
            count.cpu, count.at = number, int(stamp) / 1000 if stamp else taken
        elif "_memory_" in name:
            count.memory = int(number)
        else:
            count.started = number
    return sample


#: A node's name to the text of its page. Raises ApiError and OSError.
Fetch = Callable[[str], Awaitable[str]]


class Usage:
    """Measures nodes."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._known: dict[str, Measured] = {}
        self._running: dict[str, asyncio.Task[Measured | None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def of(self, nodes: Iterable[str]) -> dict[str, Measured]:
        """These nodes, as far as their kubelets answer."""
        wanted = list(dict.fromkeys(nodes))
        found = await asyncio.gather(*(self._shared(each) for each in wanted))
        return {node: measured for node, measured in zip(wanted, found, strict=True) if measured is not None}

    async def _shared(self, node: str) -> Measured | None:
        """Those who ask at the same time get the same measurement; it goes on when one of them goes away."""
        known = self._known.get(node)
        if known is not None and self._clock.now().timestamp() - known.now.taken < _FRESH:
            return known
        task = self._running.get(node)
        if task is None:
            task = self._running[node] = asyncio.ensure_future(self._measure(node))
            task.add_done_callback(lambda _: self._running.pop(node, None))
        return await asyncio.shield(task)

    async def _measure(self, node: str) -> Measured | None:
        try:
            now = await self._look(node)
            known = self._known.get(node)
            if known is not None and _LEAST <= now.taken - known.now.taken <= _MOST:
                measured = Measured(now, known.now)
            else:
                await self._clock.sleep(_LEAST)
                measured = Measured(await self._look(node), now)
        except (ApiError, OSError, TimeoutError, ValueError) as error:
            log.debug("a node could not be measured", node=node, error=str(error))
            return None
        if node not in self._known and len(self._known) >= _NODES:
            self._known.clear()
        self._known[node] = measured
        return measured

    async def _look(self, node: str) -> Sample:
        async with self._slots, asyncio.timeout(_SECONDS):
            text = await self._fetch(node)
        return parse(text, self._clock.now().timestamp())
