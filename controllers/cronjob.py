"""CronJob: a Job at each of its times.

A Job's name follows from the time for which it is, so each time has one Job, whatever dies in between and however many controllers are at work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kubeling.api import cron
from kubeling.api.conditions import is_true
from kubeling.api.errors import ApiError, is_already_exists, is_namespace_terminating, is_not_found
from kubeling.api.meta import copy_json, is_deleting, name_of, namespace_of, reference_to, spec_of, status_of, uid_of
from kubeling.api.owner import is_controlled_by, make_controller_ref
from kubeling.api.resources import CRON_JOBS, JOBS
from kubeling.api.times import format_time, parse_optional, parse_time
from kubeling.client.controller import Reconciler, Request, owner_of_kind
from kubeling.controllers.context import CHILD_INDEXERS, Context, Obj
from kubeling.controllers.cron_times import most_recent, next_after, zone_named
from kubeling.controllers.job_plan import is_finished
from kubeling.controllers.replicas_plan import same_status

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
Event = tuple[str, str, str]


@dataclass(slots=True)
class Plan:
    """What to do: Jobs to delete, the time for which to start one, the status without that one, and when to look again."""

    status: Obj
    start: datetime | None = None
    delete: list[Obj] = field(default_factory=list)
    look_again: float | None = None
    events: list[Event] = field(default_factory=list)


def plan(cron_job: Obj, jobs: Sequence[Obj], now: datetime) -> Plan:
    """One step, from the CronJob and its Jobs. ValueError for a schedule or time zone that cannot be read."""
    step = Plan(copy_json(status_of(cron_job)))
    _track(cron_job, jobs, step)
    _tidy(cron_job, jobs, step)
    spec = spec_of(cron_job)
    if spec.get("suspend") or is_deleting(cron_job):
        return step
    schedule, zone = cron.parse(spec.get("schedule") or ""), zone_named(spec.get("timeZone"))
    upcoming = next_after(schedule, now, zone)
    step.look_again = (upcoming - now).total_seconds() + 0.05 if upcoming else None
    deadline = spec.get("startingDeadlineSeconds")
    earliest = parse_optional(step.status.get("lastScheduleTime")) or parse_time(cron_job["metadata"]["creationTimestamp"])
    if deadline is not None:
        earliest = max(earliest, now - timedelta(seconds=int(deadline)))
    due, many = most_recent(schedule, earliest, now, zone)
    if due is None:
        return step
    if many:
        message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        step.events.append(("Warning", "TooManyMissedTimes", message))
    active = step.status.get("active") or []
    policy = spec.get("concurrencyPolicy") or "Allow"
    if policy == "Forbid" and active:
        words = "Not starting job because prior execution is running and concurrency policy is Forbid"
        step.events.append(("Normal", "JobAlreadyActive", words))
        return step
    if policy == "Replace":
        running = {each.get("uid") for each in active}
        step.delete += [each for each in jobs if uid_of(each) in running]
        step.status["active"] = []
    step.start = due
    return step


def _track(cron_job: Obj, jobs: Sequence[Obj], step: Plan) -> None:
    """`status.active` and `lastSuccessfulTime` from the Jobs that are there."""
    by_uid = {uid_of(each): each for each in jobs}
    active: list[Obj] = []
    for reference in step.status.get("active") or ():
        found = by_uid.get(reference.get("uid", ""))
        if found is None:
            step.events.append(("Normal", "MissingJob", f"Active job went missing: {reference.get('name')}"))
        elif is_finished(found):
            ended = "Complete" if is_true(found, "Complete") else "Failed"
            step.events.append(("Normal", "SawCompletedJob", f"Saw completed job: {name_of(found)}, condition: {ended}"))
        else:
            active.append(reference)
    known = {each.get("uid") for each in active}
    for each in jobs:
        # Made right before a crash: the status does not know it yet.
        if not is_finished(each) and uid_of(each) not in known and not is_deleting(each):
            active.append(reference_to({**each, "apiVersion": "batch/v1", "kind": "Job"}))
    step.status["active"] = active
    ends = [status_of(each).get("completionTime") for each in jobs if is_true(each, "Complete")]
    latest = max((each for each in ends if each), default=None)
    if latest and latest > (step.status.get("lastSuccessfulTime") or ""):
        step.status["lastSuccessfulTime"] = latest


def _tidy(cron_job: Obj, jobs: Sequence[Obj], step: Plan) -> None:
    """The oldest finished Jobs beyond the limits go."""
    spec = spec_of(cron_job)
    for condition, limit in (
        ("Complete", spec.get("successfulJobsHistoryLimit", 3)),
        ("Failed", spec.get("failedJobsHistoryLimit", 1)),
    ):
        if limit is None:
            continue
        finished = [each for each in jobs if is_true(each, condition) and not is_deleting(each)]
        finished.sort(key=lambda each: (status_of(each).get("startTime") or "", name_of(each)))
        step.delete += finished[: max(0, len(finished) - int(limit))]


def job_for(cron_job: Obj, due: datetime) -> Obj:
    """The Job of a time."""
    template = spec_of(cron_job).get("jobTemplate") or {}
    meta = template.get("metadata") or {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{name_of(cron_job)}-{int(due.timestamp()) // 60}",
            "namespace": namespace_of(cron_job),
            "labels": dict(meta.get("labels") or {}),
            "annotations": {**(meta.get("annotations") or {}), SCHEDULED: format_time(due)},
            "ownerReferences": [make_controller_ref(cron_job, "batch/v1", "CronJob")],
        },
        "spec": copy_json(template.get("spec") or {}),
    }


class CronJobController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._cron_jobs = ctx.informers.informer(CRON_JOBS)
        self._jobs = ctx.informers.informer(JOBS, indexers=CHILD_INDEXERS)
        self._events = ctx.recorder("cronjob-controller")
        self._loop = Reconciler("cronjob-controller", self.reconcile, workers=3, clock=ctx.clock)
        self._loop.watches(self._cron_jobs)
        self._loop.watches(self._jobs, owner_of_kind("CronJob"))
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Start what is due, tidy up, write the status."""
        cron_job = self._cron_jobs.store.get(request.name, request.namespace)
        if cron_job is None:
            return None
        mine = self._jobs.store.by_index("controller", uid_of(cron_job))
        now = self._ctx.clock.now()
        try:
            step = plan(cron_job, mine, now)
        except ValueError as error:
            self._events.event(
                cron_job, "Warning", "UnparseableSchedule", f"unparseable schedule {spec_of(cron_job).get('schedule')!r}: {error}"
            )
            return None
        self._say(cron_job, step.events)
        await self._delete(cron_job, step.delete)
        if step.start is not None:
            made = await self._start(cron_job, step.start)
            if made is not None:
                step.status["active"] = [*(step.status.get("active") or ()), reference_to(made)]
                step.status["active"] = list({each["uid"]: each for each in step.status["active"]}.values())
            step.status["lastScheduleTime"] = format_time(step.start)
        if not same_status(status_of(cron_job), step.status):
            await self._client.update_status(CRON_JOBS, {**cron_job, "status": step.status})
        return step.look_again

    def _say(self, cron_job: Obj, events: Iterable[Event]) -> None:
        for kind, reason, message in events:
            self._events.event(cron_job, "Warning" if kind == "Warning" else "Normal", reason, message)

    async def _start(self, cron_job: Obj, due: datetime) -> Obj | None:
        """The Job for that time: made now, or found made; None where it is finished already or its namespace goes."""
        body = job_for(cron_job, due)
        try:
            made = await self._client.create(JOBS, body, namespace_of(cron_job))
        except ApiError as error:
            if is_namespace_terminating(error):
                return None
            if not is_already_exists(error):
                self._events.event(cron_job, "Warning", "FailedCreate", f"Error creating job: {error.message}")
                raise
            live = await self._client.get(JOBS, name_of(body), namespace_of(body))
            if not is_controlled_by(live, cron_job):
                raise
            return None if is_finished(live) else live
        self._events.event(cron_job, "Normal", "SuccessfulCreate", f"Created job {name_of(made)}")
        return made

    async def _delete(self, cron_job: Obj, jobs: Sequence[Obj]) -> None:
        for each in jobs:
            try:
                await self._client.delete(
                    JOBS, name_of(each), namespace_of(each), propagation_policy="Background", uid=uid_of(each)
                )
            except ApiError as error:
                if not is_not_found(error):
                    raise
                continue
            self._events.event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {name_of(each)}")


def cronjob(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of CronJobs."""
    return CronJobController(ctx).run
