"""What each metric of an autoscaler proposes, and how it is shown in the status: the five kinds of metric over :mod:`.hpa_metrics` and :mod:`.hpa_replicas`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from kubeling.api import quantity
from kubeling.api.resources import Resource
from kubeling.client.rest import Client
from kubeling.controllers import hpa_metrics as metrics
from kubeling.controllers import hpa_replicas as replicas
from kubeling.controllers.context import Obj
from kubeling.controllers.hpa_replicas import MetricsError, Tolerance, Wish

#: Finds the resource that an apiVersion and a kind name. Raises MetricsError.
FindResource = Callable[[str, str], Awaitable[Resource]]


class Proposal(NamedTuple):
    """So many pods because of a metric of that name; and what the status says of the metric."""

    replicas: int
    name: str
    status: Obj


class Failed(Exception):
    """A metric could not be used: the reason of the condition and of its event, the words of both, and those among several metrics."""

    def __init__(self, reason: str, message: str, among: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.among = reason, message, f"{among}: {message}" if among else message


@dataclass(frozen=True, slots=True)
class Target:
    """What is scaled: where, which pods it has, and how many it is said to have."""

    namespace: str
    selector: str
    pods: list[Obj]
    wanted: int
    actual: int


def _text(milli: int) -> str:
    return quantity.canonical(f"{milli}m")


def _among(spec: Obj) -> str:
    """How the message about all metrics names the one that failed."""
    match spec["type"]:
        case "Resource":
            return f"failed to get {spec['resource']['name']} resource metric value"
        case "ContainerResource":
            return f"failed to get {spec['containerResource']['container']} container metric value"
        case "External":
            name = spec["external"]["metric"]["name"]
            return f"failed to get {name} external metric value: failed to get {name} external metric"
        case kind:
            return f"failed to get {kind.lower()} metric value"


def _selected(metric: Obj) -> str:
    """The selector of a metric, as messages show it."""
    selector = metric.get("selector")
    if selector is None:
        return "nil"
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    rules = "".join(
        f"LabelSelectorRequirement{{Key:{each['key']},Operator:{each['operator']},Values:[{' '.join(each.get('values') or ())}],}},"
        for each in selector.get("matchExpressions") or ()
    )
    return f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{rules}}},}}"


class Proposer:
    """Reads metrics for one autoscaler at one moment."""

    def __init__(self, client: Client, find: FindResource, target: Target, tolerance: Tolerance, now: datetime) -> None:
        self._client, self._find, self._target, self._tolerance, self._now = client, find, target, tolerance, now

    async def propose(self, spec: Obj) -> Proposal:
        """What one entry of `spec.metrics` proposes. Raises Failed."""
        kind = spec.get("type", "")
        ways: dict[str, tuple[str, Callable[[Obj], Awaitable[Proposal]]]] = {
            "Resource": ("FailedGetResourceMetric", self._resource),
            "ContainerResource": ("FailedGetContainerResourceMetric", self._resource),
            "Pods": ("FailedGetPodsMetric", self._pods),
            "Object": ("FailedGetObjectMetric", self._object),
            "External": ("FailedGetExternalMetric", self._external),
        }
        if kind not in ways:
            raise Failed("InvalidMetricSourceType", f'unknown metric source type "{kind}"')
        reason, way = ways[kind]
        try:
            return await way(spec)
        except MetricsError as error:
            raise Failed(reason, str(error), _among(spec)) from error

    async def _resource(self, spec: Obj) -> Proposal:
        one = spec.get("containerResource") or spec["resource"]
        what = "usage" if "averageValue" in one["target"] else "utilization"
        try:
            return await self._by_resource(one)
        except MetricsError as error:
            raise MetricsError(f"failed to get {one['name']} {what}: {error}") from error

    async def _by_resource(self, one: Obj) -> Proposal:
        target, name, container, aim = self._target, one["name"], one.get("container", ""), one["target"]
        try:
            found = await metrics.resource_samples(self._client, target.namespace, target.selector, name, container)
        except MetricsError as error:
            raise MetricsError(f"unable to get metrics for resource {name}: {error}") from error
        samples = replicas.known(target.pods, found)
        wish: Wish
        if aim.get("averageValue") is not None:
            wanted = quantity.milli(aim["averageValue"])
            wish = replicas.by_average(target.pods, samples, target.wanted, wanted, name, self._tolerance, self._now)
            label = f"{name} resource"
            current: dict[str, Any] = {"averageValue": _text(wish.value)}
        elif aim.get("averageUtilization") is not None:
            requests = replicas.requests_of(target.pods, name, container)
            percent = int(aim["averageUtilization"])
            wish = replicas.by_utilization(
                target.pods, samples, requests, target.wanted, percent, name, self._tolerance, self._now
            )
            label = f"{name} resource utilization (percentage of request)"
            current = {"averageUtilization": wish.percent, "averageValue": _text(wish.value)}
        else:
            raise MetricsError(
                "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set"
            )
        status: Obj = {"name": name, "current": current}
        if container:
            label = label.replace("resource", "container resource", 1)
            return Proposal(
                wish.replicas, label, {"type": "ContainerResource", "containerResource": status | {"container": container}}
            )
        return Proposal(wish.replicas, label, {"type": "Resource", "resource": status})

    async def _pods(self, spec: Obj) -> Proposal:
        target, one = self._target, spec["pods"]
        metric = one["metric"]
        try:
            samples = await metrics.pod_samples(self._client, target.namespace, target.selector, metric)
            found = replicas.known(target.pods, samples)
            aim = quantity.milli(one["target"].get("averageValue"))
            wish = replicas.by_average(target.pods, found, target.wanted, aim, "", self._tolerance, self._now)
        except MetricsError as error:
            raise MetricsError(f"unable to get metric {metric['name']}: {error}") from error
        status = {"metric": metric, "current": {"averageValue": _text(wish.value)}}
        return Proposal(wish.replicas, f"pods metric {metric['name']}", {"type": "Pods", "pods": status})

    async def _object(self, spec: Obj) -> Proposal:
        one, namespace = spec["object"], self._target.namespace
        metric, described = one["metric"], one["describedObject"]
        try:
            resource = await self._find(described.get("apiVersion") or "v1", described["kind"])
            usage = await metrics.object_value(self._client, namespace, resource, described["name"], metric)
        except MetricsError as error:
            which = f"{described['kind']} on {namespace} {described['name']}"
            raise MetricsError(f"unable to get metric {metric['name']}: {which}/{error}") from error
        wish, current = self._shared(usage, one["target"], "object")
        status = {"metric": metric, "current": current, "describedObject": described}
        return Proposal(wish.replicas, f"{described['kind']} metric {metric['name']}", {"type": "Object", "object": status})

    async def _external(self, spec: Obj) -> Proposal:
        one = spec["external"]
        metric = one["metric"]
        try:
            usage = await metrics.external_value(self._client, self._target.namespace, metric)
        except MetricsError as error:
            which = f"{self._target.namespace}/{metric['name']}/{_selected(metric)}"
            raise MetricsError(f"unable to get external metric {which}: {error}") from error
        wish, current = self._shared(usage, one["target"], "external")
        status = {"metric": metric, "current": current}
        return Proposal(
            wish.replicas, f"external metric {metric['name']}({_selected(metric)})", {"type": "External", "external": status}
        )

    def _shared(self, usage: int, aim: Obj, kind: str) -> tuple[Wish, dict[str, Any]]:
        """A value that all pods share."""
        target = self._target
        if aim.get("averageValue") is not None:
            wish = replicas.by_share(usage, quantity.milli(aim["averageValue"]), target.actual, self._tolerance)
            return wish, {"averageValue": _text(wish.value)}
        if aim.get("value") is not None:
            wish = replicas.by_value(usage, quantity.milli(aim["value"]), target.wanted, target.pods, self._tolerance)
            return wish, {"value": _text(wish.value)}
        raise MetricsError(f"invalid {kind} metric source: neither a value target nor an average value target was set")
