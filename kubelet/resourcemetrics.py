"""`/metrics/resource`: what the node, its pods and their containers use, for a metrics server to make rates of. The names are upstream's."""

from __future__ import annotations

import os
import time
from pathlib import Path

from kubeling.kubelet.context import Context
from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.machine import read_pressure
from kubeling.kubelet.podstate import CONTAINER_NAME, POD_NAME, POD_NAMESPACE

#: Fields of the first line of /proc/stat that are time in which nothing was done; guests' time is in that of users already.
_IDLE = (3, 4)
_COUNTED = 8
_RUNNING = 1

_HELP = {
    "container_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the container in core-seconds"),
    "container_memory_working_set_bytes": ("gauge", "Current working set of the container in bytes"),
    "container_start_time_seconds": ("gauge", "Start time of the container since unix epoch in seconds"),
    "pod_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the pod in core-seconds"),
    "pod_memory_working_set_bytes": ("gauge", "Current working set of the pod in bytes"),
    "node_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the node in core-seconds"),
    "node_memory_working_set_bytes": ("gauge", "Current working set of the node in bytes"),
    "resource_scrape_error": ("gauge", "1 if there was an error while getting container metrics, 0 otherwise"),
}


def node_cpu_seconds() -> float:
    """The time that the machine's processors have worked since it started."""
    numbers = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]][:_COUNTED]
    busy = sum(each for index, each in enumerate(numbers) if index not in _IDLE)
    return busy / os.sysconf("SC_CLK_TCK")


async def resource_metrics(context: Context) -> bytes:
    """Prometheus text; every value with the moment at which it was taken."""
    lines: dict[str, list[str]] = {name: [] for name in _HELP}
    now = time.time_ns() // 1_000_000
    memory = max(0, context.machine.memory - read_pressure(context.config.root_dir).memory_available)
    lines["node_cpu_usage_seconds_total"].append(f" {node_cpu_seconds():.3f} {now}")
    lines["node_memory_working_set_bytes"].append(f" {memory} {now}")
    failed = 0
    try:
        await _containers(context, lines, now)
    except RuntimeFailure:
        failed = 1
    lines["resource_scrape_error"].append(f" {failed}")
    text = []
    for name, (kind, words) in _HELP.items():
        if lines[name]:
            text += [f"# HELP {name} [STABLE] {words}", f"# TYPE {name} {kind}", *(name + each for each in lines[name])]
    return ("\n".join(text) + "\n").encode()


async def _containers(context: Context, lines: dict[str, list[str]], now: int) -> None:
    started = {each.id: each.created_at for each in await context.runtime.list_containers() if each.state == _RUNNING}
    pods: dict[tuple[str, str], list[float]] = {}
    for each in await context.runtime.container_stats():
        at = started.get(each.attributes.id)
        if at is None or not each.HasField("cpu") or not each.HasField("memory"):
            continue
        names = each.attributes.labels
        namespace, pod = names.get(POD_NAMESPACE, ""), names.get(POD_NAME, "")
        where = f'{{container="{names.get(CONTAINER_NAME, "")}",namespace="{namespace}",pod="{pod}"}}'
        cpu, used = each.cpu.usage_core_nano_seconds.value / 1e9, each.memory.working_set_bytes.value
        lines["container_cpu_usage_seconds_total"].append(f"{where} {cpu:.6f} {each.cpu.timestamp // 1_000_000}")
        lines["container_memory_working_set_bytes"].append(f"{where} {used} {each.memory.timestamp // 1_000_000}")
        lines["container_start_time_seconds"].append(f"{where} {at / 1e9:.3f}")
        total = pods.setdefault((namespace, pod), [0.0, 0.0])
        total[0] += cpu
        total[1] += used
    for (namespace, pod), (seconds, size) in pods.items():
        where = f'{{namespace="{namespace}",pod="{pod}"}}'
        lines["pod_cpu_usage_seconds_total"].append(f"{where} {seconds:.6f} {now}")
        lines["pod_memory_working_set_bytes"].append(f"{where} {size:.0f} {now}")
