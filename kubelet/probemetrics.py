"""`/metrics/probes`: how often the probes of containers passed and failed, and how long they took, with upstream's names."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Beyond this nothing new is counted: a node has far fewer probes.
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class _Probe:
    uid: str
    namespace: str
    pod: str
    container: str
    kind: str


@dataclass(slots=True)
class _Counts:
    results: dict[str, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0


class ProbeMetrics:
    """The counts of all probes of the node's pods."""

    def __init__(self) -> None:
        self._counts: dict[_Probe, _Counts] = {}

    def count(self, uid: str, namespace: str, pod: str, container: str, kind: str, success: bool, seconds: float) -> None:
        """A probe of that kind (`liveness`, `readiness`, `startup`) was run."""
        probe = _Probe(uid, namespace, pod, container, kind.capitalize())
        if probe not in self._counts and len(self._counts) >= _MOST:
            return
        counts = self._counts.setdefault(probe, _Counts())
        result = "successful" if success else "failed"
        counts.results[result] = counts.results.get(result, 0) + 1
        counts.buckets[bisect_left(BUCKETS, seconds)] += 1
        counts.seconds += seconds

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        for probe in [each for each in self._counts if each.uid == uid]:
            del self._counts[probe]

    def text(self) -> bytes:
        """In Prometheus' format."""
        lines = [
            "# HELP prober_probe_duration_seconds [ALPHA] Duration in seconds for a probe response.",
            "# TYPE prober_probe_duration_seconds histogram",
        ]
        for probe, counts in self._counts.items():
            where = f'container="{probe.container}",namespace="{probe.namespace}",pod="{probe.pod}",probe_type="{probe.kind}"'
            total = 0
            for limit, number in zip((*map(str, BUCKETS), "+Inf"), counts.buckets, strict=True):
                total += number
                lines.append(f'prober_probe_duration_seconds_bucket{{{where},le="{limit}"}} {total}')
            lines.append(f"prober_probe_duration_seconds_sum{{{where}}} {counts.seconds:.6f}")
            lines.append(f"prober_probe_duration_seconds_count{{{where}}} {total}")
        lines += [
            "# HELP prober_probe_total [BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
            "# TYPE prober_probe_total counter",
        ]
        for probe, counts in self._counts.items():
            where = f'container="{probe.container}",namespace="{probe.namespace}",pod="{probe.pod}",pod_uid="{probe.uid}"'
            for result, number in sorted(counts.results.items()):
                lines.append(f'prober_probe_total{{{where},probe_type="{probe.kind}",result="{result}"}} {number}')
        return ("\n".join(lines) + "\n").encode()
