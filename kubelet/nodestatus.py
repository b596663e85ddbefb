"""What the API shows of the node itself: labels, capacity, conditions. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kubeling.api import quantity
from kubeling.api.conditions import find_condition, set_condition
from kubeling.api.meta import Object, status_of
from kubeling.api.taints import NO_SCHEDULE, NOT_READY
from kubeling.api.times import format_time
from kubeling.kubelet.config import Config
from kubeling.kubelet.machine import Machine
from kubeling.kubelet.thresholds import MEMORY, NODE_BYTES

KUBELET_VERSION = "v1.33.0"
MAX_IMAGES = 50
MAX_IMAGE_NAMES = 5

Conditions = Mapping[str, tuple[bool, str, str]]


def default_labels(config: Config, machine: Machine) -> dict[str, str]:
    """The labels that every node has, and those of the command line."""
    return {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": config.node_name,
        "kubernetes.io/os": "linux",
        **config.node_labels,
    }


def capacity(config: Config, machine: Machine) -> dict[str, str]:
    """What the machine has, in the spelling of the API."""
    return {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory // 1024}Ki",
        "ephemeral-storage": f"{machine.disk // 1024}Ki",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "pods": str(config.max_pods),
    }


def allocatable(config: Config, machine: Machine) -> dict[str, str]:
    """What pods may have: the capacity without what is reserved, and without what an eviction would take back at once."""
    whole = {"cpu": machine.cpus * 1000, "memory": machine.memory, "ephemeral-storage": machine.disk}
    for reserved in (config.system_reserved, config.kube_reserved):
        for name, value in reserved.items():
            if name in whole:
                whole[name] -= quantity.milli(value) if name == "cpu" else quantity.units(value)
    for each in config.thresholds:
        kept = {MEMORY: "memory", NODE_BYTES: "ephemeral-storage"}.get(each.signal, "")
        if kept and not each.grace:
            whole[kept] -= each.below.of(machine.memory if kept == "memory" else machine.disk)
    cpu = max(0, whole["cpu"])
    return {
        **capacity(config, machine),
        "cpu": f"{cpu}m" if cpu % 1000 else str(cpu // 1000),
        "memory": f"{max(0, whole['memory']) // 1024}Ki",
        "ephemeral-storage": str(max(0, whole["ephemeral-storage"])),
    }


def pods_share(config: Config, machine: Machine, pids: int) -> dict[str, int]:
    """What the kernel gives to all pods together: of `cpu` (thousandths), `memory` (bytes) and `pid` the capacity without what is reserved."""
    share = {"cpu": machine.cpus * 1000, "memory": machine.memory, "pid": pids}
    for reserved in (config.system_reserved, config.kube_reserved):
        for name in share.keys() & reserved.keys():
            share[name] -= quantity.milli(reserved[name]) if name == "cpu" else quantity.units(reserved[name])
    return {name: max(1, amount) for name, amount in share.items()}


def new_node(config: Config, machine: Machine) -> Object:
    """The Node to register. It begins as not ready; the controllers take that taint away once it is."""
    taints = [dict(each) for each in config.taints]
    if not any(each.get("key") == NOT_READY for each in taints):
        taints.append({"key": NOT_READY, "effect": NO_SCHEDULE})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": config.node_name,
            "labels": default_labels(config, machine),
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {"taints": taints},
    }


def labels_patch(node: Object, config: Config, machine: Machine) -> dict[str, str]:
    """The labels that an existing Node lacks or has otherwise."""
    have = (node.get("metadata") or {}).get("labels") or {}
    return {key: value for key, value in default_labels(config, machine).items() if have.get(key) != value}


def node_status(
    node: Object,
    config: Config,
    machine: Machine,
    pressure: frozenset[str],
    runtime: Conditions | None,
    *,
    runtime_version: str,
    host_ips: Sequence[str],
    images: Sequence[dict[str, Any]],
    now: datetime,
    extended: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
    shutting_down: bool = False,
) -> dict[str, Any]:
    """The whole status to write; `runtime` is None while the runtime does not answer."""
    before = status_of(node)
    conditions = [dict(each) for each in before.get("conditions") or ()]
    beat = {"lastHeartbeatTime": format_time(now)}
    short = {
        "MemoryPressure": (
            "MemoryPressure" in pressure,
            "Memory",
            "sufficient memory available",
            "insufficient memory available",
        ),
        "DiskPressure": (
            "DiskPressure" in pressure,
            "Disk",
            "no disk pressure",
            "disk pressure",
        ),
        "PIDPressure": ("PIDPressure" in pressure, "PID", "sufficient PID available", "insufficient PID available"),
    }
    for kind, (is_short, name, good, bad) in short.items():
        reason = f"KubeletHasInsufficient{name}" if is_short else f"KubeletHasSufficient{name}"
        if name == "Disk":
            reason = "KubeletHasDiskPressure" if is_short else "KubeletHasNoDiskPressure"
        message = f"kubelet has {bad if is_short else good}"
        set_condition(conditions, kind, "True" if is_short else "False", now, reason=reason, message=message, **beat)
    problem = "node is shutting down" if shutting_down else runtime_problem(runtime)
    if problem:
        set_condition(conditions, "Ready", "False", now, reason="KubeletNotReady", message=problem, **beat)
    else:
        words = "kubelet is posting ready status"
        set_condition(conditions, "Ready", "True", now, reason="KubeletReady", message=words, **beat)
    addresses = [{"type": "InternalIP", "address": each} for each in host_ips]
    addresses.append({"type": "Hostname", "address": config.node_name})
    return {
        "capacity": {**_foreign(before.get("capacity")), **capacity(config, machine), **extended[0]},
        "allocatable": {**_foreign(before.get("allocatable")), **allocatable(config, machine), **extended[1]},
        "conditions": conditions,
        "addresses": addresses,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
        "nodeInfo": {
            "architecture": machine.architecture,
            "bootID": machine.boot_id,
            "containerRuntimeVersion": runtime_version,
            "kernelVersion": machine.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": KUBELET_VERSION,
            "machineID": machine.machine_id,
            "operatingSystem": "linux",
            "osImage": machine.os_image,
            "systemUUID": machine.system_uuid,
        },
        "images": list(images),
    }


def _foreign(before: Mapping[str, str] | None) -> dict[str, str]:
    """Extended resources that somebody else has put there: they are not ours to take away."""
    return {name: amount for name, amount in (before or {}).items() if "/" in name}


def runtime_problem(runtime: Conditions | None) -> str:
    """Why the node cannot run pods, empty where it can."""
    if runtime is None:
        return "container runtime is down"
    problems = []
    ready = runtime.get("RuntimeReady")
    if ready is None or not ready[0]:
        problems.append(f"container runtime not ready: {_words('RuntimeReady', ready)}")
    problem = network_problem(runtime)
    if problem:
        problems.append(f"container runtime network not ready: {problem}")
    return ", ".join(problems)


def network_problem(runtime: Conditions | None) -> str:
    """Why pods cannot have a network, empty where they can."""
    if runtime is None:
        return "container runtime is down"
    network = runtime.get("NetworkReady")
    return "" if network is not None and network[0] else _words("NetworkReady", network)


def _words(kind: str, condition: tuple[bool, str, str] | None) -> str:
    if condition is None:
        return f"{kind}=Unknown"
    return f"{kind}=false reason:{condition[1]} message:{condition[2]}"


def image_list(images: Sequence[tuple[Sequence[str], int]]) -> list[dict[str, Any]]:
    """(names, bytes) of each image as the Node shows them: the biggest ones, each with a few names."""
    named = [(names, size) for names, size in images if names]
    biggest = sorted(named, key=lambda each: -each[1])[:MAX_IMAGES]
    return [{"names": list(names)[:MAX_IMAGE_NAMES], "sizeBytes": size} for names, size in biggest]


def differs(before: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether anything but heartbeats has changed, and so must be told at once."""
    for key in ("capacity", "allocatable", "addresses", "daemonEndpoints", "nodeInfo", "images", "volumesInUse"):
        if (before.get(key) or []) != (wanted.get(key) or []) and (before.get(key) or wanted.get(key)):
            return True
    for each in wanted["conditions"]:
        old = find_condition(before.get("conditions"), each["type"]) or {}
        if any((old.get(key) or "") != (each.get(key) or "") for key in ("status", "reason", "message")):
            return True
    return False


def status_patch(before: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The strategic merge patch for the status: what changed, and the conditions with their new heartbeats."""
    changes = {key: value for key, value in wanted.items() if key != "conditions" and value != before.get(key)}
    for key in ("addresses",):
        if key in changes and before.get(key):
            changes[key] = [{"$patch": "replace"}, *changes[key]]
    owned = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    changes["conditions"] = [each for each in wanted["conditions"] if each["type"] in owned]
    return {"status": changes}


def new_lease(config: Config, node: Object | None, renewed: str) -> Object:
    """The Lease by which the node says that it lives."""
    metadata: dict[str, Any] = {"name": config.node_name, "namespace": "kube-node-lease"}
    if node is not None:
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Node", "name": config.node_name, "uid": node["metadata"]["uid"]}
        ]
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {"holderIdentity": config.node_name, "leaseDurationSeconds": 40, "renewTime": renewed},
    }
