"""The decisions of a ReplicaSet: how many pods to make, which ones to delete, and what the status says. Plain functions over objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kubeling.api import pods
from kubeling.api.conditions import find_condition, get_condition, remove_condition, set_condition
from kubeling.api.meta import annotations_of, copy_json, generation_of, labels_of, name_of, spec_of, status_of
from kubeling.api.times import parse_time
from kubeling.controllers.context import Obj

#: At most so many pods are made or deleted for one owner in one step.
BURST = 500

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def wanted_replicas(owner: Obj) -> int:
    """`spec.replicas`, 1 where it is absent."""
    replicas = spec_of(owner).get("replicas")
    return 1 if replicas is None else int(replicas)


def difference(owner: Obj, active: Sequence[Obj]) -> int:
    """How many pods are missing (positive) or too many (negative), within the burst."""
    return max(-BURST, min(BURST, wanted_replicas(owner) - len(active)))


def choose_victims(active: Sequence[Obj], related: Sequence[Obj], count: int, now: datetime) -> list[Obj]:
    """Which `count` pods to delete: those whose loss costs least first.

    Not assigned before assigned; pending before running; not ready before ready; cheaper by their deletion cost; those that share their node with
    more of the `related` pods; ready for a shorter time; restarted more often; younger.
    """
    if count >= len(active):
        return list(active)
    crowd = Counter(pods.node_of(each) for each in related if pods.is_active(each))
    return sorted(active, key=lambda pod: _worth(pod, crowd[pods.node_of(pod)], now))[:count]


_PHASES = {"Pending": 0, "Unknown": 1, "": 1, "Running": 2}


def _worth(pod: Obj, crowd: int, now: datetime) -> tuple[Any, ...]:
    ready = pods.is_ready(pod)
    since = (get_condition(pod, "Ready") or {}).get("lastTransitionTime")
    ready_for = int((now - parse_time(since)).total_seconds()) if ready and since else 0
    created = pod["metadata"].get("creationTimestamp")
    age = int((now - parse_time(created)).total_seconds()) if created else 0
    return (
        pods.node_of(pod) != "",
        _PHASES.get(pods.phase_of(pod), 2),
        ready,
        _deletion_cost(pod),
        -crowd if pods.node_of(pod) else 0,
        _log2(ready_for),
        -pods.restart_count(pod),
        _log2(age),
        name_of(pod),
    )


def _log2(seconds: int) -> int:
    """Ages are compared by their magnitude, so that pods of about the same age are chosen evenly (KEP-2185)."""
    return max(0, seconds).bit_length()


def _deletion_cost(pod: Obj) -> int:
    try:
        return int(annotations_of(pod).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def new_status(owner: Obj, children: Sequence[Obj], failure: tuple[str, str] | None, now: datetime) -> Obj:
    """The status from the active children; `failure` is (reason, message) of a write that was refused in this step."""
    spec = spec_of(owner)
    template_labels = (((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}).items()
    active = [each for each in children if pods.is_active(each)]
    min_ready = spec.get("minReadySeconds") or 0
    conditions = copy_json(status_of(owner).get("conditions") or [])
    if failure is None:
        remove_condition(conditions, "ReplicaFailure")
    elif find_condition(conditions, "ReplicaFailure") is None:
        set_condition(conditions, "ReplicaFailure", "True", now, reason=failure[0], message=failure[1])
    status: Obj = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(1 for each in active if template_labels <= labels_of(each).items()),
        "readyReplicas": sum(1 for each in active if pods.is_ready(each)),
        "availableReplicas": sum(1 for each in active if pods.is_available(each, min_ready, now)),
        "observedGeneration": generation_of(owner),
    }
    if conditions:
        status["conditions"] = conditions
    return status


def same_status(old: Obj, new: Obj) -> bool:
    """Equal, where an absent number is 0."""
    keys = {*old, *new}
    return all((old.get(key) or 0) == (new.get(key) or 0) for key in keys if key != "conditions") and (
        (old.get("conditions") or []) == (new.get("conditions") or [])
    )


def next_look(owner: Obj, children: Sequence[Obj], now: datetime) -> float | None:
    """Seconds until the next ready pod becomes available; None where none is about to."""
    min_ready = spec_of(owner).get("minReadySeconds") or 0
    if not min_ready:
        return None
    waits = [pods.seconds_until_available(each, min_ready, now) for each in children if pods.is_active(each)]
    pending = [each for each in waits if 0 < each < float("inf")]
    return min(pending, default=None)
