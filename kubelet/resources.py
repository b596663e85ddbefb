"""From requests and limits to what the kernel is told: cpu shares and quota, memory limit, the OOM killer's preference, the cgroup's place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubeling.api import quantity
from kubeling.api.meta import Object, spec_of, uid_of
from kubeling.api.pods import limits_of, qos_class, requests_of

MIN_SHARES = 2
MAX_SHARES = 262144
PERIOD = 100_000
MIN_QUOTA = 1000

_GUARANTEED_OOM = -997
_BEST_EFFORT_OOM = 1000
_CRITICAL_PRIORITY = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """In the units of CRI: shares, microseconds, bytes; 0 means no limit."""

    shares: int
    quota: int = 0
    period: int = PERIOD
    memory: int = 0
    oom_score_adj: int = 0
    #: The cpus that may be used, as `0-2,5`; empty for all.
    cpus: str = ""


def cpu_shares(millicores: int) -> int:
    """A core is 1024 shares."""
    if millicores <= 0:
        return MIN_SHARES
    return max(MIN_SHARES, min(MAX_SHARES, millicores * 1024 // 1000))


def cpu_quota(millicores: int) -> int:
    """Microseconds per period; 0 for no limit."""
    return max(MIN_QUOTA, millicores * PERIOD // 1000) if millicores > 0 else 0


def container_limits(pod: Object, container: dict[str, Any], memory_capacity: int) -> Limits:
    """What one container gets."""
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    cpu_limit = quantity.milli(limits.get("cpu"))
    cpu_request = quantity.milli(requests.get("cpu", limits.get("cpu")))
    return Limits(
        shares=cpu_shares(cpu_request),
        quota=cpu_quota(cpu_limit),
        memory=quantity.units(limits.get("memory")),
        oom_score_adj=oom_score_adj(pod, container, memory_capacity),
    )


def oom_score_adj(pod: Object, container: dict[str, Any], memory_capacity: int) -> int:
    """Whom the kernel kills first when memory runs out: best effort pods, then who uses more than it asked for."""
    if (spec_of(pod).get("priority") or 0) >= _CRITICAL_PRIORITY:
        return _GUARANTEED_OOM
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return _GUARANTEED_OOM
    if quality == "BestEffort":
        return _BEST_EFFORT_OOM
    resources = container.get("resources") or {}
    request = quantity.units((resources.get("requests") or {}).get("memory", (resources.get("limits") or {}).get("memory")))
    adjusted = 1000 - 1000 * request // max(1, memory_capacity)
    # Never as safe as Guaranteed, never as exposed as BestEffort.
    return min(max(adjusted, 1000 + _GUARANTEED_OOM), _BEST_EFFORT_OOM - 1)


def pod_limits(pod: Object) -> Limits:
    """What the pod's own cgroup gets. A pod in which any container has no limit has none either."""
    requests, limits = requests_of(pod), limits_of(pod)
    spec = spec_of(pod)
    each_container = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]

    def all_limited(name: str) -> bool:
        if ((spec.get("resources") or {}).get("limits") or {}).get(name):
            return True
        return all(((each.get("resources") or {}).get("limits") or {}).get(name) for each in each_container)

    return Limits(
        shares=cpu_shares(requests.get("cpu", 0)),
        quota=cpu_quota(limits.get("cpu", 0)) if all_limited("cpu") else 0,
        memory=limits.get("memory", 0) if all_limited("memory") else 0,
    )


def qos_parent(root: str, quality: str) -> str:
    """The cgroup of all pods of a quality of service. Guaranteed pods live in the top one."""
    top = f"{root.rstrip('/')}/kubepods"
    return top if quality == "Guaranteed" else f"{top}/{quality.lower()}"


def pod_cgroup(root: str, pod: Object) -> str:
    """The pod's cgroup, under which the runtime makes those of its containers."""
    return f"{qos_parent(root, qos_class(pod))}/pod{uid_of(pod)}"
