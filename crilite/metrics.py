"""Metrics of pods and containers for a kubelet that passes them on: cAdvisor's names, made from the same readings as the statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kubeling.crilite.core import Core
from kubeling.crilite.records import Container, Sandbox
from kubeling.proto import cri_pb2

_COUNTER, _GAUGE = cri_pb2.COUNTER, cri_pb2.GAUGE
_BASE = ("id", "name", "image")


class _Kind(NamedTuple):
    name: str
    help: str
    kind: cri_pb2.MetricType
    labels: tuple[str, ...] = _BASE


_CONTAINER: tuple[tuple[_Kind, Callable[[cri_pb2.ContainerStats], int]], ...] = (
    (_Kind("container_cpu_usage_seconds_total", "CPU time consumed, in seconds", _COUNTER), lambda s: s.cpu.usage_core_nano_seconds.value // 10**9),
    (_Kind("container_memory_usage_bytes", "Memory in use, whatever for", _GAUGE), lambda s: s.memory.usage_bytes.value),
    (_Kind("container_memory_working_set_bytes", "Memory in use that cannot be reclaimed at once", _GAUGE), lambda s: s.memory.working_set_bytes.value),
    (_Kind("container_memory_rss", "Anonymous memory in use, in bytes", _GAUGE), lambda s: s.memory.rss_bytes.value),
    (_Kind("container_memory_page_faults_total", "Page faults", _COUNTER), lambda s: s.memory.page_faults.value),
    (_Kind("container_memory_major_page_faults_total", "Page faults that had to read", _COUNTER), lambda s: s.memory.major_page_faults.value),
    (_Kind("container_fs_usage_bytes", "Size of the writable layer", _GAUGE), lambda s: s.writable_layer.used_bytes.value),
    (_Kind("container_fs_inodes_used", "Inodes of the writable layer", _GAUGE), lambda s: s.writable_layer.inodes_used.value),
)  # fmt: skip
_SPEC: tuple[tuple[_Kind, Callable[[Container], int]], ...] = (
    (_Kind("container_start_time_seconds", "When it was started, in seconds since 1970", _GAUGE), lambda c: c.record.started_at // 10**9),
    (_Kind("container_spec_memory_limit_bytes", "Memory limit, 0 for none", _GAUGE), lambda c: max(0, c.config.linux.resources.memory_limit_in_bytes)),
    (_Kind("container_spec_cpu_shares", "CPU shares", _GAUGE), lambda c: max(0, c.config.linux.resources.cpu_shares)),
    (_Kind("container_spec_cpu_quota", "CPU time in a period, in microseconds, 0 for no limit", _GAUGE), lambda c: max(0, c.config.linux.resources.cpu_quota)),
    (_Kind("container_spec_cpu_period", "That period, in microseconds", _GAUGE), lambda c: max(0, c.config.linux.resources.cpu_period)),
)  # fmt: skip
_LINK = (*_BASE, "interface")
_NETWORK: tuple[tuple[_Kind, Callable[[cri_pb2.NetworkInterfaceUsage], int]], ...] = (
    (_Kind("container_network_receive_bytes_total", "Bytes received", _COUNTER, _LINK), lambda n: n.rx_bytes.value),
    (_Kind("container_network_receive_errors_total", "Errors while receiving", _COUNTER, _LINK), lambda n: n.rx_errors.value),
    (_Kind("container_network_transmit_bytes_total", "Bytes sent", _COUNTER, _LINK), lambda n: n.tx_bytes.value),
    (_Kind("container_network_transmit_errors_total", "Errors while sending", _COUNTER, _LINK), lambda n: n.tx_errors.value),
)
_POD_PROCESSES = _Kind("container_processes", "Processes and threads", _GAUGE)


def descriptors() -> list[cri_pb2.MetricDescriptor]:
    """All of them, with the names of their labels in the order of the values."""
    kinds = [*(kind for kind, _ in _CONTAINER), *(kind for kind, _ in _SPEC), *(kind for kind, _ in _NETWORK), _POD_PROCESSES]
    return [cri_pb2.MetricDescriptor(name=kind.name, help=kind.help, label_keys=kind.labels) for kind in kinds]


def of_pods(core: Core, stats: list[cri_pb2.PodSandboxStats]) -> list[cri_pb2.PodSandboxMetrics]:
    """The metrics of the sandboxes whose statistics these are."""
    made = []
    for one in stats:
        sandbox = core.sandboxes.get(one.attributes.id)
        if sandbox is not None:
            containers = [
                cri_pb2.ContainerMetrics(container_id=entry.attributes.id, metrics=_of_container(container, entry))
                for entry in one.linux.containers
                if (container := core.containers.get(entry.attributes.id)) is not None
            ]
            made.append(
                cri_pb2.PodSandboxMetrics(pod_sandbox_id=sandbox.id, metrics=_of_pod(sandbox, one), container_metrics=containers)
            )
    return made


def _of_container(container: Container, stats: cri_pb2.ContainerStats) -> Iterator[cri_pb2.Metric]:
    labels = (
        container.record.cgroup,
        container.config.metadata.name,
        container.config.image.user_specified_image or container.config.image.image,
    )
    at = stats.writable_layer.timestamp
    for kind, value in _CONTAINER:
        yield _metric(kind, labels, value(stats), at)
    for kind, read in _SPEC:
        yield _metric(kind, labels, read(container), at)


def _of_pod(sandbox: Sandbox, stats: cri_pb2.PodSandboxStats) -> Iterator[cri_pb2.Metric]:
    labels = (sandbox.record.cgroup, "", "")
    for link in stats.linux.network.interfaces:
        for kind, value in _NETWORK:
            yield _metric(kind, (*labels, link.name), value(link), stats.linux.network.timestamp)
    yield _metric(_POD_PROCESSES, labels, stats.linux.process.process_count.value, stats.linux.process.timestamp)


def _metric(kind: _Kind, labels: tuple[str, ...], value: int, at: int) -> cri_pb2.Metric:
    return cri_pb2.Metric(
        name=kind.name, timestamp=at, metric_type=kind.kind, label_values=labels, value=cri_pb2.UInt64Value(value=value)
    )
