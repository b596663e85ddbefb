"""The cluster autoscaler's metrics, under upstream's names."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

_SAFE = Gauge("cluster_autoscaler_cluster_safe_to_autoscale", "Whether the cloud and the scheduler answer.")
_NODES = Gauge("cluster_autoscaler_nodes_count", "Nodes of the cluster, by state.", ["state"])
_GROUPS = Gauge("cluster_autoscaler_node_groups_count", "Node groups, by how they are managed.", ["node_group_type"])
_WAITING = Gauge("cluster_autoscaler_unschedulable_pods_count", "Pods that wait for a node.", ["type"])
_UNNEEDED = Gauge("cluster_autoscaler_unneeded_nodes_count", "Nodes that may go.")
_UNREMOVABLE = Gauge("cluster_autoscaler_unremovable_nodes_count", "Nodes that have to stay, by reason.", ["reason"])
_SIZE = Gauge("cluster_autoscaler_node_group_target_count", "The size that was asked for, by group.", ["node_group"])
_MIN = Gauge("cluster_autoscaler_node_group_min_count", "The smallest size, by group.", ["node_group"])
_MAX = Gauge("cluster_autoscaler_node_group_max_count", "The greatest size, by group.", ["node_group"])
_BACKOFF = Gauge(
    "cluster_autoscaler_node_group_backoff_status", "Whether a group is left alone for a while.", ["node_group", "reason"]
)
_UP = Counter("cluster_autoscaler_scaled_up_nodes_total", "Machines that were added.")
_DOWN = Counter("cluster_autoscaler_scaled_down_nodes_total", "Machines that were taken away, by reason.", ["reason"])
_FAILED = Counter("cluster_autoscaler_failed_scale_ups_total", "Scale-ups that failed, by reason.", ["reason"])
_EVICTED = Counter("cluster_autoscaler_evicted_pods_total", "Pods that were evicted.", ["eviction_result"])
_ERRORS = Counter("cluster_autoscaler_errors_total", "What went wrong, by kind.", ["type"])
_DURATION = Histogram(
    "cluster_autoscaler_function_duration_seconds",
    "How long a part of a look took.",
    ["function"],
    buckets=[0.01 * 2**n for n in range(14)],
)
_LAST = Gauge("cluster_autoscaler_last_activity", "When a part last ran (seconds of the epoch).", ["activity"])

_reasons: set[str] = set()


@contextmanager
def timed(function: str, activity: str = "") -> Iterator[None]:
    """Measure a part of a look."""
    began = time.monotonic()
    if activity:
        _LAST.labels(activity).set_to_current_time()
    try:
        yield
    finally:
        _DURATION.labels(function).observe(time.monotonic() - began)


def safe(is_safe: bool) -> None:
    """Whether decisions can be made at all."""
    _SAFE.set(is_safe)


def group(name: str, minimum: int, maximum: int, size: int, backed_off: bool) -> None:
    """How one group stands."""
    _MIN.labels(name).set(minimum)
    _MAX.labels(name).set(maximum)
    _SIZE.labels(name).set(size)
    _BACKOFF.labels(name, "cloudProviderError").set(backed_off)


def counts(nodes: Mapping[str, int], groups: int, waiting: int) -> None:
    """What there is."""
    for state, number in nodes.items():
        _NODES.labels(state).set(number)
    _GROUPS.labels("autoscaled").set(groups)
    _WAITING.labels("unschedulable").set(waiting)


def removable(unneeded: int, needed: Mapping[str, int]) -> None:
    """What may go, and why the rest may not."""
    _UNNEEDED.set(unneeded)
    _reasons.update(needed)
    for reason in _reasons:
        _UNREMOVABLE.labels(reason).set(needed.get(reason, 0))


def scaled_up(machines: int) -> None:
    _UP.inc(machines)


def scaled_down(reason: str) -> None:
    """`empty`, `underutilized` or `unready`."""
    _DOWN.labels(reason).inc()


def failed_scale_up(reason: str) -> None:
    """`cloudProviderError` or `timeout`."""
    _FAILED.labels(reason).inc()


def evicted(result: str) -> None:
    """`succeeded` or `failed`."""
    _EVICTED.labels(result).inc()


def error(kind: str) -> None:
    """`cloudProviderError`, `apiCallError` or `internalError`."""
    _ERRORS.labels(kind).inc()
