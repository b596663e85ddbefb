"""What work queues do, under the names that Kubernetes' components give it: `workqueue_depth` and its kin, by the queue's name.

Counting is a few additions, and nothing is imported for it; :func:`page` writes what was counted as Prometheus text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Mapping
from weakref import WeakValueDictionary

#: 10 ns to 1000 s.
BUCKETS = tuple(10.0**power for power in range(-8, 4))


class Durations:
    """A histogram of seconds."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def lines(self, metric: str, label: str) -> Iterator[str]:
        """Its series in Prometheus text."""
        total = 0
        for bound, count in zip((*BUCKETS, float("inf")), self._counts, strict=True):
            total += count
            yield f'{metric}_bucket{{{label},le="{"+Inf" if bound == float("inf") else f"{bound:g}"}"}} {total}'
        yield f"{metric}_sum{{{label}}} {self._sum:.9f}"
        yield f"{metric}_count{{{label}}} {total}"


class QueueMetrics:
    """Of one queue. The last one of a name is the one that is shown."""

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        self.name = name
        self._now = now
        self.adds = self.retries = 0
        self.waited, self.worked = Durations(), Durations()
        self._added: dict[Hashable, float] = {}
        self._taken: dict[Hashable, float] = {}
        _ALL[name] = self

    @property
    def depth(self) -> int:
        """How many items wait."""
        return len(self._added)

    def added(self, item: Hashable) -> None:
        """An item that did not wait yet does now."""
        self.adds += 1
        self._added.setdefault(item, self._now())

    def taken(self, item: Hashable) -> None:
        """A worker has it."""
        now = self._now()
        self._taken[item] = now
        self.waited.observe(now - self._added.pop(item, now))

    def done(self, item: Hashable) -> None:
        """The worker is through with it."""
        now = self._now()
        self.worked.observe(now - self._taken.pop(item, now))

    def retried(self) -> None:
        """An item is to come again after a delay."""
        self.retries += 1

    @property
    def unfinished(self) -> list[float]:
        """For how many seconds the workers have had what they have now."""
        now = self._now()
        return [now - since for since in self._taken.values()]


_ALL: WeakValueDictionary[str, QueueMetrics] = WeakValueDictionary()

_Series = Callable[[QueueMetrics, str, str], Iterator[str]]


def _number(value: Callable[[QueueMetrics], float]) -> _Series:
    def lines(queue: QueueMetrics, metric: str, label: str) -> Iterator[str]:
        yield f"{metric}{{{label}}} {value(queue):g}"

    return lines


#: Name, type, help, how it is made.
_METRICS: tuple[tuple[str, str, str, _Series], ...] = (
    ("workqueue_adds_total", "counter", "Items that were added.", _number(lambda queue: queue.adds)),
    ("workqueue_depth", "gauge", "Items that wait.", _number(lambda queue: queue.depth)),
    (
        "workqueue_longest_running_processor_seconds",
        "gauge",
        "How long the slowest worker has been at its item.",
        _number(lambda queue: max(queue.unfinished, default=0.0)),
    ),
    (
        "workqueue_queue_duration_seconds",
        "histogram",
        "How long items waited.",
        lambda queue, metric, label: queue.waited.lines(metric, label),
    ),
    ("workqueue_retries_total", "counter", "Items that came again with back-off.", _number(lambda queue: queue.retries)),
    (
        "workqueue_unfinished_work_seconds",
        "gauge",
        "How long all workers together have been at their items.",
        _number(lambda queue: sum(queue.unfinished)),
    ),
    (
        "workqueue_work_duration_seconds",
        "histogram",
        "How long handling an item took.",
        lambda queue, metric, label: queue.worked.lines(metric, label),
    ),
)


def page(names: Mapping[str, str] | None = None) -> str:
    """All queues of this process, as Prometheus text; `names` are those to show instead of their own."""
    queues = sorted(_ALL.values(), key=lambda queue: queue.name)
    shown = names or {}
    lines: list[str] = []
    for metric, kind, words, series in _METRICS:
        if queues:
            lines += (f"# HELP {metric} {words}", f"# TYPE {metric} {kind}")
        for queue in queues:
            lines += series(queue, metric, f'name="{shown.get(queue.name, queue.name)}"')
    return "\n".join(lines) + "\n" if lines else ""
