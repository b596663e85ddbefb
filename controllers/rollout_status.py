"""What a Deployment says about itself: numbers and the conditions Available, Progressing and ReplicaFailure, with upstream's reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from kubeling.api.conditions import Condition, find_condition, get_condition, remove_condition, set_condition
from kubeling.api.meta import copy_json, generation_of, name_of, spec_of, status_of
from kubeling.api.times import format_time, seconds_between
from kubeling.controllers.context import Obj
from kubeling.controllers.rollout import bounds, replicas_of

NEW_AVAILABLE = "NewReplicaSetAvailable"
NEW_CREATED = "NewReplicaSetCreated"
FOUND_NEW = "FoundNewReplicaSet"
UPDATED = "ReplicaSetUpdated"
FAILED_CREATE = "ReplicaSetCreateError"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"
RESUMED = "DeploymentResumed"

#: `progressDeadlineSeconds` of this size means that there is none.
_NO_DEADLINE = 2**31 - 1


def deadline_of(deployment: Obj) -> int | None:
    """`progressDeadlineSeconds`, None where progress is not watched."""
    seconds = spec_of(deployment).get("progressDeadlineSeconds")
    return None if seconds is None or int(seconds) >= _NO_DEADLINE else int(seconds)


def numbers(deployment: Obj, replica_sets: Sequence[Obj], new: Obj | None) -> Obj:
    """The counts, summed over the ReplicaSets' statuses; conditions carried over, Available among them."""

    def total(field: str) -> int:
        return sum(int(status_of(each).get(field) or 0) for each in replica_sets)

    replicas, available = total("replicas"), total("availableReplicas")
    status: Obj = {
        "observedGeneration": generation_of(deployment),
        "replicas": replicas,
        "updatedReplicas": int(status_of(new).get("replicas") or 0) if new else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(replicas_of(each) for each in replica_sets) - available),
        "conditions": copy_json(status_of(deployment).get("conditions") or []),
    }
    if status_of(deployment).get("collisionCount") is not None:
        status["collisionCount"] = status_of(deployment)["collisionCount"]
    return status


def set_availability(deployment: Obj, status: Obj, now: datetime) -> None:
    """The condition Available, in place."""
    _, max_unavailable = bounds(deployment)
    if status["availableReplicas"] >= replicas_of(deployment) - max_unavailable:
        put(status["conditions"], "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
    else:
        put(
            status["conditions"],
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
            now,
        )


def put(conditions: list[Condition], kind: str, value: str, reason: str, message: str, now: datetime) -> None:
    """Set a condition unless it says that already (status and reason); `lastUpdateTime` says when it last did."""
    found = find_condition(conditions, kind)
    if found is not None and found.get("status") == value and found.get("reason") == reason:
        return
    set_condition(conditions, kind, value, now, reason=reason, message=message, lastUpdateTime=format_time(now))


def is_complete(deployment: Obj, status: Obj) -> bool:
    """All replicas are of the present template and available, and nothing else runs."""
    wanted = replicas_of(deployment)
    return (
        int(status.get("updatedReplicas") or 0) == wanted
        and int(status.get("replicas") or 0) == wanted
        and int(status.get("availableReplicas") or 0) == wanted
        and int(status.get("observedGeneration") or 0) >= generation_of(deployment)
    )


def _has_moved(old: Obj, new: Obj) -> bool:
    def value(status: Obj, field: str) -> int:
        return int(status.get(field) or 0)

    return (
        value(new, "updatedReplicas") > value(old, "updatedReplicas")
        or value(new, "replicas") - value(new, "updatedReplicas") < value(old, "replicas") - value(old, "updatedReplicas")
        or value(new, "readyReplicas") > value(old, "readyReplicas")
        or value(new, "availableReplicas") > value(old, "availableReplicas")
    )


def _is_overdue(deployment: Obj, conditions: list[Condition], now: datetime) -> bool:
    found = find_condition(conditions, "Progressing")
    deadline = deadline_of(deployment)
    if found is None or deadline is None or found.get("reason") == NEW_AVAILABLE:
        return False
    if found.get("reason") == TIMED_OUT:
        return True
    return seconds_between(found.get("lastUpdateTime"), now) > deadline


def set_progress(deployment: Obj, status: Obj, new: Obj | None, now: datetime) -> None:
    """The condition Progressing after a step of a rollout, in place."""
    conditions = status["conditions"]
    if deadline_of(deployment) is None:
        remove_condition(conditions, "Progressing")
        return
    found = find_condition(conditions, "Progressing")
    settled = found is not None and found.get("reason") == NEW_AVAILABLE and status["replicas"] == status["updatedReplicas"]
    if settled:
        return
    subject = f'ReplicaSet "{name_of(new)}"' if new else f'Deployment "{name_of(deployment)}"'
    if is_complete(deployment, status):
        put(conditions, "Progressing", "True", NEW_AVAILABLE, f"{subject} has successfully progressed.", now)
    elif _has_moved(status_of(deployment), status):
        # Said again at every move, since the deadline runs from the last time.
        moved = {"reason": UPDATED, "message": f"{subject} is progressing."}
        set_condition(conditions, "Progressing", "True", now, **moved)
        progressing = find_condition(conditions, "Progressing")
        assert progressing is not None
        progressing["lastUpdateTime"] = format_time(now)
    elif _is_overdue(deployment, conditions, now):
        put(conditions, "Progressing", "False", TIMED_OUT, f"{subject} has timed out progressing.", now)


def set_pause(deployment: Obj, status: Obj, now: datetime) -> None:
    """Say that the Deployment was paused or resumed, so that the deadline does not run meanwhile. A reported lack of progress stays."""
    if deadline_of(deployment) is None:
        return
    found = find_condition(status["conditions"], "Progressing")
    reason = (found or {}).get("reason")
    if reason == TIMED_OUT:
        return
    paused = bool(spec_of(deployment).get("paused"))
    if paused and reason != PAUSED:
        put(status["conditions"], "Progressing", "Unknown", PAUSED, "Deployment is paused", now)
    elif not paused and reason == PAUSED:
        put(status["conditions"], "Progressing", "Unknown", RESUMED, "Deployment is resumed", now)


def set_failure(status: Obj, new: Obj | None, old: Iterable[Obj], now: datetime) -> None:
    """Show a ReplicaSet's ReplicaFailure, the new one's first."""
    for each in [*([new] if new else []), *old]:
        found = get_condition(each, "ReplicaFailure")
        if found is not None:
            put(
                status["conditions"],
                "ReplicaFailure",
                str(found.get("status")),
                str(found.get("reason") or ""),
                str(found.get("message") or ""),
                now,
            )
            return
    remove_condition(status["conditions"], "ReplicaFailure")


def next_look(deployment: Obj, status: Obj, now: datetime) -> float | None:
    """Seconds until lack of progress has to be reported; None where it has not."""
    deadline = deadline_of(deployment)
    found = find_condition(status["conditions"], "Progressing")
    if deadline is None or found is None or spec_of(deployment).get("paused"):
        return None
    if found.get("reason") in (TIMED_OUT, PAUSED) or (found.get("reason") == NEW_AVAILABLE and is_complete(deployment, status)):
        return None
    if found.get("reason") == NEW_AVAILABLE:
        return None
    return max(0.0, deadline - seconds_between(found.get("lastUpdateTime"), now)) + 1.0
