"""HorizontalPodAutoscaler: as many pods as the metrics ask for.

Every 15 s, since metrics cannot be watched, it reads the target's scale and its metrics (:mod:`.hpa_proposals`), takes the largest proposal, bounds it (:mod:`.hpa_limits`) and writes the scale, under
the version that was read. A metric that cannot be read never makes it shrink. What it remembers of past wishes is lost with its process, as upstream: then the size at the start counts as
the first wish, so a restart does not shrink anything at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kubeling.api import quantity
from kubeling.api.conditions import set_condition
from kubeling.api.errors import ApiError
from kubeling.api.labels import parse
from kubeling.api.meta import copy_json, labels_of, spec_of, status_of
from kubeling.api.resources import HORIZONTAL_POD_AUTOSCALERS, PODS, Resource
from kubeling.api.times import format_time
from kubeling.client.controller import Reconciler, Request, request_for
from kubeling.client.discovery import Discovered, discover
from kubeling.controllers.context import POD_INDEXERS, Context, Obj
from kubeling.controllers.hpa_limits import Condition, Memory, limit
from kubeling.controllers.hpa_proposals import Failed, Proposer, Target
from kubeling.controllers.hpa_replicas import MetricsError, Tolerance
from kubeling.controllers.replicas_plan import same_status

SYNC_SECONDS = 15.0


class Stop(Exception):
    """This is all that can be done now."""


def tolerance_of(behavior: Obj | None) -> Tolerance:
    """How far off a ratio may be, from `behavior`."""

    def one(rules: Obj | None) -> float:
        found = (rules or {}).get("tolerance")
        return 0.1 if found is None else quantity.milli(found) / 1000

    return Tolerance(one((behavior or {}).get("scaleDown")), one((behavior or {}).get("scaleUp")))


class Autoscaler:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._client = ctx.client
        self._scalers = ctx.informers.informer(HORIZONTAL_POD_AUTOSCALERS)
        self._pods = ctx.informers.informer(PODS, indexers=POD_INDEXERS)
        self._events = ctx.recorder("horizontal-pod-autoscaler")
        self._memories: dict[tuple[Request, str], Memory] = {}
        # What the autoscalers selected when they were last looked at.
        self._selectors: dict[Request, str] = {}
        self._kinds = Discovered(())
        self._loop = Reconciler("horizontalpodautoscaler", self.reconcile, workers=5, clock=ctx.clock)
        self._loop.watches(self._scalers)
        self._loop.needs(self._pods)
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Read the metrics, scale, say how it stands."""
        scaler = self._scalers.store.get(request.name, request.namespace)
        if scaler is None:
            self._selectors.pop(request, None)
            for key in [each for each in self._memories if each[0] == request]:
                del self._memories[key]
            return None
        memory = self._memories.setdefault((request, scaler["metadata"]["uid"]), Memory())
        step = _Step(self, scaler, memory)
        try:
            await step.act()
        except Stop:
            pass
        if not same_status(status_of(scaler), step.status):
            await self._client.update_status(HORIZONTAL_POD_AUTOSCALERS, {**scaler, "status": step.status})
        return SYNC_SECONDS

    async def find(self, api_version: str, kind: str) -> Resource:
        """The resource of a kind, asked of the server when it is not known yet. Raises MetricsError."""
        found = self._kinds.by_kind(api_version, kind)
        if found is None:
            self._kinds = await discover(self._client)
            found = self._kinds.by_kind(api_version, kind)
        if found is None:
            raise MetricsError(f'no matches for kind "{kind}" in version "{api_version}"')
        return found

    def pods(self, namespace: str, selector: str) -> list[Obj]:
        """The pods that a selector in text form selects."""
        wanted = parse(selector)
        return [each for each in self._pods.store.in_namespace(namespace) if wanted.matches(labels_of(each))]

    def rivals(self, request: Request, selector: str, pods: list[Obj]) -> list[Request]:
        """All autoscalers that select any of these pods, if there are others than `request`."""
        self._selectors[request] = selector
        found = [
            each
            for each, other in sorted(self._selectors.items())
            if each.namespace == request.namespace and (each == request or _any(other, pods))
        ]
        return found if len(found) > 1 else []

    @property
    def ctx(self) -> Context:
        return self._ctx

    def tell(self, scaler: Obj, kind: Any, reason: str, message: str) -> None:
        """Record an event."""
        self._events.event(scaler, kind, reason, message)


def _any(selector: str, pods: list[Obj]) -> bool:
    wanted = parse(selector)
    return any(wanted.matches(labels_of(each)) for each in pods)


