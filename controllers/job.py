"""Job: run pods until so many have succeeded. The decisions are in :mod:`kubeling.controllers.job_plan`.

Counting is safe even with two controllers at work on stale copies. Before a finished pod is counted the live API is asked whether it still has the
finalizer; whoever counted it before has taken that away before writing the number, and the number is written by compare-and-set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from kubeling.api import names
from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import (
    controller_of,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    resource_version_of,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.owner import is_controlled_by
from kubeling.api.pods import is_active
from kubeling.api.resources import JOBS, PODS
from kubeling.api.times import parse_time
from kubeling.client.batch import parallel
from kubeling.client.controller import Reconciler, Request, owner_of_kind, request_for
from kubeling.client.expectations import Expectations
from kubeling.client.informer import Change
from kubeling.controllers import job_plan as plan
from kubeling.controllers.children import child_prefix, claim, owners_of_orphan, pod_from_template, selector_of
from kubeling.controllers.context import POD_INDEXERS, Context, Obj
from kubeling.controllers.job_indexes import INDEX
from kubeling.controllers.job_policies import TRACKING, Failures, failure_annotations, tracked
from kubeling.controllers.pod_control import PodControl
from kubeling.controllers.replicas_plan import same_status

MANAGED_BY = "kubernetes.io/job-controller"


def is_ours(job: Obj) -> bool:
    """`spec.managedBy` may give a Job to another controller."""
    return (spec_of(job).get("managedBy") or MANAGED_BY) == MANAGED_BY


def job_pod(job: Obj, name: str, index: int | None, failures: Failures | None = None) -> Obj:
    """A pod of the Job, with the tracking finalizer; one of an Indexed Job knows its index and has a name that follows from it."""
    pod = pod_from_template(spec_of(job).get("template") or {}, job, JOBS, name)
    pod["metadata"]["finalizers"] = [*(pod["metadata"].get("finalizers") or ()), TRACKING]
    if index is None:
        return pod
    pod["metadata"].setdefault("annotations", {}).update({INDEX: str(index)} | failure_annotations(failures))
    pod["metadata"]["labels"][INDEX] = str(index)
    pod["spec"].setdefault("hostname", f"{name_of(job)}-{index}")
    variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}}
    for each in [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]:
        if all(known.get("name") != variable["name"] for known in each.get("env") or ()):
            each["env"] = [*(each.get("env") or ()), variable]
    return pod


class JobController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._jobs = ctx.informers.informer(JOBS)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._events = ctx.recorder("job-controller")
        self._expected = Expectations(ctx.clock)
        self._pods.add_handler(self._expected.observe)
        self._control = PodControl(ctx.client, self._events, self._expected)
        self._loop = Reconciler("job-controller", self.reconcile, workers=5, clock=ctx.clock)
        self._loop.watches(self._jobs)
        self._loop.watches(self._pods, owner_of_kind("Job"))
        self._loop.watches(self._pods, owners_of_orphan(self._jobs.store))
        self._orphans = Reconciler("job-orphans", self.release_orphan, workers=2, clock=ctx.clock)
        self._orphans.watches(self._pods, self._if_orphaned)
        self._orphans.needs(self._jobs)
        self._jobs.add_handler(self._job_gone)
        ctx.run_part("job-orphans", self._orphans.run)
        self.run = self._loop.run

    # -- one step --------------------------------------------------------------------------------------------------------------------

    async def reconcile(self, request: Request) -> float | None:
        """Count what finished, make or delete pods, say how it stands."""
        key = str(request)
        job = self._jobs.store.get(request.name, request.namespace)
        if job is None or not is_ours(job):
            self._expected.forget(key)
            return None
        waiting = self._expected.remaining(key)
        mine = await claim(self._client, JOBS, job, selector_of(job), PODS, self._pods.store)
        mine = await self._complete_picture(job, mine)
        confirmed = await self._confirm(job, plan.newly_finished(job, mine))
        if plan.is_finished(job) and not any(tracked(each) or is_active(each) for each in mine):
            return None
        step = plan.plan(job, mine, confirmed, self._ctx.clock.now(), manage=not waiting)
        if not same_status(status_of(job), step.status):
            job = await self._client.update_status(JOBS, {**job, "status": step.status})
        for kind, reason, message in step.events:
            self._events.event(job, "Warning" if kind == "Warning" else "Normal", reason, message)
        await parallel([*step.release, *(each for each in step.surplus if tracked(each))], self._release)
        await self._control.delete(key, job, [*step.delete, *step.surplus])
        await self._control.create(key, job, [self._new_pod(job, index, step.failures) for index in step.create])
        looks = [each for each in (waiting or None, step.look_again) if each is not None]
        return min(looks, default=None)

    async def _complete_picture(self, job: Obj, mine: list[Obj]) -> list[Obj]:
        """A pod that is written down as uncounted and missing from our copy is gone, or our copy is late: only the live API knows."""
        uncounted = status_of(job).get("uncountedTerminatedPods") or {}
        uids = {*(uncounted.get("succeeded") or ()), *(uncounted.get("failed") or ())}
        if uids <= {uid_of(each) for each in mine}:
            return mine
        live = await self._client.list(PODS, namespace_of(job), label_selector=str(selector_of(job)))
        return [each for each in live["items"] if is_controlled_by(each, job)]

    async def _confirm(self, job: Obj, candidates: Sequence[Obj]) -> set[str]:
        """The uids of those that have the tracking finalizer at this moment."""
        found: set[str] = set()

        async def look(pod: Obj) -> None:
            try:
                live = await self._client.get(PODS, name_of(pod), namespace_of(pod))
            except ApiError as error:
                if is_not_found(error):
                    return
                raise
            if uid_of(live) == uid_of(pod) and tracked(live):
                found.add(uid_of(pod))

        if not plan.is_finished(job) and not is_deleting(job):
            await parallel(candidates, look)
        return found

    async def _release(self, pod: Obj) -> None:
        """Take the tracking finalizer away, by compare-and-set on the live pod where our copy is late."""
        rest = [each for each in finalizers_of(pod) if each != TRACKING]
        meta = {"uid": uid_of(pod), "resourceVersion": resource_version_of(pod), "finalizers": rest or None}
        try:
            await self._client.patch(PODS, name_of(pod), {"metadata": meta}, namespace_of(pod))
        except ApiError as error:
            if not is_not_found(error):
                raise

    def _new_pod(self, job: Obj, index: int | None, failures: Mapping[int, Failures]) -> Obj:
        name = names.generate(child_prefix(name_of(job) if index is None else f"{name_of(job)}-{index}"), self._ctx.random)
        return job_pod(job, name, index, failures.get(index) if index is not None else None)

    # -- pods whose Job is gone --------------------------------------------------------------------------------------------------------

    def _if_orphaned(self, pod: Obj) -> Iterable[Request]:
        if not tracked(pod):
            return ()
        owner = controller_of(pod)
        job = self._jobs.store.get(owner["name"], namespace_of(pod)) if owner and owner.get("kind") == "Job" else None
        return () if job is not None and owner is not None and uid_of(job) == owner.get("uid") else (request_for(pod),)

    def _job_gone(self, change: Change) -> None:
        if change.type == "delete":
            for pod in self._pods.store.by_index("controller", uid_of(change.obj)):
                if tracked(pod):
                    self._orphans.queue.add(request_for(pod))

    async def release_orphan(self, request: Request) -> float | None:
        """Nobody will ever count this pod: let it go."""
        pod = self._pods.store.get(request.name, request.namespace)
        if pod is None or not tracked(pod):
            return None
        owner = controller_of(pod)
        if owner is not None and owner.get("kind") == "Job":
            try:
                job = await self._client.get(JOBS, owner["name"], request.namespace)
            except ApiError as error:
                if not is_not_found(error):
                    raise
            else:
                if uid_of(job) == owner.get("uid"):
                    return None
        await self._release(pod)
        return None


class TtlController:
    """Deletes finished Jobs `ttlSecondsAfterFinished` after their end."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._jobs = ctx.informers.informer(JOBS)
        self._loop = Reconciler("ttl-after-finished-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._jobs, lambda job: (request_for(job),) if seconds_to_live(job) is not None else ())
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Delete it when its time has come, under the version that was judged: a changed TTL is judged anew."""
        job = self._jobs.store.get(request.name, request.namespace)
        ttl = seconds_to_live(job) if job else None
        if job is None or ttl is None or is_deleting(job):
            return None
        ended = [
            parse_time(each["lastTransitionTime"])
            for each in status_of(job).get("conditions") or ()
            if each.get("type") in ("Complete", "Failed") and each.get("status") == "True" and each.get("lastTransitionTime")
        ]
        left = ttl - (self._ctx.clock.now() - min(ended)).total_seconds() if ended else 0.0
        if left > 0:
            return left
        try:
            await self._client.delete(
                JOBS,
                request.name,
                request.namespace,
                propagation_policy="Foreground",
                uid=uid_of(job),
                resource_version=resource_version_of(job),
            )
        except ApiError as error:
            if not is_not_found(error):
                raise
        return None


def seconds_to_live(job: Obj) -> int | None:
    """`ttlSecondsAfterFinished` of a finished Job; None where it stays."""
    seconds = spec_of(job).get("ttlSecondsAfterFinished")
    return int(seconds) if seconds is not None and plan.is_finished(job) else None


def job(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of Jobs."""
    return JobController(ctx).run


def ttl_after_finished(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller that cleans up finished Jobs."""
    return TtlController(ctx).run
