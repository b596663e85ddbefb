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
from kubeling.api.meta import copy_json, is_deleting, name_of, spec_of, status_of, uid_of
from kubeling.api.times import format_time, parse_time, seconds_between
from kubeling.controllers import job_indexes as indexes
from kubeling.controllers import job_policies as policies
from kubeling.controllers.context import Obj
from kubeling.controllers.job_policies import Failures, has_failed, has_succeeded, replaces_early, tracked
from kubeling.controllers.replicas_plan import choose_victims

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
    #: What the pods made for these indexes say of the failures before them.
    failures: dict[int, Failures] = field(default_factory=dict)
    look_again: float | None = None
    events: list[Event] = field(default_factory=list)


def is_finished(job: Obj) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


def is_indexed(job: Obj) -> bool:
    return spec_of(job).get("completionMode") == "Indexed"


def newly_finished(job: Obj, mine: Sequence[Obj]) -> list[Obj]:
    """The pods that would have to be counted now, if they still have the finalizer; the caller asks the live API whether they do."""
    uncounted = status_of(job).get("uncountedTerminatedPods") or {}
    known = {*(uncounted.get("succeeded") or ()), *(uncounted.get("failed") or ())}
    known |= {uid_of(each) for each in (*_held(job, mine).values(), *_ignored(job, mine))}
    return [
        each for each in mine if tracked(each) and uid_of(each) not in known and (has_succeeded(each) or has_failed(each, job))
    ][:BURST]


def _held(job: Obj, mine: Sequence[Obj]) -> dict[int, Obj]:
    """The failed pods that wait for their successors. Once the Job's end is decided there will be none."""
    if not policies.by_index(job) or _interim(status_of(job)) is not None or is_finished(job):
        return {}
    completions = int(spec_of(job).get("completions") or 0)
    done = indexes.parse(status_of(job).get("completedIndexes"), completions)
    done |= {index for each in mine if has_succeeded(each) and (index := indexes.index_of(each)) is not None}
    return policies.waiting_for_successor(job, mine, done | policies.failed_indexes(job, mine))


def _ignored(job: Obj, mine: Sequence[Obj]) -> list[Obj]:
    """The pods whose failure counts for nothing by the Job's policy."""
    if not spec_of(job).get("podFailurePolicy"):
        return []
    return [each for each in mine if policies.is_ignored(job, each)]


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
    failed = [each for each in mine if has_failed(each, job) and not policies.is_ignored(job, each)]
    failures = [at for each in failed if (at := finished_at(each)) and (since is None or at > since)]
    return _delay_left(len(failures), max(failures), now) if failures else 0.0


def _delay_left(failures: int, last: datetime, now: datetime) -> float:
    delay = min(BACKOFF_LIMIT, BACKOFF_BASE * 2.0 ** min(failures - 1, 30))
    return max(0.0, delay - (now - last).total_seconds())


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
    held = _held(job, mine)
    _fold(job, status, mine)
    _count(job, status, mine, confirmed)
    if policies.by_index(job):
        status["failedIndexes"] = indexes.render(policies.failed_indexes(job, mine))
    succeeded, failed = _totals(status)
    active = [each for each in mine if pods.is_active(each)]
    terminating = [each for each in mine if is_deleting(each) and not pods.is_terminal(each)]
    suspended = bool(spec_of(job).get("suspend"))
    if not status.get("startTime") and not suspended:
        status["startTime"] = format_time(now)
    _judge(job, step, mine, active, succeeded, failed, now, sure=manage)
    ending = _interim(status)
    if ending is not None:
        step.delete = active
        # No successor will come now: what waited for one is counted first, in the step that this status leads to.
        if not held:
            _conclude(step, ending, active, terminating, now)
    else:
        _suspend(job, step, now)
        if suspended:
            step.surplus = active
        elif manage:
            _manage(job, step, mine, active, terminating, held, succeeded, now)
    gone = {uid_of(each) for each in (*step.delete, *step.surplus)}
    left = [each for each in active if uid_of(each) not in gone]
    status["active"] = len(left) + len(step.create)
    status["ready"] = sum(1 for each in left if pods.is_ready(each))
    status["terminating"] = len(terminating) + len(active) - len(left)
    letting_go = _uncounted(status) | {uid_of(each) for each in _ignored(job, mine)}
    if ending is None:
        letting_go -= {uid_of(each) for each in held.values()}
    step.release = [each for each in mine if tracked(each) and uid_of(each) in letting_go]
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


