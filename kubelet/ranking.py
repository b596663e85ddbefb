"""Whom an eviction hits first, and in what words: upstream's order. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from kubeling.api import quantity
from kubeling.api.meta import Object, annotations_of, metadata_of, spec_of
from kubeling.api.pods import containers_of, init_containers_of, limits_of, qos_class, requests_of
from kubeling.kubelet.manifests import is_static
from kubeling.kubelet.thresholds import MEMORY, PIDS, SIGNALS, Observation, Threshold

CRITICAL_PRIORITY = 2_000_000_000
STORAGE = "ephemeral-storage"


@dataclass(slots=True)
class Usage:
    """What one pod uses, in bytes and processes; each by the name of the container or volume."""

    memory: dict[str, int] = field(default_factory=dict)
    #: The writable layer and the logs of each container.
    disk: dict[str, int] = field(default_factory=dict)
    volumes: dict[str, int] = field(default_factory=dict)
    inodes: int = 0
    pids: int = 0

    @property
    def all_memory(self) -> int:
        return sum(self.memory.values())

    @property
    def all_disk(self) -> int:
        return sum(self.disk.values()) + sum(self.volumes.values())


def is_critical(pod: Object) -> bool:
    """Never evicted: static pods, and those of the system's priorities."""
    return is_static(pod) or "kubernetes.io/config.mirror" in annotations_of(pod) or priority(pod) >= CRITICAL_PRIORITY


def priority(pod: Object) -> int:
    return int(spec_of(pod).get("priority") or 0)


def rank(signal: str, pods: Iterable[Object], usage: Callable[[Object], Usage]) -> list[Object]:
    """The pods that may be evicted, the first victim first: who uses more than it asked for, then the lowest priority, then the most beyond its request."""

    def memory(pod: Object) -> tuple[bool, int, int]:
        over = usage(pod).all_memory - requests_of(pod).get("memory", 0)
        return over <= 0, priority(pod), -over

    def disk(pod: Object) -> tuple[bool, int, int]:
        over = usage(pod).all_disk - requests_of(pod).get(STORAGE, 0)
        return over <= 0, priority(pod), -over

    def inodes(pod: Object) -> tuple[bool, int, int]:
        return False, priority(pod), -usage(pod).inodes

    def pids(pod: Object) -> tuple[bool, int, int]:
        return False, priority(pod), -usage(pod).pids

    by = memory if signal == MEMORY else pids if signal == PIDS else inodes if signal.endswith("inodesFree") else disk
    return sorted((each for each in pods if not is_critical(each)), key=by)


def eviction_message(threshold: Threshold, observed: Observation | None, pod: Object, used: Usage) -> str:
    """Why this pod, in upstream's words."""
    resource = SIGNALS[threshold.signal][1]
    words = f"The node was low on resource: {resource}. "
    if observed is not None:
        words += f"Threshold quantity: {_text(threshold.below.of(observed.capacity))}, available: {_text(observed.available)}. "
    per_container, key = (used.memory, "memory") if threshold.signal == MEMORY else (used.disk, STORAGE)
    if threshold.signal not in (MEMORY, PIDS) and resource != STORAGE:
        return words
    if threshold.signal == PIDS:
        return words
    for container in containers_of(pod):
        request = quantity.units(((container.get("resources") or {}).get("requests") or {}).get(key))
        using = per_container.get(container["name"], 0)
        if using > request:
            words += (
                f"Container {container['name']} was using {_text(using)}, request is {_text(request)}, "
                f"has larger consumption of {key}. "
            )
    return words


_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def _text(size: int) -> str:
    """As upstream prints amounts: with the greatest power of 1024 that leaves nothing over."""
    unit = 0
    while size and size % 1024 == 0 and unit < len(_UNITS) - 1:
        size //= 1024
        unit += 1
    return f"{size}{_UNITS[unit]}"


def local_storage_excess(pod: Object, used: Usage) -> str:
    """Which limit of its own on local storage the pod exceeds, in upstream's words; empty where none."""
    for volume in spec_of(pod).get("volumes") or ():
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if limit is not None and quantity.units(limit) > 0 and used.volumes.get(volume["name"], 0) > quantity.units(limit):
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    total = limits_of(pod).get(STORAGE, 0)
    if total and _all_limited(pod) and used.all_disk > total:
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {_text(total)}. "
    for container in [*containers_of(pod), *init_containers_of(pod)]:
        limit = ((container.get("resources") or {}).get("limits") or {}).get(STORAGE)
        if limit is not None and used.disk.get(container["name"], 0) > quantity.units(limit):
            return f'Container {container["name"]} exceeded its local ephemeral storage limit "{limit}". '
    return ""


def _all_limited(pod: Object) -> bool:
    return all(((each.get("resources") or {}).get("limits") or {}).get(STORAGE) for each in containers_of(pod))


def has_storage_limit(pod: Object) -> bool:
    """Whether it has to be measured what the pod writes."""
    if any((each.get("emptyDir") or {}).get("sizeLimit") is not None for each in spec_of(pod).get("volumes") or ()):
        return True
    every = [*containers_of(pod), *init_containers_of(pod)]
    return any(((each.get("resources") or {}).get("limits") or {}).get(STORAGE) for each in every)


def pressure_refusal(pod: Object, conditions: frozenset[str]) -> tuple[str, str] | None:
    """Whether a node under pressure takes a new pod: critical ones always, and when only memory is short those that asked for some of it."""
    if not conditions or is_critical(pod):
        return None
    if conditions == {"MemoryPressure"}:
        if qos_class(pod) != "BestEffort":
            return None
        if any(_tolerates_memory(each) for each in spec_of(pod).get("tolerations") or ()):
            return None
    return "Evicted", f"The node had condition: [{' '.join(sorted(conditions))}]. "


def _tolerates_memory(toleration: Mapping[str, str]) -> bool:
    key, effect = toleration.get("key"), toleration.get("effect")
    return key in (None, "", "node.kubernetes.io/memory-pressure") and effect in (None, "", "NoSchedule")


def name_of(pod: Object) -> str:
    """`namespace/name`, for the log."""
    return f"{metadata_of(pod).get('namespace')}/{metadata_of(pod).get('name')}"
