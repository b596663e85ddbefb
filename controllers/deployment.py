"""Deployment: a ReplicaSet for each template, and pods moved from the old ones to the new one without falling below what must be available.

One step: find (or make) the ReplicaSet of the present template, change the sizes that may change now, say in the status how it stands. The next
step is taken when a ReplicaSet's status changes. Safe with a stale copy: a new ReplicaSet's name follows from the template, so it is made once only,
and every change of a size is a compare-and-set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from kubeling.api import pods
from kubeling.api.errors import ApiError, is_already_exists, is_namespace_terminating, is_not_found
from kubeling.api.hashing import template_hash
from kubeling.api.meta import (
    annotations_of,
    controller_of,
    generation_of,
    is_deleting,
    name_of,
    namespace_of,
    observed_generation_of,
    resource_version_of,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.owner import is_controlled_by, make_controller_ref
from kubeling.api.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from kubeling.client.controller import Reconciler, Request, owner_of_kind, request_for
from kubeling.controllers import rollout, rollout_status
from kubeling.controllers.children import claim, owners_of_orphan, selector_of
from kubeling.controllers.context import CHILD_INDEXERS, POD_INDEXERS, Context, Obj
from kubeling.controllers.replicas_plan import same_status


class DeploymentController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._deployments = ctx.informers.informer(DEPLOYMENTS)
        self._sets = ctx.informers.informer(REPLICA_SETS, indexers=CHILD_INDEXERS)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._events = ctx.recorder("deployment-controller")
        self._loop = Reconciler("deployment-controller", self.reconcile, workers=5, clock=ctx.clock)
        self._loop.watches(self._deployments)
        self._loop.watches(self._sets, owner_of_kind("Deployment"))
        self._loop.watches(self._sets, owners_of_orphan(self._deployments.store))
        self._loop.watches(self._pods, self._recreating)
        self.run = self._loop.run

    def _recreating(self, pod: Obj) -> Iterable[Request]:
        """Strategy Recreate waits for the last old pod to be gone, which no ReplicaSet's status tells."""
        owner = controller_of(pod)
        if owner is None or owner.get("kind") != "ReplicaSet":
            return ()
        replica_set = self._sets.store.get(owner["name"], namespace_of(pod))
        parent = controller_of(replica_set) if replica_set else None
        deployment = self._deployments.store.get(parent["name"], namespace_of(pod)) if parent else None
        return () if deployment is None or rollout.is_rolling(deployment) else (request_for(deployment),)

    async def reconcile(self, request: Request) -> float | None:
        """Take one step; see the module's docstring."""
        found = self._deployments.store.get(request.name, request.namespace)
        if found is None:
            return None
        deployment = dict(found)
        selector = selector_of(deployment)
        if selector.nothing:
            self._events.event(
                deployment, "Warning", "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required."
            )
            if observed_generation_of(deployment) < generation_of(deployment):
                await self._write_status(deployment, {**status_of(deployment), "observedGeneration": generation_of(deployment)})
            return None
        sets = await claim(self._client, DEPLOYMENTS, deployment, selector, REPLICA_SETS, self._sets.store)
        new = rollout.find_new(deployment, sets)
        old: Sequence[Obj] = [each for each in sets if each is not new]
        if is_deleting(deployment):
            return await self._conclude(deployment, new, old, rolled=False)
        new = await self._sync_new(deployment, new, old)
        paused = bool(spec_of(deployment).get("paused"))
        if paused or (rollout.is_rolling(deployment) and rollout.was_resized(deployment, sets)):
            new, old = await self._resize(deployment, rollout.scale(deployment, new, old), new, old)
            await self._drop_history(deployment, old, wanted=paused)
            return await self._conclude(deployment, new, old, rolled=False)
        had = new is not None
        step = self._roll if rollout.is_rolling(deployment) else self._recreate
        new, old = await step(deployment, new, old)
        complete = rollout_status.is_complete(deployment, rollout_status.numbers(deployment, _all(new, old), new))
        await self._drop_history(deployment, old, wanted=complete)
        return await self._conclude(deployment, new, old, rolled=True, made=not had)

    # -- the new ReplicaSet ----------------------------------------------------------------------------------------------------------

    async def _sync_new(self, deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> Obj | None:
        """Keep revision, annotations and minReadySeconds of the new ReplicaSet, if it is there."""
        if new is None:
            return None
        revision = max((rollout.revision_of(each) for each in old), default=0) + 1
        revision = max(revision, rollout.revision_of(new))
        annotations = rollout.revision_annotations(deployment, new, revision)
        min_ready = spec_of(deployment).get("minReadySeconds") or 0
        if annotations != annotations_of(new) or (spec_of(new).get("minReadySeconds") or 0) != min_ready:
            body = {
                "metadata": {"resourceVersion": resource_version_of(new), "uid": uid_of(new), "annotations": annotations},
                "spec": {"minReadySeconds": min_ready},
            }
            new = await self._client.patch(REPLICA_SETS, name_of(new), body, namespace_of(new))
        await self._show_revision(deployment, rollout.revision_of(new))
        return new

    async def _show_revision(self, deployment: Obj, revision: int) -> None:
        """In an annotation, written with the status: through the main door it would be a new generation."""
        annotations = annotations_of(deployment)
        if annotations.get(rollout.REVISION) == str(revision):
            return
        metadata = {**deployment["metadata"], "annotations": {**annotations, rollout.REVISION: str(revision)}}
        written = await self._client.update_status(DEPLOYMENTS, {**deployment, "metadata": metadata})
        deployment["metadata"] = written["metadata"]

    async def _make_new(self, deployment: Obj, old: Sequence[Obj]) -> Obj:
        """Create the ReplicaSet of the present template. Its name is taken: ours already, or a collision of the hash, which is counted."""
        count = status_of(deployment).get("collisionCount")
        hashed = template_hash(spec_of(deployment).get("template") or {}, count)
        revision = max((rollout.revision_of(each) for each in old), default=0) + 1
        body = rollout.new_replica_set(deployment, old, hashed, revision)
        body["metadata"]["ownerReferences"] = [make_controller_ref(deployment, "apps/v1", "Deployment")]
        name = name_of(body)
        try:
            made = await self._client.create(REPLICA_SETS, body, namespace_of(deployment))
        except ApiError as error:
            if is_already_exists(error):
                return await self._taken(deployment, name, count, error)
            if not is_namespace_terminating(error):
                await self._say_failed(deployment, name, old, error)
            raise
        if body["spec"]["replicas"]:
            self._say_scaled(deployment, name, 0, body["spec"]["replicas"])
        await self._show_revision(deployment, revision)
        return made

    async def _taken(self, deployment: Obj, name: str, count: int | None, error: ApiError) -> Obj:
        live = await self._client.get(REPLICA_SETS, name, namespace_of(deployment))
        template = spec_of(deployment).get("template") or {}
        if is_controlled_by(live, deployment) and rollout.same_template(spec_of(live).get("template") or {}, template):
            return live
        await self._write_status(deployment, {**status_of(deployment), "collisionCount": (count or 0) + 1})
        raise error

    async def _say_failed(self, deployment: Obj, name: str, old: Sequence[Obj], error: ApiError) -> None:
        message = f'Failed to create new replica set "{name}": {error.message}'
        status = rollout_status.numbers(deployment, old, None)
        now = self._ctx.clock.now()
        rollout_status.put(status["conditions"], "Progressing", "False", rollout_status.FAILED_CREATE, message, now)
        self._events.event(deployment, "Warning", rollout_status.FAILED_CREATE, message)
        if rollout_status.deadline_of(deployment) is not None and not same_status(status_of(deployment), status):
            await self._write_status(deployment, status)

    # -- steps -----------------------------------------------------------------------------------------------------------------------

    async def _roll(self, deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> tuple[Obj | None, Sequence[Obj]]:
        if new is None:
            return await self._make_new(deployment, old), old
        size = rollout.roll_up(deployment, _all(new, old), new)
        if size is not None:
            return await self._resize(deployment, {name_of(new): size}, new, old)
        return await self._resize(deployment, rollout.roll_down(deployment, _all(new, old), new, old), new, old)

    async def _recreate(self, deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> tuple[Obj | None, Sequence[Obj]]:
        sizes = {name_of(each): 0 for each in old if rollout.replicas_of(each) > 0}
        if sizes:
            return await self._resize(deployment, sizes, new, old)
        if any(not pods.is_terminal(pod) for each in old for pod in self._pods.store.by_index("controller", uid_of(each))):
            return new, old
        if new is None:
            return await self._make_new(deployment, old), old
        return await self._resize(deployment, {name_of(new): rollout.replicas_of(deployment)}, new, old)

    async def _resize(
        self, deployment: Obj, sizes: rollout.Sizes, new: Obj | None, old: Sequence[Obj]
    ) -> tuple[Obj | None, Sequence[Obj]]:
        """Write the sizes that differ; gives back the ReplicaSets as they are now."""
        now: dict[str, Obj] = {}
        remembered = rollout.size_annotations(deployment)
        for each in _all(new, old):
            size = sizes.get(name_of(each))
            before = rollout.replicas_of(each)
            if size is None or (size == before and remembered.items() <= annotations_of(each).items()):
                continue
            meta = {"uid": uid_of(each), "resourceVersion": resource_version_of(each), "annotations": remembered}
            body = {"metadata": meta, "spec": {"replicas": size}}
            now[name_of(each)] = await self._client.patch(REPLICA_SETS, name_of(each), body, namespace_of(each))
            if size != before:
                self._say_scaled(deployment, name_of(each), before, size)
        return (now.get(name_of(new), new) if new else None), [now.get(name_of(each), each) for each in old]

    def _say_scaled(self, deployment: Obj, name: str, before: int, after: int) -> None:
        way = "up" if after > before else "down"
        self._events.event(deployment, "Normal", "ScalingReplicaSet", f"Scaled {way} replica set {name} from {before} to {after}")

    async def _drop_history(self, deployment: Obj, old: Sequence[Obj], *, wanted: bool) -> None:
        if not wanted:
            return
        for each in rollout.history_to_drop(deployment, old):
            try:
                await self._client.delete(
                    REPLICA_SETS, name_of(each), namespace_of(each), uid=uid_of(each), resource_version=resource_version_of(each)
                )
            except ApiError as error:
                if not is_not_found(error):
                    raise

    # -- status ----------------------------------------------------------------------------------------------------------------------

    async def _conclude(
        self, deployment: Obj, new: Obj | None, old: Sequence[Obj], *, rolled: bool, made: bool = False
    ) -> float | None:
        now = self._ctx.clock.now()
        status = rollout_status.numbers(deployment, _all(new, old), new)
        rollout_status.set_availability(deployment, status, now)
        rollout_status.set_pause(deployment, status, now)
        if new is not None and rollout_status.deadline_of(deployment) is not None:
            name = name_of(new)
            if made:
                reason, message = rollout_status.NEW_CREATED, f'Created new replica set "{name}"'
                rollout_status.put(status["conditions"], "Progressing", "True", reason, message, now)
            elif not _has(status, "Progressing"):
                reason, message = rollout_status.FOUND_NEW, f'Found new replica set "{name}"'
                rollout_status.put(status["conditions"], "Progressing", "True", reason, message, now)
        if rolled:
            rollout_status.set_progress(deployment, status, new, now)
        rollout_status.set_failure(status, new, old, now)
        if not same_status(status_of(deployment), status):
            await self._write_status(deployment, status)
        return rollout_status.next_look(deployment, status, now) if rolled else None

    async def _write_status(self, deployment: Obj, status: Obj) -> None:
        await self._client.update_status(DEPLOYMENTS, {**deployment, "status": status})


def _all(new: Obj | None, old: Sequence[Obj]) -> list[Obj]:
    return [*old, *([new] if new is not None else [])]


def _has(status: Obj, kind: str) -> bool:
    return any(each.get("type") == kind for each in status["conditions"])


def deployment(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of Deployments."""
    return DeploymentController(ctx).run
