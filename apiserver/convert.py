"""Between the version that a client speaks and the version that is stored.

Only two built-in kinds have more than one version: HorizontalPodAutoscaler (autoscaling/v1 and v2) and Event (v1 and events.k8s.io/v1). A conversion
takes an object apart by the older version's names and loses nothing: what v1 of the autoscaler cannot say stands in annotations, as upstream does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

import orjson

from kubeling.api.fields import FieldRequirement, FieldSelector

if TYPE_CHECKING:
    from kubeling.apiserver.registry.kinds import Served

Object = dict[str, Any]
_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"


class Custom(Protocol):
    """A served custom resource: the pipeline sees its objects in the version that the client speaks, not in the stored one."""

    async def to_served(self, objs: list[Object]) -> list[Object]:
        """Stored objects in the served version."""

    async def to_stored(self, obj: Object) -> Object:
        """An object of the served version in the stored one."""

    def renamed(self, obj: Object) -> Object:
        """An object of another version in the served one, where that takes no more than another apiVersion."""


async def present(served: Served, objs: list[Object]) -> list[Object]:
    """Stored objects in the served version."""
    if not served.is_builtin:
        return await cast(Custom, served).to_served(objs)
    return [from_storage(served, each) for each in objs] if served.converts else objs


async def opened(served: Served, obj: Object) -> Object:
    """A stored object as the pipeline wants it: in the stored version, but for custom resources."""
    return obj if served.is_builtin else (await cast(Custom, served).to_served([obj]))[0]


async def closed(served: Served, obj: Object) -> Object:
    """What the pipeline made, in the stored version."""
    return obj if served.is_builtin else await cast(Custom, served).to_stored(obj)


def from_storage(served: Served, obj: Object) -> Object:
    """A stored object of a built-in kind in the served version; custom resources have been :func:`opened`."""
    if not served.is_builtin:
        return cast(Custom, served).renamed(obj)
    if not served.converts:
        return obj
    return _CONVERSIONS[served.stored.group_version, served.resource.group_version](obj)


def to_storage(served: Served, obj: Object) -> Object:
    """A client's object as the pipeline wants it."""
    if not served.converts or not served.is_builtin:
        return obj
    return _CONVERSIONS[served.resource.group_version, served.stored.group_version](obj)


def field_selector(served: Served, selector: FieldSelector) -> FieldSelector:
    """A selector over the served version's fields as one over the stored version's."""
    if not served.is_builtin:
        return selector
    return FieldSelector(tuple(FieldRequirement(_field(each.field), each.value, each.negated) for each in selector.requirements))


def _field(name: str) -> str:
    first, dot, rest = name.partition(".")
    return _EVENT_NAMES_BACK.get(first, first) + dot + rest


_EVENT_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "source": "deprecatedSource",
    "reportingComponent": "reportingController",
}
_EVENT_NAMES_BACK = {new: old for old, new in _EVENT_NAMES.items()}


def _event_to_v1(obj: Object) -> Object:
    return {**{_EVENT_NAMES.get(key, key): value for key, value in obj.items()}, "apiVersion": "events.k8s.io/v1"}


def _event_to_core(obj: Object) -> Object:
    return {**{_EVENT_NAMES_BACK.get(key, key): value for key, value in obj.items()}, "apiVersion": "v1"}


def _hpa_to_v1(obj: Object) -> Object:
    spec = dict(obj.get("spec") or {})
    metadata = dict(obj.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    metrics = spec.pop("metrics", None) or []
    behavior = spec.pop("behavior", None)
    others = []
    for metric in metrics:
        target = (metric.get("resource") or {}).get("target") or {}
        if metric.get("type") == "Resource" and metric["resource"].get("name") == "cpu" and "averageUtilization" in target:
            spec["targetCPUUtilizationPercentage"] = target["averageUtilization"]
        else:
            others.append(metric)
    if others:
        annotations[_METRICS] = orjson.dumps(others).decode()
    if behavior:
        annotations[_BEHAVIOR] = orjson.dumps(behavior).decode()
    if annotations:
        metadata["annotations"] = annotations
    status = dict(obj.get("status") or {})
    for metric in status.pop("currentMetrics", None) or []:
        current = (metric.get("resource") or {}).get("current") or {}
        if (metric.get("resource") or {}).get("name") == "cpu" and "averageUtilization" in current:
            status["currentCPUUtilizationPercentage"] = current["averageUtilization"]
    status.pop("conditions", None)
    return {**obj, "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}


def _hpa_to_v2(obj: Object) -> Object:
    spec = dict(obj.get("spec") or {})
    metadata = dict(obj.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    metrics: list[Any] = []
    utilization = spec.pop("targetCPUUtilizationPercentage", None)
    if utilization is not None:
        target = {"type": "Utilization", "averageUtilization": utilization}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    metrics += _annotation(annotations, _METRICS, list) or []
    behavior = _annotation(annotations, _BEHAVIOR, dict)
    if metrics:
        spec["metrics"] = metrics
    if behavior:
        spec["behavior"] = behavior
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    status = {key: value for key, value in (obj.get("status") or {}).items() if key != "currentCPUUtilizationPercentage"}
    converted = {**obj, "apiVersion": "autoscaling/v2", "metadata": metadata, "spec": spec}
    if "status" in obj:
        converted["status"] = status
    return converted


def _annotation(annotations: dict[str, str], name: str, kind: type) -> Any:
    """Take an annotation's JSON out, None where it is absent or is not what it should be."""
    text = annotations.pop(name, None)
    if text is None:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, kind) else None


_CONVERSIONS: dict[tuple[str, str], Callable[[Object], Object]] = {
    ("v1", "events.k8s.io/v1"): _event_to_v1,
    ("events.k8s.io/v1", "v1"): _event_to_core,
    ("autoscaling/v2", "autoscaling/v1"): _hpa_to_v1,
    ("autoscaling/v1", "autoscaling/v2"): _hpa_to_v2,
}
