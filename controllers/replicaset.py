"""ReplicaSet and ReplicationController: keep so many pods.

The two differ in how they spell their selector, in nothing else, so one class serves both. It counts active pods in the informer's copy; while that
copy does not show yet what was written last (:mod:`kubeling.client.expectations`) it only keeps the status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from kubeling.api import names, pods
from kubeling.api.errors import ApiError, is_namespace_terminating, is_not_found
from kubeling.api.labels import NOTHING, Selector, from_labels, from_selector
from kubeling.api.meta import controller_of, is_deleting, labels_of, name_of, namespace_of, spec_of, status_of, uid_of
from kubeling.api.resources import PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, Resource
from kubeling.client.batch import parallel, slow_start
from kubeling.client.controller import Reconciler, Request, owner_of_kind, request_for
from kubeling.client.expectations import Expectations
from kubeling.controllers import replicas_plan as plan
from kubeling.controllers.children import child_prefix, claim, pod_from_template
from kubeling.controllers.context import CHILD_INDEXERS, POD_INDEXERS, Context, Obj


def selector_of(owner: Obj) -> Selector:
    """The selector of either kind; one that selects everything selects nothing, as the API refuses it."""
    found = spec_of(owner).get("selector")
    if not found:
        return NOTHING
    selector = from_selector(found) if "matchLabels" in found or "matchExpressions" in found else from_labels(found)
    return NOTHING if selector.everything else selector


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
        self._loop = Reconciler(component, self.reconcile, workers=5, clock=ctx.clock)
        self._loop.watches(self._owners)
        self._loop.watches(self._pods, owner_of_kind(resource.kind))
        self._loop.watches(self._pods, self._owners_of_orphan)
        self.run = self._loop.run

    def _owners_of_orphan(self, pod: Obj) -> Iterable[Request]:
        if controller_of(pod) is not None or is_deleting(pod):
            return ()
        return [
            request_for(owner)
            for owner in self._owners.store.in_namespace(namespace_of(pod))
            if selector_of(owner).matches(labels_of(pod))
        ]

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
                await self._create(key, owner, missing)
            elif missing < 0:
                victims = plan.choose_victims(active, self._related(owner), -missing, self._ctx.clock.now())
                await self._delete(key, owner, victims)
        except ApiError as error:
            if is_namespace_terminating(error):
                return None, None
            return ("FailedCreate" if missing > 0 else "FailedDelete", error.message), error
        return None, None

    async def _create(self, key: str, owner: Obj, count: int) -> None:
        prefix = child_prefix(name_of(owner))
        fresh = [names.generate(prefix, self._ctx.random) for _ in range(count)]

        async def create(name: str) -> None:
            child = f"{namespace_of(owner)}/{name}"
            self._expected.creating(key, child)
            try:
                body = pod_from_template(spec_of(owner).get("template") or {}, owner, self._resource, name)
                await self._client.create(PODS, body, namespace_of(owner))
            except Exception as error:
                # Where the outcome is unknown too: a pod too many is deleted again, a pod too few would be missed for long.
                self._expected.settled(child)
                if isinstance(error, ApiError) and not is_namespace_terminating(error):
                    self._events.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
                raise
            self._events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {name}")

        _, error = await slow_start(fresh, create)
        if error is not None:
            raise error

    async def _delete(self, key: str, owner: Obj, victims: Sequence[Obj]) -> None:
        for pod in victims:
            self._expected.deleting(key, uid_of(pod))

        async def delete(pod: Obj) -> None:
            try:
                await self._client.delete(PODS, name_of(pod), namespace_of(pod), uid=uid_of(pod))
            except ApiError as error:
                self._expected.settled(uid_of(pod))
                if not is_not_found(error):
                    self._events.event(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
                    raise
                return
            except Exception:
                self._expected.settled(uid_of(pod))
                raise
            self._events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")

        await parallel(victims, delete)

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
