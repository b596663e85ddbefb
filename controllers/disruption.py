"""PodDisruptionBudget: how many pods may be evicted at this moment. The API's eviction subresource takes from that number; we refill it.

An eviction that was allowed is noted in `status.disruptedPods` until the pod is seen to go, for two minutes at most: so the copy that we count in may lag
without the budget being spent twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime

from kubeling.api import pods
from kubeling.api.conditions import set_condition
from kubeling.api.errors import is_not_found
from kubeling.api.intstr import is_percent, scaled
from kubeling.api.labels import from_selector
from kubeling.api.meta import (
    controller_of,
    copy_json,
    generation_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    spec_of,
    status_of,
)
from kubeling.api.resources import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
    Resource,
    by_kind,
)
from kubeling.api.times import seconds_between
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.controllers.context import CHILD_INDEXERS, POD_INDEXERS, Context, Obj
from kubeling.controllers.replicas_plan import same_status, wanted_replicas

DELETION_TIMEOUT = 120.0


class CannotCount(Exception):
    """It is not known how many pods there should be; the text goes into the condition."""


def new_status(budget: Obj, selected: Sequence[Obj], expected: int, now: datetime) -> tuple[Obj, float | None]:
    """The status, and the seconds until a noted eviction no longer counts."""
    spec, old = spec_of(budget), status_of(budget)
    desired = _desired(spec, expected)
    disrupted, look_again = _still_disrupted(old.get("disruptedPods") or {}, selected, now)
    healthy = sum(1 for each in selected if pods.is_ready(each) and not is_deleting(each) and name_of(each) not in disrupted)
    allowed = max(0, healthy - desired) if expected > 0 else 0
    conditions = copy_json(old.get("conditions") or [])
    status, reason = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    set_condition(conditions, "DisruptionAllowed", status, now, reason=reason, observedGeneration=generation_of(budget))
    for each in conditions:
        each.setdefault("message", "")  # Required in this type: typed clients do not take a condition without it.
    made: Obj = {
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": allowed,
        "observedGeneration": generation_of(budget),
        "conditions": conditions,
    }
    if disrupted:
        made["disruptedPods"] = disrupted
    return made, look_again


def _desired(spec: Obj, expected: int) -> int:
    if spec.get("maxUnavailable") is not None:
        return max(0, expected - scaled(spec["maxUnavailable"], expected, round_up=True))
    return scaled(spec.get("minAvailable"), expected, round_up=True)


def _still_disrupted(noted: dict[str, str], selected: Sequence[Obj], now: datetime) -> tuple[dict[str, str], float | None]:
    there = {name_of(each) for each in selected if not is_deleting(each)}
    kept = {name: stamp for name, stamp in noted.items() if name in there and seconds_between(stamp, now) < DELETION_TIMEOUT}
    waits = [DELETION_TIMEOUT - seconds_between(stamp, now) for stamp in kept.values()]
    return kept, min(waits, default=None)


def needs_scale(spec: Obj) -> bool:
    """Whether the number depends on how many pods there should be, not only on how many there are."""
    return spec.get("maxUnavailable") is not None or is_percent(spec.get("minAvailable"))


class DisruptionController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._budgets = ctx.informers.informer(POD_DISRUPTION_BUDGETS)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._owners = {
            each: ctx.informers.informer(each, indexers=CHILD_INDEXERS if each is REPLICA_SETS else None)
            for each in (DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS)
        }
        self._events = ctx.recorder("controllermanager")
        self._loop = Reconciler("disruption-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._budgets)
        self._loop.watches(self._pods, self._budgets_of)
        for informer in self._owners.values():
            self._loop.watches(informer, self._budgets_nearby)
        self.run = self._loop.run

    def _budgets_of(self, pod: Obj) -> Iterable[Request]:
        labels = labels_of(pod)
        found = self._budgets.store.in_namespace(namespace_of(pod))
        return [request_for(each) for each in found if from_selector(spec_of(each).get("selector")).matches(labels)]

    def _budgets_nearby(self, owner: Obj) -> Iterable[Request]:
        """The size of an owner matters to the budgets of its pods; its template says which those are."""
        template = (spec_of(owner).get("template") or {}).get("metadata") or {}
        return self._budgets_of({"metadata": {"namespace": namespace_of(owner), "labels": template.get("labels") or {}}})

    async def reconcile(self, request: Request) -> float | None:
        """Count, and write the status where it differs."""
        budget = self._budgets.store.get(request.name, request.namespace)
        if budget is None or is_deleting(budget):
            return None
        selector = from_selector(spec_of(budget).get("selector"))
        selected = [each for each in self._pods.store.in_namespace(request.namespace) if selector.matches(labels_of(each))]
        selected = [each for each in selected if not pods.is_terminal(each)]
        now = self._ctx.clock.now()
        try:
            expected = await self._expected(selected) if needs_scale(spec_of(budget)) else len(selected)
        except CannotCount as error:
            conditions = copy_json(status_of(budget).get("conditions") or [])
            set_condition(conditions, "DisruptionAllowed", "False", now, reason="SyncFailed", message=str(error))
            status: Obj = {
                **status_of(budget),
                "disruptionsAllowed": 0,
                "observedGeneration": generation_of(budget),
                "conditions": conditions,
            }
            look_again = None
            self._events.event(
                budget, "Warning", "CalculateExpectedPodCountFailed", f"Failed to calculate the number of expected pods: {error}"
            )
        else:
            status, look_again = new_status(budget, selected, expected, now)
        if not same_status(status_of(budget), status):
            await self._client.update_status(POD_DISRUPTION_BUDGETS, {**budget, "status": status})
        return look_again

    async def _expected(self, selected: Sequence[Obj]) -> int:
        """The sum of what the pods' owners were asked for. Pods without an owner do not count."""
        owners: dict[str, int] = {}
        for pod in selected:
            reference = controller_of(pod)
            if reference is not None and reference.get("uid", "") not in owners:
                uid, count = await self._replicas(namespace_of(pod), reference)
                owners[reference.get("uid", "")] = 0 if uid in owners else count
                owners.setdefault(uid, 0)
        return sum(owners.values())

    async def _replicas(self, namespace: str, reference: Obj) -> tuple[str, int]:
        """(uid, replicas) of the topmost owner that has a size."""
        resource = by_kind(reference.get("apiVersion", ""), reference.get("kind", ""))
        if resource in self._owners:
            owner = self._owners[resource].store.get(reference["name"], namespace)
            if owner is None:
                raise CannotCount(f"{reference['kind']} {namespace}/{reference['name']} is not there")
            parent = controller_of(owner)
            if resource is REPLICA_SETS and parent is not None:
                return await self._replicas(namespace, parent)
            return str(reference.get("uid", "")), wanted_replicas(owner)
        return await self._from_scale(resource, namespace, reference)

    async def _from_scale(self, resource: Resource | None, namespace: str, reference: Obj) -> tuple[str, int]:
        words = f"{reference.get('kind')} {namespace}/{reference['name']} does not implement the scale subresource"
        if resource is None:
            raise CannotCount(words)
        try:
            scale = await self._client.get(resource, reference["name"], namespace, subresource="scale")
        except Exception as error:
            if is_not_found(error):
                raise CannotCount(words) from error
            raise
        return str(reference.get("uid", "")), int(spec_of(scale).get("replicas") or 0)


def disruption(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of PodDisruptionBudgets."""
    return DisruptionController(ctx).run
