"""The scheduler's metrics, under upstream's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_ATTEMPTS = Counter("scheduler_schedule_attempts_total", "Attempts to schedule a pod, by result.", ["result", "profile"])
_ALGORITHM = Histogram(
    "scheduler_scheduling_algorithm_duration_seconds",
    "Time that finding a node took.",
    buckets=[0.0005 * 2**n for n in range(12)],
)
_END_TO_END = Histogram(
    "scheduler_scheduling_attempt_duration_seconds",
    "Time from the start of an attempt to the bound pod.",
    buckets=[0.001 * 2**n for n in range(14)],
)
_TRIES = Histogram("scheduler_pod_scheduling_attempts", "Attempts that a pod needed.", buckets=[1, 2, 4, 8, 16])

_PREEMPTIONS = Counter("scheduler_preemption_attempts_total", "Preemptions that were carried out.")
_VICTIMS = Histogram("scheduler_preemption_victims", "Pods that a preemption removed.", buckets=[1, 2, 4, 8, 16, 32, 64])


def attempt(result: str, seconds: float, profile: str) -> None:
    """A cycle ended: "scheduled", "unschedulable" or "error"."""
    _ATTEMPTS.labels(result, profile).inc()
    _ALGORITHM.observe(seconds)


def bound(seconds: float, attempts: int) -> None:
    """A pod was bound, `seconds` after its last attempt began."""
    _END_TO_END.observe(seconds)
    _TRIES.observe(attempts)


def preempted(victims: int) -> None:
    """Pods were evicted to make room for one."""
    _PREEMPTIONS.inc()
    _VICTIMS.observe(victims)


class _Pending(Collector):
    def __init__(self, counts: Callable[[], dict[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        gauge = GaugeMetricFamily("scheduler_pending_pods", "Pods that wait, by queue.", labels=["queue"])
        for name, count in self._counts().items():
            gauge.add_metric([name], count)
        yield gauge


_watched: list[_Pending] = []


def watch_queue(counts: Callable[[], dict[str, int]]) -> None:
    """Show the lengths that `counts` gives; the newest scheduler of the process replaces an earlier one."""
    while _watched:
        REGISTRY.unregister(_watched.pop())
    pending = _Pending(counts)
    REGISTRY.register(pending)
    _watched.append(pending)
