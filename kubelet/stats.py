"""What the node uses: `/metrics`, `/stats/summary` and `/runningpods`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kubeling.api.meta import Object, namespace_of, status_of, uid_of
from kubeling.api.times import format_time
from kubeling.kubelet import volumestats
from kubeling.kubelet.context import Context
from kubeling.kubelet.cri import Runtime, RuntimeFailure
from kubeling.kubelet.machine import read_pressure
from kubeling.kubelet.podstate import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID
from kubeling.kubelet.resourcemetrics import node_cpu_seconds

if TYPE_CHECKING:
    from kubeling.proto import cri_pb2

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = ("created", "running", "exited", "unknown")


async def running_pods(runtime: Runtime) -> dict[str, Any]:
    """The pods that the runtime has, whatever the API says, as a PodList."""
    pods: dict[str, dict[str, Any]] = {}
    for each in await runtime.list_containers():
        if each.state != 1:
            continue
        labels = each.labels
        pod = pods.setdefault(
            labels.get(POD_UID, ""),
            {
                "metadata": {
                    "name": labels.get(POD_NAME, ""),
                    "namespace": labels.get(POD_NAMESPACE, ""),
                    "uid": labels.get(POD_UID, ""),
                },
                "spec": {"containers": []},
                "status": {},
            },
        )
        image = each.image.user_specified_image or each.image.image
        pod["spec"]["containers"].append({"name": labels.get(CONTAINER_NAME, ""), "image": image, "resources": {}})
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(pods.values())}


async def metrics(context: Context, pods: Sequence[Object]) -> bytes:
    """Prometheus text, with upstream's names."""
    from prometheus_client import generate_latest

    counts = dict.fromkeys(_STATES, 0)
    try:
        for each in await context.runtime.list_containers():
            counts[_STATES[each.state]] += 1
    except RuntimeFailure:
        pass  # The numbers of the process itself are shown all the same.
    used = [each for pod in pods for each in await context.volumes.usage(uid_of(pod), namespace_of(pod))]
    running = sum(status_of(each).get("phase") == "Running" for each in pods)
    lines = [
        "# HELP kubelet_node_name The node's name. The count is always 1.",
        "# TYPE kubelet_node_name gauge",
        f'kubelet_node_name{{node="{context.config.node_name}"}} 1',
        "# HELP kubelet_running_pods Number of pods that have a running pod sandbox",
        "# TYPE kubelet_running_pods gauge",
        f"kubelet_running_pods {running}",
        "# HELP kubelet_running_containers Number of containers by state",
        "# TYPE kubelet_running_containers gauge",
        *(f'kubelet_running_containers{{container_state="{state}"}} {count}' for state, count in counts.items()),
        *volumestats.metrics(used),
        "",
    ]
    return "\n".join(lines).encode() + generate_latest()


async def summary(context: Context) -> dict[str, Any]:
    """Node and pods, as `/stats/summary` of upstream has them."""
    now = format_time(datetime.now(UTC))
    machine = context.machine
    left = read_pressure(context.config.root_dir)
    pods: dict[str, dict[str, Any]] = {}
    for each in await context.runtime.container_stats():
        labels = each.attributes.labels
        reference = {"name": labels.get(POD_NAME, ""), "namespace": labels.get(POD_NAMESPACE, ""), "uid": labels.get(POD_UID, "")}
        pod = pods.setdefault(reference["uid"], {"podRef": reference, "startTime": now, "containers": []})
        pod["containers"].append({"name": labels.get(CONTAINER_NAME, ""), "startTime": now, **_usage(each)})
    for uid, pod in pods.items():
        pod["volume"] = await context.volumes.usage(uid, pod["podRef"]["namespace"])
        containers = pod["containers"]
        pod["cpu"] = {"time": now, "usageCoreNanoSeconds": sum(_get(each, "cpu", "usageCoreNanoSeconds") for each in containers)}
        pod["memory"] = {"time": now, "workingSetBytes": sum(_get(each, "memory", "workingSetBytes") for each in containers)}
    return {
        "node": {
            "nodeName": context.config.node_name,
            "startTime": now,
            "cpu": {"time": now, "usageCoreNanoSeconds": int(node_cpu_seconds() * 1e9)},
            "memory": {
                "time": now,
                "availableBytes": left.memory_available,
                "workingSetBytes": max(0, machine.memory - left.memory_available),
            },
            "fs": {
                "time": now,
                "availableBytes": left.disk_available,
                "capacityBytes": machine.disk,
                "usedBytes": max(0, machine.disk - left.disk_available),
                "inodesFree": left.inodes_available,
                "inodes": machine.inodes,
            },
        },
        "pods": list(pods.values()),
    }


def _get(stats: dict[str, Any], part: str, name: str) -> int:
    return int((stats.get(part) or {}).get(name) or 0)


def _usage(stats: cri_pb2.ContainerStats) -> dict[str, Any]:
    def stamp(nanos: int) -> str:
        return format_time(datetime.fromtimestamp(nanos / 1e9, UTC))

    found: dict[str, Any] = {}
    if stats.HasField("cpu"):
        found["cpu"] = {
            "time": stamp(stats.cpu.timestamp),
            "usageNanoCores": stats.cpu.usage_nano_cores.value,
            "usageCoreNanoSeconds": stats.cpu.usage_core_nano_seconds.value,
        }
    if stats.HasField("memory"):
        memory = stats.memory
        found["memory"] = {
            "time": stamp(memory.timestamp),
            "usageBytes": memory.usage_bytes.value,
            "workingSetBytes": memory.working_set_bytes.value,
            "rssBytes": memory.rss_bytes.value,
            "pageFaults": memory.page_faults.value,
            "majorPageFaults": memory.major_page_faults.value,
        }
    if stats.HasField("writable_layer"):
        layer = stats.writable_layer
        found["rootfs"] = {
            "time": stamp(layer.timestamp),
            "usedBytes": layer.used_bytes.value,
            "inodesUsed": layer.inodes_used.value,
        }
    return found
