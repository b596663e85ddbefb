"""A histogram of durations, small enough to be fed from the disk thread."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

_BUCKETS = [0.001 * 2**power for power in range(14)]


class Histogram:
    """Durations in seconds, in etcd's buckets. Observed in one thread, read in another: a figure may be one observation old."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(_BUCKETS, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str) -> Iterator[str]:
        yield f"# TYPE {name} histogram"
        total = 0
        for bound, count in zip(_BUCKETS, self._counts, strict=False):
            total += count
            yield f'{name}_bucket{{le="{bound:g}"}} {total}'
        total += self._counts[-1]
        yield f'{name}_bucket{{le="+Inf"}} {total}'
        yield f"{name}_sum {self._sum:.9f}"
        yield f"{name}_count {total}"
