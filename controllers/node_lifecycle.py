"""Node lifecycle: who has fallen silent, what its taints should be, and that its pods no longer get traffic.

A node lives as long as its Lease (or its status) keeps changing, measured by our own clock, so that clocks need not agree. A renewal only moves a
deadline; the node itself is looked at when the deadline comes. So an idle cluster costs one look per node in 40 seconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable

from kubeling.api.conditions import find_condition, get_condition
from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import copy_json, name_of, resource_version_of, spec_of, status_of, uid_of
from kubeling.api.resources import LEASES, NODES, PODS
from kubeling.api.times import format_time
from kubeling.client.batch import parallel
from kubeling.client.controller import Reconciler, Request
from kubeling.client.informer import Change
from kubeling.controllers import node_health as health
from kubeling.controllers.context import POD_INDEXERS, Context, Obj

LEASE_NAMESPACE = "kube-node-lease"


class NodeLifecycleController:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._nodes = ctx.informers.informer(NODES)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._leases = ctx.informers.informer(LEASES, namespace=LEASE_NAMESPACE)
        self._events = ctx.recorder("node-controller")
        #: Node → (what was last seen of it, when by our clock).
        self._seen: dict[str, tuple[object, float]] = {}
        #: The nodes that are not ready and not yet marked for eviction.
        self._waiting: set[str] = set()
        #: Zone → when the next of its nodes may be marked for eviction.
        self._next_eviction: dict[str, float] = defaultdict(float)
        self._loop = Reconciler("node-lifecycle-controller", self.reconcile, workers=4, clock=ctx.clock)
        self._loop.watches(self._nodes, self._affected)
        self._loop.needs(self._pods, self._leases)
        self._nodes.add_handler(self._note)
        self._leases.add_handler(self._note)
        self.run = self._loop.run

    def _note(self, change: Change) -> None:
        """A sign of life. A silent node's return is in its status, which wakes the reconcile anyway."""
        name = name_of(change.obj)
        self._waiting.discard(name)
        lease, node = self._leases.store.get(name, LEASE_NAMESPACE), self._nodes.store.get(name)
        if node is None and lease is None:
            self._seen.pop(name, None)
            return
        if node is not None and health.readiness(node) != "True" and not health.is_marked_for_eviction(node):
            self._waiting.add(name)
        ready = get_condition(node, "Ready") if node else None
        # Our own writes move neither of these.
        sign = ((lease or {}).get("spec", {}).get("renewTime"), (ready or {}).get("lastHeartbeatTime"))
        if name not in self._seen or self._seen[name][0] != sign:
            self._seen[name] = (sign, self._ctx.clock.monotonic())

    def _affected(self, node: Obj) -> Iterable[Request]:
        """The node; and all that wait for an eviction, since how fast they may go depends on all."""
        yield Request("", name_of(node))
        if health.readiness(node) == "True":
            yield from (Request("", name) for name in list(self._waiting))

    async def reconcile(self, request: Request) -> float | None:
        """Mark a silent node, keep its taints, and keep its pods out of Services while it is not ready."""
        node = self._nodes.store.get(request.name)
        if node is None:
            return None
        now = self._ctx.clock.now()
        left = self._seconds_left(node)
        if left <= 0:
            conditions = health.silence(node, now)
            if conditions is not None:
                node = await self._mark_silent(node, conditions)
        waits = [left] if left > 0 else []
        if health.readiness(node) != "True":
            await self._unready_pods(node)
        evict, wait = self._may_evict(node)
        if wait is not None:
            waits.append(wait)
        wanted = health.wanted_taints(node, now, evict=evict)
        if health.readiness(node) != "True" and health.all_lost(list(self._nodes.store)):
            wanted = [each for each in wanted if each.get("effect") != "NoExecute" or each.get("key") not in health.EVICTING]
        if wanted != (spec_of(node).get("taints") or []):
            meta = {"uid": uid_of(node), "resourceVersion": resource_version_of(node)}
            await self._client.patch(NODES, name_of(node), {"metadata": meta, "spec": {"taints": wanted or None}})
        return min(waits, default=None)

    def _seconds_left(self, node: Obj) -> float:
        """Until the node's silence has lasted too long; a node that never spoke has longer."""
        options = self._ctx.options
        spoke = get_condition(node, "Ready") is not None
        grace = options.node_monitor_grace_period if spoke else options.node_startup_grace_period
        _, at = self._seen.get(name_of(node), (None, self._ctx.clock.monotonic()))
        return at + grace - self._ctx.clock.monotonic()

    async def _mark_silent(self, node: Obj, conditions: list[Obj]) -> Obj:
        was_ready = health.readiness(node) == "True"
        written = await self._client.update_status(NODES, {**node, "status": {**status_of(node), "conditions": conditions}})
        if was_ready:
            self._events.event(written, "Normal", "NodeNotReady", f"Node {name_of(node)} status is now: NodeNotReady")
        return written

    def _may_evict(self, node: Obj) -> tuple[bool, float | None]:
        """Whether the node may be marked for eviction now, else the seconds until it may; None: when something changes."""
        if health.readiness(node) == "True" or get_condition(node, "Ready") is None or health.is_marked_for_eviction(node):
            return True, None
        nodes = [node if name_of(each) == name_of(node) else each for each in self._nodes.store]
        if health.all_lost(nodes):
            return False, None
        zone = health.zone_of(node)
        rate = health.eviction_rate([each for each in nodes if health.zone_of(each) == zone], self._ctx.options)
        if rate <= 0:
            return False, None
        now = self._ctx.clock.monotonic()
        if now < self._next_eviction[zone]:
            return False, self._next_eviction[zone] - now
        self._next_eviction[zone] = now + 1 / rate
        return True, None

    async def _unready_pods(self, node: Obj) -> None:
        """Say of each pod that turned ready before the node was lost that it is not: so its endpoints drop at once."""
        lost_at = (get_condition(node, "Ready") or {}).get("lastTransitionTime") or ""

        async def mark(pod: Obj) -> None:
            conditions = copy_json(status_of(pod).get("conditions") or [])
            ready = find_condition(conditions, "Ready")
            assert ready is not None
            ready |= {"status": "False", "lastTransitionTime": format_time(self._ctx.clock.now())}
            body = {**pod, "status": {**status_of(pod), "conditions": conditions}}
            try:
                await self._client.update_status(PODS, body)
            except ApiError as error:
                if is_not_found(error):
                    return
                raise
            self._events.event(pod, "Warning", "NodeNotReady", "Node is not ready")

        stale = []
        for pod in self._pods.store.by_index("node", name_of(node)):
            ready = get_condition(pod, "Ready")
            if ready is not None and ready.get("status") == "True" and (ready.get("lastTransitionTime") or "") <= lost_at:
                stale.append(pod)
        if stale:
            await parallel(stale, mark)


def nodelifecycle(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of nodes' health."""
    return NodeLifecycleController(ctx).run
