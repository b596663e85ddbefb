"""The decisions of a Job (KEP-2307, tracking with finalizers), as one function from the Job and its pods to what is to be done.

Each finished pod is counted exactly once: its uid is first written into `status.uncountedTerminatedPods`, then it loses the finalizer, then the uid turns
into a number. A crash between any two of these steps leaves enough to go on from. A Job that has ended first says so in an interim condition
(`FailureTarget`, `SuccessCriteriaMet`), and is Failed or Complete when its last pod has stopped and is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubeling.api import pods
from kubeling.api.conditions import get_condition, is_true, set_condition
from kubeling.api.meta import copy_json, finalizers_of, is_deleting, name_of, spec_of, status_of, uid_of
from kubeling.api.times import format_time, parse_time, seconds_between
from kubeling.controllers import job_indexes as indexes
from kubeling.controllers.context import Obj
from kubeling.controllers.replicas_plan import choose_victims

TRACKING = "batch.kubernetes.io/job-tracking"
BURST = 500
#: Seconds: the delay after the first failure, doubled up to the limit.
BACKOFF_BASE, BACKOFF_LIMIT = 10.0, 600.0

Event = tuple[str, str, str]


@dataclass(slots=True)
class Plan:
    """What to write, in this order: the status, the finalizers to remove, pods to delete, pods to create.

    `surplus` are deleted too, but let go of first: that they end is our doing and no failure of theirs.
    """

    status: Obj
    release: list[Obj] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    surplus: list[Obj] = field(default_factory=list)
    #: One entry a pod: its completion index, or None.
    create: list[int | None] = field(default_factory=list)
    look_again: float | None = None
    events: list[Event] = field(default_factory=list)


def is_finished(job: Obj) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


def is_indexed(job: Obj) -> bool:
    return spec_of(job).get("completionMode") == "Indexed"


def tracked(pod: Obj) -> bool:
    return TRACKING in finalizers_of(pod)


def has_succeeded(pod: Obj) -> bool:
    return pods.phase_of(pod) == "Succeeded"


def has_failed(pod: Obj, job: Obj) -> bool:
    """Failed; or on its way out, unless the Job wants to wait for how that ends."""
    if pods.phase_of(pod) == "Failed":
        return True
    return replaces_early(job) and is_deleting(pod) and not has_succeeded(pod)


def replaces_early(job: Obj) -> bool:
    """Whether a terminating pod is replaced before it has stopped."""
    policy = spec_of(job).get("podReplacementPolicy") or (
        "Failed" if spec_of(job).get("podFailurePolicy") else "TerminatingOrFailed"
    )
    return bool(policy == "TerminatingOrFailed")


def newly_finished(job: Obj, mine: Sequence[Obj]) -> list[Obj]:
    """The pods that would have to be counted now, if they still have the finalizer; the caller asks the live API whether they do."""
    uncounted = status_of(job).get("uncountedTerminatedPods") or {}
    known = {*(uncounted.get("succeeded") or ()), *(uncounted.get("failed") or ())}
    return [
        each for each in mine if tracked(each) and uid_of(each) not in known and (has_succeeded(each) or has_failed(each, job))
    ][:BURST]


def finished_at(pod: Obj) -> datetime | None:
    """When its last container ended; else when it was deleted or stopped being ready."""
    ends = [
        (each.get("state") or {}).get("terminated", {}).get("finishedAt")
        for each in status_of(pod).get("containerStatuses") or ()
    ]
    stamps = [each for each in ends if each]
    fallback = pod["metadata"].get("deletionTimestamp") or (get_condition(pod, "Ready") or {}).get("lastTransitionTime")
    stamp = max(stamps) if stamps else fallback
    return parse_time(stamp) if stamp else None


def backoff_left(job: Obj, mine: Sequence[Obj], now: datetime) -> float:
    """Seconds until a failed pod may be replaced: by the number of failures since the last success."""
    successes = [at for each in mine if has_succeeded(each) and (at := finished_at(each))]
    since = max(successes, default=None)
    failures = [at for each in mine if has_failed(each, job) and (at := finished_at(each)) and (since is None or at > since)]
    if not failures:
        return 0.0
    delay = min(BACKOFF_LIMIT, BACKOFF_BASE * 2.0 ** min(len(failures) - 1, 30))
    return max(0.0, delay - (now - max(failures)).total_seconds())


def plan(job: Obj, mine: Sequence[Obj], confirmed: Collection[str], now: datetime, *, manage: bool = True) -> Plan:
    """One step. `confirmed` are the uids of :func:`newly_finished` pods whose finalizer the live API has shown; `manage` is False while our copy lags."""
    status: Obj = copy_json(status_of(job))
    status["conditions"] = list(status.get("conditions") or ())
    step = Plan(status)
    if is_finished(job) or is_deleting(job):
        # Whatever is left is counted no more.
        step.release = [each for each in mine if tracked(each)] if is_deleting(job) or not _uncounted(status) else []
        step.delete = [each for each in mine if pods.is_active(each)] if is_finished(job) else []
        return step
    _fold(job, status, mine)
    _count(job, status, mine, confirmed)
    succeeded, failed = _totals(status)
    active = [each for each in mine if pods.is_active(each)]
    terminating = [each for each in mine if is_deleting(each) and not pods.is_terminal(each)]
    suspended = bool(spec_of(job).get("suspend"))
    if not status.get("startTime") and not suspended:
        status["startTime"] = format_time(now)
    _judge(job, step, active, succeeded, failed, now, sure=manage)
    ending = _interim(status)
    if ending is not None:
        step.delete = active
        _conclude(step, ending, active, terminating, now)
    else:
        _suspend(job, step, now)
        if suspended:
            step.delete = active
        elif manage:
            _manage(job, step, mine, active, terminating, succeeded, now)
    gone = {uid_of(each) for each in (*step.delete, *step.surplus)}
    left = [each for each in active if uid_of(each) not in gone]
    status["active"] = len(left) + len(step.create)
    status["ready"] = sum(1 for each in left if pods.is_ready(each))
    status["terminating"] = len(terminating) + len(active) - len(left)
    uncounted = _uncounted(status)
    step.release = [each for each in mine if tracked(each) and uid_of(each) in uncounted]
    return step


def _uncounted(status: Obj) -> set[str]:
    found = status.get("uncountedTerminatedPods") or {}
    return {*(found.get("succeeded") or ()), *(found.get("failed") or ())}


def _fold(job: Obj, status: Obj, mine: Sequence[Obj]) -> None:
    """Uids whose pods have lost the finalizer (or are gone) become numbers."""
    found = status.get("uncountedTerminatedPods") or {}
    still = {uid_of(each) for each in mine if tracked(each)}
    kept: dict[str, list[str]] = {}
    for kind in ("succeeded", "failed"):
        uids = found.get(kind) or []
        rest = [each for each in uids if each in still]
        if not (kind == "succeeded" and is_indexed(job)):
            status[kind] = int(status.get(kind) or 0) + len(uids) - len(rest)
        if rest:
            kept[kind] = rest
    status["uncountedTerminatedPods"] = kept


def _count(job: Obj, status: Obj, mine: Sequence[Obj], confirmed: Collection[str]) -> None:
    """Write down the pods that have finished."""
    uncounted = status["uncountedTerminatedPods"]
    completions = int(spec_of(job).get("completions") or 0)
    done = indexes.parse(status.get("completedIndexes"), completions) if is_indexed(job) else set()
    for pod in mine:
        if uid_of(pod) not in confirmed or not tracked(pod):
            continue
        if has_succeeded(pod):
            uncounted.setdefault("succeeded", []).append(uid_of(pod))
            index = indexes.index_of(pod)
            if is_indexed(job) and index is not None and index < completions:
                done.add(index)
        else:
            uncounted.setdefault("failed", []).append(uid_of(pod))
    if is_indexed(job):
        status["completedIndexes"] = indexes.render(done)
        status["succeeded"] = len(done)


def _totals(status: Obj) -> tuple[int, int]:
    """(succeeded, failed) with what is written down and not yet a number. An Indexed Job's successes are its indexes."""
    uncounted = status["uncountedTerminatedPods"]
    succeeded = int(status.get("succeeded") or 0)
    if "completedIndexes" not in status:
        succeeded += len(uncounted.get("succeeded") or ())
    return succeeded, int(status.get("failed") or 0) + len(uncounted.get("failed") or ())


