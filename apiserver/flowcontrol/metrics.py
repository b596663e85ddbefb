"""Flow control in numbers, under upstream's names. They are read off the gate when somebody asks, so that counting costs requests nothing but an addition."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kubeling.apiserver.flowcontrol.gate import Gate

_PREFIX = "apiserver_flowcontrol_"


class _Numbers(Collector):
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        labels = ["flow_schema", "priority_level"]
        dispatched = CounterMetricFamily(f"{_PREFIX}dispatched_requests", "Requests that were given their seats.", labels=labels)
        rejected = CounterMetricFamily(f"{_PREFIX}rejected_requests", "Requests that were refused.", labels=[*labels, "reason"])
        for (schema, level, reason), count in self._gate.counts.items():
            if reason:
                rejected.add_metric([schema, level, reason], count)
            else:
                dispatched.add_metric([schema, level], count)
        yield dispatched
        yield rejected
        nominal = GaugeMetricFamily(f"{_PREFIX}nominal_limit_seats", "The level's share of the seats.", labels=labels[1:])
        taken = GaugeMetricFamily(f"{_PREFIX}current_executing_seats", "Seats that are taken.", labels=labels[1:])
        waiting = GaugeMetricFamily(f"{_PREFIX}current_inqueue_requests", "Requests that wait.", labels=labels[1:])
        for name, found in self._gate.levels.items():
            if found is not None:
                nominal.add_metric([name], found.nominal)
                taken.add_metric([name], found.seats)
                waiting.add_metric([name], found.waiting)
        yield from (nominal, taken, waiting)


def text(gate: Gate) -> bytes:
    """Prometheus text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(gate))
    return generate_latest(registry)
