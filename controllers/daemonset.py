"""DaemonSet: one pod on every node that fits, followed by its template over the nodes as the update strategy allows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from kubeling.api import names, pods
from kubeling.api.meta import (
    generation_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    observed_generation_of,
    spec_of,
    status_of,
    uid_of,
)
from kubeling.api.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
from kubeling.client.controller import Reconciler, Request, owner_of_kind, request_for
from kubeling.client.expectations import Expectations
from kubeling.client.informer import Change
from kubeling.controllers import daemonset_plan as plan
from kubeling.controllers import revisions
from kubeling.controllers.children import child_prefix, claim, owners_of_orphan, selector_of
from kubeling.controllers.context import CHILD_INDEXERS, POD_INDEXERS, Context, Obj
from kubeling.controllers.pod_control import PodControl
from kubeling.controllers.replicas_plan import next_look, same_status
from kubeling.daemon.backoff import Backoff


class DaemonSetController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._sets = ctx.informers.informer(DAEMON_SETS)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._nodes = ctx.informers.informer(NODES)
        self._revisions = ctx.informers.informer(CONTROLLER_REVISIONS, indexers=CHILD_INDEXERS)
        self._events = ctx.recorder("daemonset-controller")
        self._expected = Expectations(ctx.clock)
        self._control = PodControl(ctx.client, self._events, self._expected)
        #: (DaemonSet's uid, node) → how long to wait before its failed pod is replaced, and until when.
        self._backoff: dict[tuple[str, str], tuple[Backoff, float]] = {}
        self._sets.add_handler(self._forget)
        self._pods.add_handler(self._expected.observe)
        self._nodes.add_handler(self._node_changed)
        self._loop = Reconciler("daemonset-controller", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._sets)
        self._loop.watches(self._pods, owner_of_kind("DaemonSet"))
        self._loop.watches(self._pods, owners_of_orphan(self._sets.store))
        self._loop.watches(self._revisions, owner_of_kind("DaemonSet"))
        self._loop.needs(self._nodes)
        self.run = self._loop.run

    def _node_changed(self, change: Change) -> None:
        """A node's heartbeat is no reason to look; its labels and taints are."""
        old, new = change.old, change.new
        if old and new and labels_of(old) == labels_of(new) and spec_of(old).get("taints") == spec_of(new).get("taints"):
            return
        for each in self._sets.store:
            self._loop.queue.add(request_for(each))

    def _forget(self, change: Change) -> None:
        if change.new is None:
            for place in [each for each in self._backoff if each[0] == uid_of(change.obj)]:
                del self._backoff[place]

    async def reconcile(self, request: Request) -> float | None:
        """Place, update, count."""
        key = f"{request.namespace}/{request.name}"
        daemon_set = self._sets.store.get(request.name, request.namespace)
        if daemon_set is None:
            self._expected.forget(key)
            return None
        selector = selector_of(daemon_set)
        if selector.nothing:
            self._events.event(
                daemon_set, "Warning", "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required."
            )
            return None
        if is_deleting(daemon_set):
            return None
        mine = await claim(self._client, DAEMON_SETS, daemon_set, selector, PODS, self._pods.store)
        kept = await claim(self._client, DAEMON_SETS, daemon_set, selector, CONTROLLER_REVISIONS, self._revisions.store)
        try:
            history = await revisions.sync(self._client, daemon_set, DAEMON_SETS, kept)
        except revisions.HashCollision:
            status = {**status_of(daemon_set), "collisionCount": int(status_of(daemon_set).get("collisionCount") or 0) + 1}
            await self._client.update_status(DAEMON_SETS, {**daemon_set, "status": status})
            return None
        by_node: dict[str, list[Obj]] = defaultdict(list)
        for pod in mine:
            by_node[plan.target_node(pod)].append(pod)
        nodes = list(self._nodes.store)
        waiting = self._expected.remaining(key)
        retry: float | None = None
        if not waiting:
            retry = await self._step(key, daemon_set, nodes, by_node, history)
        await revisions.drop(
            self._client,
            revisions.to_drop(
                history,
                (labels_of(each).get(revisions.HASH_LABEL, "") for each in mine),
                spec_of(daemon_set).get("revisionHistoryLimit"),
            ),
        )
        now = self._ctx.clock.now()
        status = plan.new_status(daemon_set, nodes, by_node, history.hash, now)
        if not same_status(status_of(daemon_set), status) or observed_generation_of(daemon_set) != generation_of(daemon_set):
            await self._client.update_status(DAEMON_SETS, {**daemon_set, "status": status})
        looks = [each for each in (waiting or None, retry, next_look(daemon_set, mine, now)) if each is not None]
        return min(looks, default=None)

    async def _step(
        self, key: str, daemon_set: Obj, nodes: Sequence[Obj], by_node: dict[str, list[Obj]], history: revisions.History
    ) -> float | None:
        now = self._ctx.clock.now()
        min_ready = spec_of(daemon_set).get("minReadySeconds") or 0

        def available(pod: Obj) -> bool:
            return pods.is_available(pod, min_ready, now)

        step = plan.place(daemon_set, nodes, by_node, history.hash, available)
        waits: list[float] = []
        for node, pod in step.failed:
            wait = self._wait_for(daemon_set, node)
            if wait > 0:
                waits.append(wait)
                continue
            ended = "failed" if pods.phase_of(pod) == "Failed" else "succeeded"
            message = f"Found {ended} daemon pod {namespace_of(pod)}/{name_of(pod)} on node {node}, will try to delete it"
            self._events.event(
                daemon_set, "Warning" if ended == "failed" else "Normal", f"{ended.capitalize()}DaemonPod", message
            )
            step.delete.append(pod)
        if plan.is_rolling(daemon_set) and not step.create and not step.delete:
            step.merge(plan.update(daemon_set, nodes, by_node, history.hash, available))
        await self._control.delete(key, daemon_set, step.delete[: plan.BURST])
        made = [self._new_pod(daemon_set, node, history.hash) for node in step.create[: plan.BURST]]
        await self._control.create(key, daemon_set, made)
        return min(waits, default=None)

    def _new_pod(self, daemon_set: Obj, node: str, hashed: str) -> Obj:
        name = names.generate(child_prefix(name_of(daemon_set)), self._ctx.random)
        return plan.daemon_pod(daemon_set, node, name, hashed)

    def _wait_for(self, daemon_set: Obj, node: str) -> float:
        """Seconds until a failed pod of that node may be replaced; each replacement doubles the next wait, up to 15 minutes."""
        place = (uid_of(daemon_set), node)
        now = self._ctx.clock.monotonic()
        backoff, until = self._backoff.get(place, (Backoff(base=1.0, limit=900.0), now))
        if now < until:
            return until - now
        self._backoff[place] = (backoff, now + backoff.next())
        return 0.0


def daemonset(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of DaemonSets."""
    return DaemonSetController(ctx).run
