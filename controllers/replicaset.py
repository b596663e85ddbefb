"""ReplicaSet and ReplicationController: keep so many pods.

The two differ in how they spell their selector, in nothing else, so one class serves both. It counts active pods in the informer's copy; while that
copy does not show yet what was written last (:mod:`kubeling.client.expectations`) it only keeps the status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from kubeling.api import names, pods
from kubeling.api.errors import ApiError
from kubeling.api.meta import controller_of, is_deleting, name_of, spec_of, status_of, uid_of
from kubeling.api.resources import PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, Resource
from kubeling.client.controller import Reconciler, Request, owner_of_kind
from kubeling.client.expectations import Expectations
from kubeling.controllers import replicas_plan as plan
from kubeling.controllers.children import child_prefix, claim, owners_of_orphan, pod_from_template, selector_of
from kubeling.controllers.context import CHILD_INDEXERS, POD_INDEXERS, Context, Obj
from kubeling.controllers.pod_control import PodControl


class ReplicaController:
    """Reconciles one of the two kinds."""

    def __init__(self, ctx: Context, resource: Resource, component: str) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._resource = resource
        self._owners = ctx.informers.informer(resource, indexers=CHILD_INDEXERS)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._events = ctx.recorder(component)
        self._expected = Expectations(ctx.clock)
        self._pods.add_handler(self._expected.observe)
        self._control = PodControl(ctx.client, self._events, self._expected)
        self._loop = Reconciler(component, self.reconcile, workers=5, clock=ctx.clock)
        self._loop.watches(self._owners)
        self._loop.watches(self._pods, owner_of_kind(resource.kind))
        self._loop.watches(self._pods, owners_of_orphan(self._owners.store))
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Make or delete pods until there are as many as asked for, and keep the status."""
        key = f"{request.namespace}/{request.name}"
        owner = self._owners.store.get(request.name, request.namespace)
        if owner is None:
            self._expected.forget(key)
            return None
        waiting = self._expected.remaining(key)
        mine = await claim(self._client, self._resource, owner, selector_of(owner), PODS, self._pods.store)
        failure: tuple[str, str] | None = None
        error: Exception | None = None
        if not waiting and not is_deleting(owner):
            failure, error = await self._manage(key, owner, mine)
        now = self._ctx.clock.now()
        status = plan.new_status(owner, mine, failure, now)
        if not plan.same_status(status_of(owner), status):
            await self._client.update_status(self._resource, {**owner, "status": status})
        if error is not None:
            raise error
        return waiting or plan.next_look(owner, mine, now)

    async def _manage(self, key: str, owner: Obj, mine: Sequence[Obj]) -> tuple[tuple[str, str] | None, Exception | None]:
        """One step towards the number. Returns (reason, message) for the status and the error to retry for, where it failed."""
        active = [each for each in mine if pods.is_active(each)]
        missing = plan.difference(owner, active)
        try:
            if missing > 0:
                await self._control.create(key, owner, [self._new_pod(owner) for _ in range(missing)])
            elif missing < 0:
                victims = plan.choose_victims(active, self._related(owner), -missing, self._ctx.clock.now())
                await self._control.delete(key, owner, victims)
        except ApiError as error:
            return ("FailedCreate" if missing > 0 else "FailedDelete", error.message), error
        return None, None

    def _new_pod(self, owner: Obj) -> Obj:
        name = names.generate(child_prefix(name_of(owner)), self._ctx.random)
        return pod_from_template(spec_of(owner).get("template") or {}, owner, self._resource, name)

    def _related(self, owner: Obj) -> list[Obj]:
        """The pods of all owners that the same controller has: a Deployment's ReplicaSets are spread together."""
        parent = controller_of(owner)
        if parent is None:
            return self._pods.store.by_index("controller", uid_of(owner))
        siblings = self._owners.store.by_index("controller", parent.get("uid", ""))
        return [pod for each in siblings for pod in self._pods.store.by_index("controller", uid_of(each))]


def replicaset(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of ReplicaSets."""
    return ReplicaController(ctx, REPLICA_SETS, "replicaset-controller").run


def replicationcontroller(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of ReplicationControllers."""
    return ReplicaController(ctx, REPLICATION_CONTROLLERS, "replication-controller").run
