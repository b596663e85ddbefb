"""The loop: look at everything, do the next step, wait for a change.

It looks again when a pod, a node, a budget or a machine has changed in a way that counts, and when a time has come that it waits for; with nothing to wait
for it sleeps. A look never remembers what the one before decided. What has to outlive it stands elsewhere: since when a node is unneeded, and that it is to
go, are taints of the node; how many machines there are to be, and when each was made, the cloud knows. So a second autoscaler beside it, or the next one
after a crash, sees the same and does no harm: groups grow by compare-and-set, nodes are marked by compare-and-set, machines are removed by their own identity.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kubeling.api import pods as podlib
from kubeling.api.errors import ApiError
from kubeling.api.meta import generation_of, name_of, namespace_of, resource_version_of, status_of, uid_of
from kubeling.api.resources import DAEMON_SETS, NODES, POD_DISRUPTION_BUDGETS, PODS
from kubeling.api.taints import PREFER_NO_SCHEDULE
from kubeling.client.events import EventRecorder
from kubeling.client.informer import Change, InformerFactory
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.cloud.autoscaler import metrics, nodes, scale_down, scale_up, status
from kubeling.cloud.autoscaler.drain import Aborted, Drain
from kubeling.cloud.autoscaler.expander import Option
from kubeling.cloud.autoscaler.picture import FRESH_SECONDS, Picture, age, is_waiting
from kubeling.cloud.autoscaler.scale_down import ScaleDown, Unneeded
from kubeling.cloud.autoscaler.settings import Settings
from kubeling.cloud.autoscaler.simulator import SimulationFailed, Simulator, scheduler_of
from kubeling.cloud.patience import Patience
from kubeling.cloud.provider import NodeGroup, NodeGroups, Obj, Outdated, ProviderError
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor, run_until

log = get_logger("cluster-autoscaler")


def _by_node(pod: Obj) -> Iterable[str]:
    node = podlib.node_of(pod)
    return (node,) if node else ()


@dataclass(slots=True)
class _Wait:
    """A group that failed: until when it is left alone (monotonic), and how long the next time."""

    backoff: Backoff
    until: float = 0.0


@dataclass(slots=True)
class _Times:
    """What was last when (monotonic), and the earliest moment at which to look again without being woken."""

    deleted: float = float("-inf")
    failed: float = float("-inf")
    next: float = field(default=float("inf"))


class Autoscaler:
    """See the module's docstring. `rand` decides among equals."""

    def __init__(
        self,
        client: Client,
        informers: InformerFactory,
        events: EventRecorder,
        groups: NodeGroups,
        simulator: Simulator,
        settings: Settings,
        clock: Clock,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._client, self._events, self._groups, self._simulator = client, events, groups, simulator
        self._settings, self._clock, self._rand = settings, clock, rand
        self._pods = informers.informer(PODS, indexers={"node": _by_node})
        self._nodes = informers.informer(NODES)
        self._budgets = informers.informer(POD_DISRUPTION_BUDGETS)
        self._daemon_sets = informers.informer(DAEMON_SETS)
        self._wake = asyncio.Event()
        self._pod_news = asyncio.Event()
        self._pods.add_handler(self._pod_changed)
        self._nodes.add_handler(self._node_changed)
        self._budgets.add_handler(
            lambda change: self._when(change, lambda each: (each["spec"], status_of(each).get("disruptionsAllowed")))
        )
        self._daemon_sets.add_handler(lambda change: self._when(change, generation_of))
        self._waits: dict[str, _Wait] = {}
        self._times = _Times()
        self._going: dict[str, asyncio.Task[None]] = {}
        self._said: dict[str, str] = {}
        self._patience = Patience(limit=30.0)
        self._status = status.StatusWriter(client)
        self._drain = Drain(
            client, events, groups, settings, clock, self._still_fits, self._budgets.store.in_namespace, lambda: self._pod_news
        )
        self._parts: Supervisor | None = None

    # -- what wakes it -------------------------------------------------------------------------------------------------------------

    def news(self) -> None:
        """The cloud's machines have changed."""
        self._wake.set()

    def _when(self, change: Change, view: Callable[[Obj], object]) -> None:
        if change.old is None or change.new is None or view(change.old) != view(change.new):
            self._wake.set()

    def _node_changed(self, change: Change) -> None:
        self._when(change, nodes.fingerprint)

    def _pod_changed(self, change: Change) -> None:
        self._pod_news.set()
        self._pod_news = asyncio.Event()
        waits = is_waiting(change.obj, self._settings)
        if change.old is None:
            # One that has just been made is of interest when the scheduler has given up on it.
            if waits or podlib.node_of(change.obj):
                self._wake.set()
        elif waits or change.new is None or _pod_view(change.old) != _pod_view(change.new):
            self._wake.set()

    # -- the loop ------------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look, act, wait, until cancelled."""
        for informer in (self._pods, self._nodes, self._budgets, self._daemon_sets):
            await informer.synced.wait()
        async with Supervisor(self._clock) as parts:
            self._parts = parts
            while True:
                self._wake.clear()
                self._times.next = float("inf")
                with metrics.timed("main", "main"):
                    await self._attempt()
                await self._clock.sleep(self._settings.scan_interval)
                await self._rest()

    async def _attempt(self) -> None:
        """One look. What fails is tried again, later each time."""
        try:
            await self.look()
        except (ProviderError, SimulationFailed, ApiError, ConnectionFailed) as error:
            kind = "cloudProviderError" if isinstance(error, ProviderError) else "apiCallError"
            delay = self._patience.later("look", error if isinstance(error, ProviderError) else None)
            self._again(delay)
            if not isinstance(error, Outdated) and not (isinstance(error, ApiError) and error.code == 409):
                metrics.error(kind)
                metrics.safe(not isinstance(error, ProviderError | SimulationFailed))
                log.warning("could not look at everything", error=str(error), again_in=round(delay, 1))
        else:
            self._patience.done("look")
            metrics.safe(True)

    def _again(self, seconds: float) -> None:
        """Look again by then at the latest."""
        self._times.next = min(self._times.next, self._clock.monotonic() + max(0.0, seconds))

    async def _rest(self) -> None:
        """Until something changes or a time has come."""
        left = self._times.next - self._clock.monotonic()
        if left == float("inf"):
            await self._wake.wait()
        else:
            await run_until(self._wake, self._clock.sleep(max(0.0, left)))

    async def look(self) -> None:
        """One step: what is missing first, then pods that wait, then what is too much."""
        picture = self._picture(tuple(await self._patience.call(self._groups.list())))
        self._measure(picture)
        for group, machine in picture.lost(self._settings):
            log.warning("a machine never became a node and is given back", machine=machine.provider_id)
            metrics.failed_scale_up("timeout")
            self._leave_alone(group)
            await self._patience.call(self._groups.remove(group.name, machine))
        for _, machine in picture.upcoming(self._settings):
            self._again(machine.created + self._settings.max_node_provision - picture.now)
        if await self._to_minimum(picture):
            return
        grew, coming = await self._scale_up(picture)
        found = ScaleDown()
        if self._settings.scale_down and not grew:
            with metrics.timed("scaleDown:findUnneeded", "scaleDown"):
                found = await scale_down.plan(picture, self._simulator, self._settings, frozenset(self._going))
                await self._mark(picture, found)
                self._resume(picture)
                if not coming:
                    self._scale_down(picture, found)
        counts: dict[str, int] = {}
        for each in found.unneeded:
            counts[each.group.name] = counts.get(each.group.name, 0) + 1
        await self._status.write(status.report(picture, self._settings, self._is_left_alone, counts), picture.now)

    def _picture(self, groups: tuple[NodeGroup, ...]) -> Picture:
        now = self._clock.now().timestamp()
        budgets: dict[str, list[Obj]] = {}
        for each in self._budgets.store:
            budgets.setdefault(namespace_of(each), []).append(each)
        waiting = []
        for pod in self._pods.store:
            if is_waiting(pod, self._settings):
                if age(pod, now) >= self._settings.new_pod_delay:
                    waiting.append(pod)
                else:
                    self._again(self._settings.new_pod_delay - age(pod, now))
        by_node = {name_of(node): self._pods.store.by_index("node", name_of(node)) for node in self._nodes.store}
        there = {name_of(node): node for node in self._nodes.store}
        return Picture(now, groups, there, by_node, tuple(waiting), budgets, tuple(self._daemon_sets.store))

    def _measure(self, picture: Picture) -> None:
        ready = sum(1 for each in picture.nodes.values() if nodes.is_ready(each))
        coming = len(picture.upcoming(self._settings))
        metrics.counts(
            {"ready": ready, "unready": len(picture.nodes) - ready, "notStarted": coming},
            len(picture.groups),
            len(picture.waiting),
        )
        for group in picture.groups:
            metrics.group(group.name, group.minimum, group.maximum, group.size, self._is_left_alone(group))

    # -- more ----------------------------------------------------------------------------------------------------------------------

    def _is_left_alone(self, group: NodeGroup) -> bool:
        wait = self._waits.get(group.name)
        return wait is not None and self._clock.monotonic() < wait.until

    def _leave_alone(self, group: NodeGroup) -> None:
        """Its cloud failed: others are tried meanwhile."""
        settings = self._settings
        wait = self._waits.setdefault(group.name, _Wait(Backoff(base=settings.backoff_initial, limit=settings.backoff_max)))
        delay = wait.backoff.next()
        wait.until = self._clock.monotonic() + delay
        self._again(delay)

    async def _to_minimum(self, picture: Picture) -> bool:
        """Bring groups up to their smallest size; True where one was."""
        for group in picture.groups:
            if self._settings.enforce_min_size and group.size < group.minimum and not self._is_left_alone(group):
                return await self._grow(Option(group, group.minimum - group.size, (), group.template))
        return False

    async def _scale_up(self, picture: Picture) -> tuple[bool, bool]:
        """(whether a group grew, whether pods only wait for what is there or coming)"""
        coming = False
        schedulers = sorted({scheduler_of(pod) for pod in picture.waiting})
        with metrics.timed("scaleUp", "scaleUp"):
            for name in schedulers:
                pods = [pod for pod in picture.waiting if scheduler_of(pod) == name]
                found = await scale_up.plan(picture, pods, self._simulator, self._settings, self._is_left_alone, self._rand)
                coming = coming or found.coming
                self._tell(found.hopeless)
                if found.chosen is not None:
                    return await self._grow(found.chosen), coming
        known = {uid_of(pod) for pod in picture.waiting}
        self._said = {uid: text for uid, text in self._said.items() if uid in known}
        if picture.waiting:
            # What has just come is described by us for a while; after that the scheduler's own view of it counts.
            ages = [picture.now - machine.created for group in picture.groups for machine in group.machines]
            self._again(min((FRESH_SECONDS - each for each in ages if each < FRESH_SECONDS), default=float("inf")))
        return False, coming

    def _tell(self, hopeless: list[tuple[Obj, dict[str, int]]]) -> None:
        """Say it once for each reason."""
        for pod, reasons in hopeless:
            text = scale_up.refusal(reasons)
            if self._said.get(uid_of(pod)) != text:
                self._said[uid_of(pod)] = text
                self._events.event(pod, "Normal", "NotTriggerScaleUp", text)

    async def _grow(self, option: Option) -> bool:
        """Ask the cloud for more machines."""
        group, size = option.group, option.group.size + option.count
        self._again(0.0)
        try:
            await self._patience.call(self._groups.grow(group.name, group.size, size))
        except Outdated:
            return True  # Somebody else did: look again.
        except ProviderError as error:
            log.warning("the cloud gives no machines", group=group.name, error=str(error))
            metrics.failed_scale_up("cloudProviderError")
            self._leave_alone(group)
            for pod in option.pods:
                self._events.event(pod, "Warning", "FailedScaleUp", f"failed to scale up group {group.name}: {error}")
            return True
        self._waits.pop(group.name, None)
        metrics.scaled_up(option.count)
        log.info("a group grows", group=group.name, size=size, maximum=group.maximum, pods=len(option.pods))
        for pod in option.pods:
            self._events.event(pod, "Normal", "TriggeredScaleUp", scale_up.events(option))
        return True

    # -- less ----------------------------------------------------------------------------------------------------------------------

    async def _mark(self, picture: Picture, found: ScaleDown) -> None:
        """Write on each node since when it is unneeded, and take that off where it is needed."""
        unneeded = {each.name for each in found.unneeded}
        for name in (*unneeded, *found.needed):
            node = picture.nodes[name]
            since = nodes.mark_of(node, nodes.CANDIDATE)
            if (since is not None) == (name in unneeded) or nodes.mark_of(node, nodes.TO_BE_DELETED) is not None:
                continue
            taints = nodes.marked(node, nodes.CANDIDATE, PREFER_NO_SCHEDULE, picture.now if name in unneeded else None)
            meta = {"uid": uid_of(node), "resourceVersion": resource_version_of(node)}
            try:
                await self._client.patch(NODES, name, {"metadata": meta, "spec": {"taints": taints or None}})
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
                self._again(0.0)
        reasons: dict[str, int] = {}
        for text in found.needed.values():
            reason = text.partition(":")[0]
            reasons[reason] = reasons.get(reason, 0) + 1
        metrics.removable(len(unneeded), reasons)

    def _resume(self, picture: Picture) -> None:
        """What somebody has begun to take away and left: go on."""
        for name, (group, machine) in nodes.groups_by_node(picture.groups, picture.nodes).items():
            node = picture.nodes[name]
            if name not in self._going and nodes.mark_of(node, nodes.TO_BE_DELETED) is not None:
                self._take_away(Unneeded(node, group, machine, ready=nodes.is_ready(node)))

    def _scale_down(self, picture: Picture, found: ScaleDown) -> None:
        """Begin with what has been unneeded for long enough: the empty ones at once, those with pods a few at a time."""
        now, settings = self._clock.monotonic(), self._settings
        added = max((machine.created for group in picture.groups for machine in group.machines), default=0.0)
        rest = max(
            added + settings.delay_after_add - picture.now,
            self._times.deleted + settings.delay_after_delete - now,
            self._times.failed + settings.delay_after_failure - now,
        )
        if found.unneeded and rest > 0:
            self._again(rest)
            return
        draining = sum(1 for each in self._going if picture.pods_on(each))
        empty = 0
        for each in found.unneeded:
            since = nodes.mark_of(each.node, nodes.CANDIDATE)
            if since is None:
                continue  # It was marked just now; the change wakes us.
            left = since + (settings.unneeded if each.ready else settings.unready) - picture.now
            if left > 0:
                self._again(left)
            elif each.movable and draining < settings.max_drain_parallelism:
                draining += 1
                self._take_away(each)
            elif not each.movable and empty < settings.max_empty_bulk_delete:
                empty += 1
                self._take_away(each)

    def _take_away(self, which: Unneeded) -> None:
        assert self._parts is not None
        self._going[which.name] = self._parts.spawn(self._take(which), f"take away {which.name}")

    async def _take(self, which: Unneeded) -> None:
        try:
            await self._drain.run(which)
            self._times.deleted = self._clock.monotonic()
        except (Aborted, ProviderError, SimulationFailed, ApiError, ConnectionFailed) as error:
            if isinstance(error, ApiError) and error.code == 409:
                return  # The node has changed since it was judged: look again.
            self._times.failed = self._clock.monotonic()
            metrics.error("cloudProviderError" if isinstance(error, ProviderError) else "apiCallError")
            log.warning("a node could not be taken away", node=which.name, error=str(error))
            self._events.event(which.node, "Warning", "ScaleDownFailed", f"failed to delete the node: {error}")
        finally:
            self._going.pop(which.name, None)
            self._wake.set()

    async def _still_fits(self, which: Unneeded) -> bool:
        picture = self._picture(())
        others = frozenset(self._going) - {which.name}
        return await scale_down.fits(picture, self._simulator, self._settings, [which], others)


def _pod_view(pod: Obj) -> tuple[object, ...]:
    """What of a pod that has a node makes a difference."""
    return (podlib.node_of(pod), podlib.is_terminal(pod), pod["metadata"].get("annotations"), pod["metadata"].get("labels"))
