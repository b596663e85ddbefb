"""The decisions about a node's health: when it counts as lost, which taints its conditions call for, how fast a zone may be evicted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kubeling.api import taints
from kubeling.api.conditions import find_condition, get_condition, set_condition
from kubeling.api.meta import copy_json, labels_of, spec_of, status_of
from kubeling.api.taints import NO_EXECUTE, NO_SCHEDULE, Taint
from kubeling.api.times import format_time
from kubeling.controllers.context import Obj, Options

#: (condition, its status) → the NoSchedule taint that shows it.
CONDITION_TAINTS = {
    ("Ready", "False"): taints.NOT_READY,
    ("Ready", "Unknown"): taints.UNREACHABLE,
    ("MemoryPressure", "True"): taints.MEMORY_PRESSURE,
    ("DiskPressure", "True"): taints.DISK_PRESSURE,
    ("PIDPressure", "True"): taints.PID_PRESSURE,
    ("NetworkUnavailable", "True"): taints.NETWORK_UNAVAILABLE,
}
_OURS_NO_SCHEDULE = frozenset({*CONDITION_TAINTS.values(), taints.UNSCHEDULABLE})
EVICTING = frozenset({taints.NOT_READY, taints.UNREACHABLE})

#: What a kubelet reports; all of it becomes Unknown when it falls silent.
REPORTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"


def readiness(node: Obj) -> str:
    """The Ready condition's status; "Unknown" where there is none."""
    found = get_condition(node, "Ready")
    return str((found or {}).get("status") or "Unknown")


def zone_of(node: Obj) -> str:
    """Region and zone: nodes that tend to fail together."""
    labels = labels_of(node)
    return f"{labels.get(REGION, '')}:{labels.get(ZONE, '')}"


def silence(node: Obj, now: datetime) -> list[Obj] | None:
    """The conditions of a node that has fallen silent; None where they say so already."""
    conditions = copy_json(status_of(node).get("conditions") or [])
    changed = False
    for kind in REPORTED:
        found = find_condition(conditions, kind)
        if found is not None and found.get("status") == "Unknown":
            continue
        if found is None:
            reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
        else:
            reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
        set_condition(conditions, kind, "Unknown", now, reason=reason, message=message)
        fresh = find_condition(conditions, kind)
        if fresh is not None and "lastHeartbeatTime" not in fresh:
            fresh["lastHeartbeatTime"] = node["metadata"].get("creationTimestamp") or format_time(now)
        changed = True
    return conditions if changed else None


def wanted_taints(node: Obj, now: datetime, *, evict: bool) -> list[Taint]:
    """The node's taints as its conditions call for; taints that are not ours stay. `evict` allows NoExecute ones to be added."""
    have: Sequence[Taint] = spec_of(node).get("taints") or ()
    keys = [key for (kind, value), key in CONDITION_TAINTS.items() if (get_condition(node, kind) or {}).get("status") == value]
    if get_condition(node, "Ready") is None:
        keys.append(taints.NOT_READY)
    if spec_of(node).get("unschedulable"):
        keys.append(taints.UNSCHEDULABLE)
    executing = {"False": taints.NOT_READY, "Unknown": taints.UNREACHABLE}.get(readiness(node))
    if get_condition(node, "Ready") is None:
        executing = None  # It never said anything; nothing runs there yet.
    kept = [each for each in have if not _ours(each) or _still_wanted(each, keys, executing)]
    for key in keys:
        if taints.find_taint(kept, key, NO_SCHEDULE) is None:
            kept.append({"key": key, "effect": NO_SCHEDULE})
    if executing and evict and taints.find_taint(kept, executing, NO_EXECUTE) is None:
        kept.append({"key": executing, "effect": NO_EXECUTE, "timeAdded": format_time(now)})
    return kept


def _ours(taint: Taint) -> bool:
    key, effect = taint.get("key"), taint.get("effect")
    return (effect == NO_SCHEDULE and key in _OURS_NO_SCHEDULE) or (effect == NO_EXECUTE and key in EVICTING)


def _still_wanted(taint: Taint, keys: Sequence[str], executing: str | None) -> bool:
    key = taint["key"]
    return key in keys if taint.get("effect") == NO_SCHEDULE else key == executing


def is_marked_for_eviction(node: Obj) -> bool:
    """It has one of our NoExecute taints."""
    return any(each.get("effect") == NO_EXECUTE and each.get("key") in EVICTING for each in spec_of(node).get("taints") or ())


def eviction_rate(zone: Sequence[Obj], options: Options) -> float:
    """How many nodes of a zone may be marked for eviction in a second.

    Where most of a zone is lost the fault is likely the network or us, so big zones are emptied slowly and small ones not at all (a zone that is
    lost whole counts as usual, unless all zones are: see :func:`all_lost`).
    """
    bad = sum(1 for each in zone if readiness(each) != "True")
    good = len(zone) - bad
    if good and bad > 2 and bad / len(zone) >= options.unhealthy_zone_threshold:
        return options.secondary_node_eviction_rate if len(zone) > options.large_cluster_size_threshold else 0.0
    return options.node_eviction_rate


def all_lost(nodes: Sequence[Obj]) -> bool:
    """No node of the cluster is ready: it is we who are cut off, and nobody is evicted."""
    return bool(nodes) and all(readiness(each) != "True" for each in nodes)