def _judge(job: Obj, step: Plan, active: Sequence[Obj], succeeded: int, failed: int, now: datetime, *, sure: bool) -> None:
    """Set the interim condition when the Job has reached its end. `sure`: all pods that were made are in our copy."""
    spec, conditions = spec_of(job), step.status["conditions"]
    if _interim(step.status) is not None:
        return
    limit = spec.get("backoffLimit")
    limit = 6 if limit is None else int(limit)
    on_failure = ((spec.get("template") or {}).get("spec") or {}).get("restartPolicy") == "OnFailure"
    restarts = sum(pods.restart_count(each) for each in active) if on_failure else 0
    completions = spec.get("completions")
    if failed > limit or (on_failure and active and restarts > 0 and restarts >= limit):
        _fail(conditions, "BackoffLimitExceeded", "Job has reached the specified backoff limit", now)
        return
    deadline, start = spec.get("activeDeadlineSeconds"), step.status.get("startTime")
    if deadline is not None and start and not spec.get("suspend"):
        left = float(deadline) - seconds_between(start, now)
        if left <= 0:
            _fail(conditions, "DeadlineExceeded", "Job was active longer than specified deadline", now)
            return
        step.look_again = left
    reached = succeeded >= int(completions) if completions is not None else sure and succeeded > 0 and not active
    if reached:
        set_condition(
            conditions,
            "SuccessCriteriaMet",
            "True",
            now,
            reason="CompletionsReached",
            message="Reached expected number of succeeded pods",
            lastProbeTime=format_time(now),
        )