def _judge(
    job: Obj,
    step: Plan,
    mine: Sequence[Obj],
    active: Sequence[Obj],
    succeeded: int,
    failed: int,
    now: datetime,
    *,
    sure: bool,
) -> None:
    """Set the interim condition when the Job has reached its end. `sure`: all pods that were made are in our copy."""
    spec, conditions = spec_of(job), step.status["conditions"]
    if _interim(step.status) is not None:
        return
    if message := policies.fails_job(job, mine):
        _fail(conditions, "PodFailurePolicy", message, now)
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
    if _judge_indexes(job, step.status, now):
        return
    reached = succeeded >= int(completions) if completions is not None else sure and succeeded > 0 and not active
    if reached:
        _succeed(conditions, "CompletionsReached", "Reached expected number of succeeded pods", now)


def _judge_indexes(job: Obj, status: Obj, now: datetime) -> bool:
    """Whether the failed and completed indexes end the Job."""
    spec, conditions = spec_of(job), status["conditions"]
    completions, most = int(spec.get("completions") or 0), spec.get("maxFailedIndexes")
    done = indexes.parse(status.get("completedIndexes"), completions)
    lost = indexes.parse(status.get("failedIndexes"), completions)
    if most is not None and len(lost) > int(most):
        message = "Job has exceeded the specified maximal number of failed indexes"
        _fail(conditions, "MaxFailedIndexesExceeded", message, now)
    elif lost and len(lost | done) >= completions:
        _fail(conditions, "FailedIndexes", "Job has failed indexes", now)
    elif (rule := policies.success_rule(job, done)) is not None:
        _succeed(conditions, "SuccessPolicy", f"Matched rules at index {rule}", now)
    else:
        return False
    return True


def _succeed(conditions: list[dict[str, Any]], reason: str, message: str, now: datetime) -> None:
    set_condition(conditions, "SuccessCriteriaMet", "True", now, reason=reason, message=message, lastProbeTime=format_time(now))


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
        step.events.append(("Normal", "Suspended", "Job suspended"))
    elif was and not wanted:
        set_condition(status["conditions"], "Suspended", "False", now, reason="JobResumed", message="Job resumed")
        status["startTime"] = format_time(now)
        step.events.append(("Normal", "Resumed", "Job resumed"))


def _manage(
    job: Obj,
    step: Plan,
    mine: Sequence[Obj],
    active: Sequence[Obj],
    terminating: Sequence[Obj],
    held: dict[int, Obj],
    succeeded: int,
    now: datetime,
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
    # What has succeeded and is no number yet: nobody has counted it, or our copy of the Job does not show that. Either way it is not to be done again.
    counting = _uncounted(step.status)
    unseen = [each for each in mine if has_succeeded(each) and tracked(each) and uid_of(each) not in counting]
    if unseen and not is_indexed(job):
        left = int(completions) - succeeded - len(unseen) - (len(active) - len(surplus)) if completions is not None else 0
        missing = min(missing, left)
    if missing <= 0:
        return
    if policies.by_index(job):
        resting = _resting(job, step, held, now)
    elif (wait := backoff_left(job, mine, now)) > 0:
        _look_again(step, wait)
        return
    else:
        resting = set()
    missing = min(missing, BURST)
    if is_indexed(job):
        total = int(completions or 0)
        settled = indexes.parse(step.status.get("completedIndexes"), total) | resting
        settled |= indexes.parse(step.status.get("failedIndexes"), total)
        gone = {uid_of(each) for each in surplus}
        holding = [each for each in active if uid_of(each) not in gone]
        holding += [] if replaces_early(job) else list(terminating)
        taken = {index for each in (*holding, *unseen) if (index := indexes.index_of(each)) is not None}
        step.create = list(indexes.missing(total, settled | taken, missing))
        if policies.by_index(job):
            step.failures = {
                each: policies.failures_with(job, held[each]) if each in held else Failures()
                for each in step.create
                if each is not None
            }
    else:
        step.create = [None] * missing


def _resting(job: Obj, step: Plan, held: dict[int, Obj], now: datetime) -> set[int]:
    """The indexes whose last failure is too fresh."""
    found = set()
    for index, pod in held.items():
        wait = _delay_left(sum(policies.failures_with(job, pod)), finished_at(pod) or now, now)
        if wait > 0:
            found.add(index)
            _look_again(step, wait)
    return found


def _look_again(step: Plan, wait: float) -> None:
    step.look_again = wait if step.look_again is None else min(wait, step.look_again)


def _surplus(job: Obj, step: Plan, active: Sequence[Obj], wanted: int, now: datetime) -> list[Obj]:
    """The active pods that are too many: those that do an index a second time, or one that is done; then as a ReplicaSet chooses."""
    surplus: list[Obj] = []
    if is_indexed(job):
        completions = int(spec_of(job).get("completions") or 0)
        seen = indexes.parse(step.status.get("completedIndexes"), completions)
        seen |= indexes.parse(step.status.get("failedIndexes"), completions)
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
