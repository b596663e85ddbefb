"""Taking one node away: mark it, look again, move its pods, give the machine back.

Each step can be repeated, and what has been done so far stands on the node: the taint `ToBeDeletedByClusterAutoscaler` keeps new pods away, and whoever leads
next finds it and goes on from there, or takes it off again where the node is needed after all. Before the taint, the judgement may rest on copies that are
behind; after it the live pods are read and everything is judged again, and once more before the machine goes. Pods go by eviction, so that their budgets
decide when. A machine that the cloud has taken back is no longer there to be drained; its Node goes by the node lifecycle controller.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from kubeling.api.errors import ApiError
from kubeling.api.meta import is_deleting, name_of, namespace_of, resource_version_of, uid_of
from kubeling.api.pods import grace_period_of, is_active, is_mirror, is_terminal
from kubeling.api.resources import NODES, PODS
from kubeling.api.taints import NO_SCHEDULE
from kubeling.client.events import EventRecorder
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.cloud.autoscaler import metrics, nodes, removable
from kubeling.cloud.autoscaler.daemons import is_daemon, stays
from kubeling.cloud.autoscaler.scale_down import Unneeded
from kubeling.cloud.autoscaler.settings import Settings
from kubeling.cloud.patience import Patience
from kubeling.cloud.provider import NodeGroups, Obj
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import run_until

log = get_logger("cluster-autoscaler")

#: How often the pods of a node are looked at again at least while they end (seconds); changes are noticed at once.
_LOOK_SECONDS = 5.0
#: How long it is tried to take a mark off before that is left to the next look, or the next leader.
UNMARK_SECONDS = 10.0


class Aborted(Exception):
    """The node stays; the text says why."""


class Drain:
    """Takes nodes away. `fits` says whether pods find a place elsewhere; `pod_news` gives what is set at the next change of a pod."""

    def __init__(
        self,
        client: Client,
        events: EventRecorder,
        groups: NodeGroups,
        settings: Settings,
        clock: Clock,
        fits: Callable[[Unneeded], Awaitable[bool]],
        budgets: removable.Budgets,
        pod_news: Callable[[], asyncio.Event],
    ) -> None:
        self._client, self._events, self._groups, self._settings, self._clock = client, events, groups, settings, clock
        self._fits, self._budgets, self._pod_news = fits, budgets, pod_news
        self._patience = Patience()

    async def run(self, which: Unneeded) -> None:
        """Take the node away. Aborted where it has to stay (the mark is off again then); ProviderError where the cloud refuses."""
        node = which.node
        if nodes.mark_of(node, nodes.TO_BE_DELETED) is None:
            node = await self._mark(node, self._clock.now().timestamp())
            log.info("a node is to go", node=which.name, group=which.group.name, pods=len(which.movable))
        try:
            if not nodes.may_go(node):
                raise Aborted("ScaleDownDisabledAnnotation")
            if which.ready:
                moved = await self._empty(replace(which, node=node))
                if moved and self._settings.evict_daemons:
                    await self._end_daemons(which.name)
            await self._patience.call(self._groups.remove(which.group.name, which.machine))
        except BaseException:
            # Also where we are cancelled: the next leader decides anew. Where that is not to be had, as after a crash, the next leader finds the mark.
            await asyncio.shield(self._unmark(which.name, uid_of(node)))
            raise
        self._events.event(node, "Normal", "ScaleDown", "node removed by cluster autoscaler")
        metrics.scaled_down("unready" if not which.ready else "underutilized" if which.movable else "empty")
        log.info("a machine was given back", node=which.name, group=which.group.name)

    async def _mark(self, node: Obj, now: float) -> Obj:
        """Only if the node is still what was judged."""
        taints = nodes.marked(
            {"spec": {"taints": nodes.marked(node, nodes.CANDIDATE, "", None)}}, nodes.TO_BE_DELETED, NO_SCHEDULE, now
        )
        meta = {"uid": uid_of(node), "resourceVersion": resource_version_of(node)}
        return await self._client.patch(NODES, name_of(node), {"metadata": meta, "spec": {"taints": taints}})

    async def _unmark(self, name: str, uid: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNMARK_SECONDS):
                await self._take_off(name, uid)

    async def _take_off(self, name: str, uid: str) -> None:
        backoff = Backoff(base=0.2, limit=2.0)
        while True:
            try:
                node = await self._client.get(NODES, name)
                if uid_of(node) == uid and nodes.mark_of(node, nodes.TO_BE_DELETED) is not None:
                    meta = {"uid": uid, "resourceVersion": resource_version_of(node)}
                    taints = nodes.marked(node, nodes.TO_BE_DELETED, NO_SCHEDULE, None)
                    await self._client.patch(NODES, name, {"metadata": meta, "spec": {"taints": taints or None}})
                return
            except ApiError as error:
                if error.code == 404:
                    return
                log.warning("a node's mark could not be taken off", node=name, error=str(error))
            except ConnectionFailed as error:
                log.debug("the apiserver is away", node=name, error=str(error))
            await self._clock.sleep(backoff.next())

    # -- pods ----------------------------------------------------------------------------------------------------------------------

    async def _live(self, node: str) -> list[Obj]:
        listed = await self._client.list(PODS, field_selector=f"spec.nodeName={node}")
        return [{"apiVersion": "v1", "kind": "Pod", **each} for each in listed.get("items") or ()]

    async def _empty(self, which: Unneeded) -> bool:
        """Move the pods until there are none. What came in the last moment is moved like the rest. Returns whether there were any."""
        any_moved = False
        until = self._clock.monotonic() + self._settings.max_pod_eviction + self._settings.max_graceful_termination
        while True:
            there = await self._live(which.name)
            verdict = removable.verdict(there, self._budgets, self._settings)
            # A budget that is used up now may have room in a while: eviction waits for it.
            if verdict.blocked and not verdict.blocked.startswith("NotEnoughPdb"):
                raise Aborted(verdict.blocked)
            movable = removable.live(there)
            if movable and not await self._fits(replace(which, movable=tuple(movable))):
                raise Aborted("NoPlaceToMovePods")
            any_moved = any_moved or bool(movable)
            await self._evict_all(movable)
            await self._until_gone(which.name, until)
            if not removable.live(await self._live(which.name)):
                return any_moved

    async def _end_daemons(self, node: str) -> None:
        """Let the pods of DaemonSets end as they would like to, as far as that is to be had: the machine goes in any case."""
        daemons = [each for each in await self._live(node) if is_daemon(each) and is_active(each) and not is_mirror(each)]
        asked = []
        for each in daemons:
            try:
                await self._ask_to_go(each)
            except ApiError as error:
                log.info("a pod of a DaemonSet ends with its node", pod=name_of(each), node=node, why=str(error))
            else:
                asked.append(each)
        until = self._clock.monotonic() + min(
            max((grace_period_of(each) for each in asked), default=0) + 1.0, self._settings.max_graceful_termination
        )
        uids = {uid_of(each) for each in asked}
        while self._clock.monotonic() < until:
            news = self._pod_news()
            if not uids & {uid_of(each) for each in await self._live(node)}:
                return
            await run_until(news, self._clock.sleep(until - self._clock.monotonic()))

    async def _evict_all(self, pods: Sequence[Obj]) -> None:
        outcomes = await asyncio.gather(*(self._evict(each) for each in pods), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _ask_to_go(self, pod: Obj) -> None:
        body: Obj = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name_of(pod), "namespace": namespace_of(pod)},
            "deleteOptions": {"preconditions": {"uid": uid_of(pod)}},
        }
        await self._client.create(PODS, body, namespace_of(pod), name=name_of(pod), subresource="eviction")

    async def _evict(self, pod: Obj) -> None:
        """Ask until the budget lets it go, for as long as a pod may take."""
        until = self._clock.monotonic() + self._settings.max_pod_eviction
        backoff = Backoff(base=0.5, limit=10.0)
        while True:
            try:
                await self._ask_to_go(pod)
            except ApiError as error:
                if error.code in (404, 409):  # It is gone, or another one has its name.
                    return
                if error.code != 429 and error.code < 500:
                    metrics.evicted("failed")
                    raise Aborted(f"failed to evict {namespace_of(pod)}/{name_of(pod)}: {error}") from error
                delay = backoff.next()
                if self._clock.monotonic() + delay > until:
                    metrics.evicted("failed")
                    raise Aborted(
                        f"failed to evict {namespace_of(pod)}/{name_of(pod)} within allowed timeout: {error}"
                    ) from error
                await self._clock.sleep(delay)
            else:
                self._events.event(pod, "Normal", "ScaleDown", "deleting pod for node scale down")
                metrics.evicted("succeeded")
                return

    async def _until_gone(self, node: str, until: float) -> None:
        """Wait for the pods that are ending."""
        while True:
            news = self._pod_news()  # Before the pods are read: what changes meanwhile is not missed.
            if not any(is_deleting(each) and not stays(each) and not is_terminal(each) for each in await self._live(node)):
                return
            if self._clock.monotonic() > until:
                raise Aborted("its pods do not end in time")
            await run_until(news, self._clock.sleep(_LOOK_SECONDS))