class _Step:
    """One look at one autoscaler; `status` is what is to be written in the end."""

    def __init__(self, parent: Autoscaler, scaler: Obj, memory: Memory) -> None:
        self._parent, self._scaler, self._memory = parent, scaler, memory
        self._client, self._clock = parent.ctx.client, parent.ctx.clock
        self._namespace = scaler["metadata"]["namespace"]
        self.status: Obj = copy_json(status_of(scaler))
        self.status["conditions"] = list(self.status.get("conditions") or ())
        self.status.setdefault("desiredReplicas", 0)

    def _say(self, kind: str, status: str, reason: str, message: str) -> None:
        set_condition(self.status["conditions"], kind, status, self._clock.now(), reason=reason, message=message)

    def _give_up(self, kind: str, reason: str, message: str, event: str = "", words: str = "") -> Stop:
        """The condition, and an event of the same reason and words where no others are given."""
        self._say(kind, "False", reason, message)
        self._parent.tell(self._scaler, "Warning", event or reason, words or message)
        return Stop()

    async def act(self) -> None:
        """Raises Stop where nothing more can be done."""
        resource, scale = await self._scale()
        spec = spec_of(self._scaler)
        current = int(spec_of(scale).get("replicas") or 0)
        if not self._memory.wishes:
            self._memory.wishes.append((self._clock.monotonic(), current))
        lowest, highest = spec.get("minReplicas"), int(spec.get("maxReplicas") or 0)
        lowest = 1 if lowest is None else int(lowest)
        reason, shown = "", self.status.get("currentMetrics")
        if current == 0 and lowest != 0:
            wanted = 0
            self._say(
                "ScalingActive", "False", "ScalingDisabled", "scaling is disabled since the replica count of the target is zero"
            )
        elif current > highest:
            wanted, reason = highest, "Current number of replicas above Spec.MaxReplicas"
        elif current < lowest:
            wanted, reason = lowest, "Current number of replicas below Spec.MinReplicas"
        else:
            wish, name, shown = await self._wish(scale, current)
            reason = f"{name} above target" if wish > current else "All metrics below target"
            wanted, said = limit(self._memory, spec.get("behavior"), self._clock.monotonic(), current, wish, lowest, highest)
            self._conditions(said)
        if wanted != current:
            await self._rescale(resource, scale, current, wanted, reason)
            self.status["lastScaleTime"] = format_time(self._clock.now())
        self.status |= {"currentReplicas": current, "desiredReplicas": wanted, "currentMetrics": shown}
        if generation := self._scaler["metadata"].get("generation"):
            self.status["observedGeneration"] = generation

    def _conditions(self, said: list[Condition]) -> None:
        for each in said:
            self._say(*each)

    async def _scale(self) -> tuple[Resource, Obj]:
        target = spec_of(self._scaler)["scaleTargetRef"]
        try:
            resource = await self._parent.find(target.get("apiVersion") or "v1", target["kind"])
            scale = await self._client.get(resource, target["name"], self._namespace, subresource="scale")
        except (ApiError, MetricsError) as error:
            words = error.message if isinstance(error, ApiError) else str(error)
            message = f"the HPA controller was unable to get the target's current scale: {words}"
            raise self._give_up("AbleToScale", "FailedGetScale", message, words=words) from error
        self._say("AbleToScale", "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale")
        return resource, scale

    async def _wish(self, scale: Obj, current: int) -> tuple[int, str, list[Obj]]:
        """The largest proposal, the name of its metric, and how all metrics are."""
        selector = status_of(scale).get("selector")
        if not selector:
            message = "the HPA target's scale is missing a selector"
            raise self._give_up("ScalingActive", "InvalidSelector", message, "SelectorRequired", "selector is required")
        spec = spec_of(self._scaler)
        actual = int(status_of(scale).get("replicas") or 0)
        pods = self._parent.pods(self._namespace, selector)
        if rivals := self._parent.rivals(request_for(self._scaler), selector, pods):
            names = " ".join(map(str, rivals))
            message = f"pods by selector {selector} are controlled by multiple HPAs: [{names}]"
            raise self._give_up("ScalingActive", "AmbiguousSelector", message)
        target = Target(self._namespace, selector, pods, current, actual)
        tolerance = tolerance_of(spec.get("behavior"))
        proposer = Proposer(self._client, self._parent.find, target, tolerance, self._clock.now())
        wish, name, shown, failed = -1, "", [], []
        metrics = spec.get("metrics") or ()
        for each in metrics:
            try:
                found = await proposer.propose(each)
            except Failed as error:
                failed.append(error)
                continue
            shown.append(found.status)
            if found.replicas > wish:
                wish, name = found.replicas, found.name
        if failed and (len(failed) == len(metrics) or wish < current):
            # What is not known could be the reason to stay as large.
            first = failed[0]
            self._say("ScalingActive", "False", first.reason, f"the HPA was unable to compute the replica count: {first.message}")
            self._parent.tell(self._scaler, "Warning", first.reason, first.message)
            words = f"invalid metrics ({len(failed)} invalid out of {len(metrics)}), first error is: {first.among}"
            self._parent.tell(self._scaler, "Warning", "FailedComputeMetricsReplicas", words)
            self.status["currentReplicas"] = current
            raise Stop
        message = f"the HPA was able to successfully calculate a replica count from {name}"
        self._say("ScalingActive", "True", "ValidMetricFound", message)
        return wish, name, shown

    async def _rescale(self, resource: Resource, scale: Obj, current: int, wanted: int, reason: str) -> None:
        try:
            await self._client.update(resource, {**scale, "spec": {"replicas": wanted}}, subresource="scale")
        except ApiError as error:
            if error.code == 409:
                raise
            message = f"the HPA controller was unable to update the target scale: {error.message}"
            self._say("AbleToScale", "False", "FailedUpdateScale", message)
            words = f"New size: {wanted}; reason: {reason}; error: {error.message}"
            self._parent.tell(self._scaler, "Warning", "FailedRescale", words)
            raise Stop from error
        self._memory.changed(self._clock.monotonic(), current, wanted)
        message = f"the HPA controller was able to update the target scale to {wanted}"
        self._say("AbleToScale", "True", "SucceededRescale", message)
        self._parent.tell(self._scaler, "Normal", "SuccessfulRescale", f"New size: {wanted}; reason: {reason}")


def horizontalpodautoscaler(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The controller of autoscalers."""
    return Autoscaler(ctx).run
