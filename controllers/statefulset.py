"""StatefulSet: pods with names, volumes and an order. The decisions are in :mod:`kubeling.controllers.statefulset_plan`.

A pod's name follows from its ordinal, so there is never a second one of the same identity, however stale our copy and however many controllers: the
API refuses a name that is taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from kubeling.api.errors import ApiError, is_already_exists, is_namespace_terminating, is_not_found
from kubeling.api.meta import (
    copy_json,
    is_deleting,
    name_of,
    namespace_of,
    resource_version_of,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.owner import make_owner_reference
from kubeling.api.resources import CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from kubeling.client.batch import parallel
from kubeling.client.controller import Reconciler, Request, owner_of_kind
from kubeling.controllers import revisions
from kubeling.controllers import statefulset_plan as plan
from kubeling.controllers.children import claim, owners_of_orphan, selector_of
from kubeling.controllers.context import CHILD_INDEXERS, POD_INDEXERS, Context, Obj
from kubeling.controllers.replicas_plan import same_status


class StatefulSetController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._sets = ctx.informers.informer(STATEFUL_SETS)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._revisions = ctx.informers.informer(CONTROLLER_REVISIONS, indexers=CHILD_INDEXERS)
        self._claims = ctx.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._events = ctx.recorder("statefulset-controller")
        self._loop = Reconciler("statefulset-controller", self.reconcile, workers=5, clock=ctx.clock)
        self._loop.watches(self._sets)
        self._loop.watches(self._pods, owner_of_kind("StatefulSet"))
        self._loop.watches(self._pods, owners_of_orphan(self._sets.store))
        self._loop.watches(self._revisions, owner_of_kind("StatefulSet"))
        self._loop.needs(self._claims)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Take one step, write the status, drop what is left of old revisions."""
        found = self._sets.store.get(request.name, request.namespace)
        if found is None or selector_of(found).nothing:
            return None
        stateful_set, selector = found, selector_of(found)

        def member(pod: Obj) -> bool:
            return plan.ordinal_of(stateful_set, pod) is not None

        mine = await claim(self._client, STATEFUL_SETS, stateful_set, selector, PODS, self._pods.store, member=member)
        kept = await claim(self._client, STATEFUL_SETS, stateful_set, selector, CONTROLLER_REVISIONS, self._revisions.store)
        try:
            history = await revisions.sync(self._client, stateful_set, STATEFUL_SETS, kept)
        except revisions.HashCollision:
            status = {**status_of(stateful_set), "collisionCount": int(status_of(stateful_set).get("collisionCount") or 0) + 1}
            await self._client.update_status(STATEFUL_SETS, {**stateful_set, "status": status})
            return None
        update = history.current
        by_name = {name_of(each): each for each in [*history.old, update]}
        current = by_name.get(status_of(stateful_set).get("currentRevision") or "", update)
        step = plan.plan(stateful_set, mine, name_of(current), name_of(update), self._ctx.clock.now())
        if not same_status(status_of(stateful_set), step.status):
            stateful_set = await self._client.update_status(STATEFUL_SETS, {**stateful_set, "status": step.status})
        gone = {uid_of(each) for each in step.condemned}
        for pod in mine if spec_of(stateful_set).get("volumeClaimTemplates") else ():
            if uid_of(pod) in gone:
                await self._keep_claims(stateful_set, pod, condemned=True)
            elif not is_deleting(pod):
                await self._keep_claims(stateful_set, pod)
        await self._delete(stateful_set, [*step.delete, *step.condemned])
        await parallel(step.create, lambda each: self._create(stateful_set, each[0], update if each[1] else current))
        used = {*map(plan.revision_of, mine), name_of(current), name_of(update)}
        await revisions.drop(self._client, revisions.to_drop(history, used, spec_of(stateful_set).get("revisionHistoryLimit")))
        return step.look_again

    async def _create(self, stateful_set: Obj, ordinal: int, revision: Obj) -> None:
        template = copy_json(revision["data"]["spec"]["template"])
        template.pop("$patch", None)
        pod = plan.stateful_pod(stateful_set, template, name_of(revision), ordinal)
        words = f"Pod {name_of(pod)} in StatefulSet {name_of(stateful_set)}"
        try:
            for each in plan.claims(stateful_set, ordinal):
                await self._ensure_claim(stateful_set, each, words)
            await self._client.create(PODS, pod, namespace_of(stateful_set))
        except ApiError as error:
            if is_namespace_terminating(error):
                return
            if not is_already_exists(error):
                self._events.event(stateful_set, "Warning", "FailedCreate", f"create {words} failed error: {error.message}")
            raise
        self._events.event(stateful_set, "Normal", "SuccessfulCreate", f"create {words} successful")

    async def _ensure_claim(self, stateful_set: Obj, body: Obj, words: str) -> None:
        policy = spec_of(stateful_set).get("persistentVolumeClaimRetentionPolicy") or {}
        if policy.get("whenDeleted") == "Delete":
            body["metadata"]["ownerReferences"] = [make_owner_reference(stateful_set, "apps/v1", "StatefulSet")]
        try:
            await self._client.get(PERSISTENT_VOLUME_CLAIMS, name_of(body), namespace_of(body))
        except ApiError as error:
            if not is_not_found(error):
                raise
        else:
            return
        try:
            await self._client.create(PERSISTENT_VOLUME_CLAIMS, body, namespace_of(body))
        except ApiError as error:
            if not is_already_exists(error):
                raise
        else:
            self._events.event(stateful_set, "Normal", "SuccessfulCreate", f"create Claim {name_of(body)} {words} success")

    async def _keep_claims(self, stateful_set: Obj, pod: Obj, *, condemned: bool = False) -> None:
        """Make the claims of a pod those of whom the retention policy says, by compare-and-set. Before a pod goes for good the live ones are looked at."""
        ordinal = plan.ordinal_of(stateful_set, pod)
        for body in plan.claims(stateful_set, ordinal) if ordinal is not None else ():
            claim = self._claims.store.get(name_of(body), namespace_of(body))
            try:
                if condemned:
                    claim = await self._client.get(PERSISTENT_VOLUME_CLAIMS, name_of(body), namespace_of(body))
                owners = plan.claim_owners(stateful_set, pod, claim, condemned=condemned) if claim is not None else None
                if claim is not None and owners is not None:
                    meta = {
                        "uid": uid_of(claim),
                        "resourceVersion": resource_version_of(claim),
                        "ownerReferences": owners or None,
                    }
                    await self._client.patch(PERSISTENT_VOLUME_CLAIMS, name_of(claim), {"metadata": meta}, namespace_of(claim))
            except ApiError as error:
                if not is_not_found(error):
                    raise

    async def _delete(self, stateful_set: Obj, victims: Sequence[Obj]) -> None:
        for pod in victims:
            try:
                await self._client.delete(PODS, name_of(pod), namespace_of(pod), uid=uid_of(pod))
            except ApiError as error:
                if not is_not_found(error):
                    raise
                continue
            words = f"delete Pod {name_of(pod)} in StatefulSet {name_of(stateful_set)} successful"
            self._events.event(stateful_set, "Normal", "SuccessfulDelete", words)


def statefulset(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of StatefulSets."""
    return StatefulSetController(ctx).run