def _fail(conditions: list[dict[str, Any]], reason: str, message: str, now: datetime) -> None:
    set_condition(conditions, "FailureTarget", "True", now, reason=reason, message=message, lastProbeTime=format_time(now))


def _interim(status: Obj) -> dict[str, Any] | None:
    for kind in ("FailureTarget", "SuccessCriteriaMet"):
        found = get_condition({"status": status}, kind)
        if found is not None and found.get("status") == "True":
            return found
    return None


def _conclude(step: Plan, ending: dict[str, Any], active: Sequence[Obj], terminating: Sequence[Obj], now: datetime) -> None:
    """The final condition, once nothing runs and all is counted."""
    if active or terminating or _uncounted(step.status):
        return
    failed = ending["type"] == "FailureTarget"
    kind, reason, message = "Failed" if failed else "Complete", ending.get("reason", ""), ending.get("message", "")
    stamp = format_time(now)
    set_condition(step.status["conditions"], kind, "True", now, reason=reason, message=message, lastProbeTime=stamp)
    step.look_again = None
    if failed:
        step.events.append(("Warning", reason, message))
    else:
        step.status["completionTime"] = stamp
        step.events.append(("Normal", "Completed", "Job completed"))


def _suspend(job: Obj, step: Plan, now: datetime) -> None:
    status = step.status
    was = is_true({"status": status}, "Suspended")
    wanted = bool(spec_of(job).get("suspend"))
    if wanted and not was:
        set_condition(status["conditions"], "Suspended", "True", now, reason="JobSuspended", message="Job suspended")
        status.pop("startTime", None)
        step.events.append(("Normal", "Suspended", "Job suspended"))
    elif was and not wanted:
        set_condition(status["conditions"], "Suspended", "False", now, reason="JobResumed", message="Job resumed")
        status["startTime"] = format_time(now)
        step.events.append(("Normal", "Resumed", "Job resumed"))


def _manage(
    job: Obj, step: Plan, mine: Sequence[Obj], active: Sequence[Obj], terminating: Sequence[Obj], succeeded: int, now: datetime
) -> None:
    """As many active pods as parallelism and what is left to do allow."""
    spec = spec_of(job)
    parallelism = int(spec.get("parallelism", 1) or 0)
    completions = spec.get("completions")
    if completions is None:
        wanted = len(active) if succeeded > 0 else parallelism
        wanted = min(wanted, parallelism)
    else:
        wanted = max(0, min(parallelism, int(completions) - succeeded))
    surplus = _surplus(job, step, active, wanted, now)
    step.surplus = surplus
    missing = wanted - (len(active) - len(surplus))
    if not replaces_early(job):
        missing -= len(terminating)
    if missing <= 0:
        return
    wait = backoff_left(job, mine, now)
    if wait > 0:
        step.look_again = min(wait, step.look_again) if step.look_again is not None else wait
        return
    missing = min(missing, BURST)
    if is_indexed(job):
        total = int(completions or 0)
        done = indexes.parse(step.status.get("completedIndexes"), total)
        gone = {uid_of(each) for each in surplus}
        holding = [each for each in active if uid_of(each) not in gone]
        holding += [] if replaces_early(job) else list(terminating)
        taken = {index for each in holding if (index := indexes.index_of(each)) is not None}
        step.create = list(indexes.missing(total, done | taken, missing))
    else:
        step.create = [None] * missing


def _surplus(job: Obj, step: Plan, active: Sequence[Obj], wanted: int, now: datetime) -> list[Obj]:
    """The active pods that are too many: those that do an index a second time, or one that is done; then as a ReplicaSet chooses."""
    surplus: list[Obj] = []
    if is_indexed(job):
        seen = indexes.parse(step.status.get("completedIndexes"), int(spec_of(job).get("completions") or 0))
        for each in sorted(active, key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", name_of(pod))):
            index = indexes.index_of(each)
            if index is None or index in seen:
                surplus.append(each)
            else:
                seen.add(index)
    left = [each for each in active if each not in surplus]
    if len(left) > wanted:
        surplus += choose_victims(left, left, len(left) - wanted, now)
    return surplus[:BURST]
