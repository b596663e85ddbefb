"""HorizontalPodAutoscalers in the words of autoscaling/v1 and of autoscaling/v2, which is how they are stored.

v1 knows one metric, the CPU's utilization. All else that v2 can say stands there in annotations, in JSON: metrics in the shapes of v1's own types
(`targetAverageUtilization` for `target.averageUtilization`), the behaviour with capital letters, as upstream's servers write and read them.
"""

from __future__ import annotations

import json
from typing import Any

from kubeling.api.meta import Object

Map = dict[str, Any]
_PREFIX = "autoscaling.alpha.kubernetes.io/"
_METRICS, _BEHAVIOR = f"{_PREFIX}metrics", f"{_PREFIX}behavior"
_CURRENT, _CONDITIONS = f"{_PREFIX}current-metrics", f"{_PREFIX}conditions"
_FIELDS = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "External": "external",
}


def to_v1(obj: Object) -> Object:
    """A stored autoscaler in autoscaling/v1."""
    spec, status, metadata = dict(obj.get("spec") or {}), dict(obj.get("status") or {}), dict(obj.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    others: list[Map] = []
    for metric in spec.pop("metrics", None) or []:
        utilization = _cpu(metric, "target")
        if utilization is None:
            others.append(_old(metric, "target"))
        else:
            spec["targetCPUUtilizationPercentage"] = utilization
    current = status.pop("currentMetrics", None) or []
    for metric in current:
        utilization = _cpu(metric, "current")
        if utilization is not None:
            status["currentCPUUtilizationPercentage"] = utilization
    notes = (
        (_METRICS, others),
        (_CURRENT, [_old(each, "current") for each in current]),
        (_CONDITIONS, status.pop("conditions", None)),
        (_BEHAVIOR, _recased(spec.pop("behavior", None), str.upper)),
    )
    for name, value in notes:
        if value:
            annotations[name] = json.dumps(value, separators=(",", ":"))
    if annotations:
        metadata["annotations"] = annotations
    return {**obj, "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}


def to_v2(obj: Object) -> Object:
    """An autoscaler of autoscaling/v1 as it is stored. Annotations that are not what they should be are dropped, as upstream does it."""
    spec, metadata = dict(obj.get("spec") or {}), dict(obj.get("metadata") or {})
    annotations = dict(metadata.pop("annotations", None) or {})
    metrics = [_new(each, "target") for each in _taken(annotations, _METRICS, list) if _is_metric(each)]
    utilization = spec.pop("targetCPUUtilizationPercentage", None)
    if utilization is not None:
        metrics.append(_cpu_metric("target", {"type": "Utilization", "averageUtilization": utilization}))
    if metrics:
        spec["metrics"] = metrics
    behavior = _recased(_taken(annotations, _BEHAVIOR, dict), str.lower)
    if behavior:
        spec["behavior"] = behavior
    current = [_new(each, "current") for each in _taken(annotations, _CURRENT, list) if _is_metric(each)]
    conditions = _taken(annotations, _CONDITIONS, list)
    if annotations:
        metadata["annotations"] = annotations
    converted = {**obj, "apiVersion": "autoscaling/v2", "metadata": metadata, "spec": spec}
    if "status" in obj:
        status = dict(obj["status"] or {})
        utilization = status.pop("currentCPUUtilizationPercentage", None)
        if not current and utilization is not None:
            current = [_cpu_metric("current", {"averageUtilization": utilization})]
        if current:
            status["currentMetrics"] = current
        if conditions:
            status["conditions"] = conditions
        converted["status"] = status
    return converted


def _cpu(metric: Map, side: str) -> int | None:
    """The utilization of the CPU, where it is this that the metric measures."""
    source = metric.get("resource") or {}
    found = source.get(side) or {}
    return found.get("averageUtilization") if metric.get("type") == "Resource" and source.get("name") == "cpu" else None


def _cpu_metric(side: str, value: Map) -> Map:
    return {"type": "Resource", "resource": {"name": "cpu", side: value}}


def _names(kind: str, side: str) -> tuple[tuple[str, str], ...]:
    """(v1's name, v2's) of a metric's values."""
    average = f"{side}AverageValue"
    match kind:
        case "Object":
            return (f"{side}Value", "value"), ("averageValue", "averageValue")
        case "External":
            return (f"{side}Value", "value"), (average, "averageValue")
        case "Pods":
            return ((average, "averageValue"),)
    return (f"{side}AverageUtilization", "averageUtilization"), (average, "averageValue")


def _old(metric: Map, side: str) -> Map:
    """A metric of v2 in v1's shape: `side` is target or current."""
    kind = metric.get("type") or ""
    field = _FIELDS.get(kind, "")
    source = metric.get(field) or {}
    values = source.get(side) or {}
    made: Map = {old: values[new] for old, new in _names(kind, side) if new in values}
    made |= {key: source[key] for key in ("name", "container") if key in source}
    about = source.get("metric")
    if about is not None:
        made["metricName"] = about.get("name") or ""
        if about.get("selector") is not None:
            made["metricSelector" if kind == "External" else "selector"] = about["selector"]
    if kind == "Object":
        made["target"] = source.get("describedObject") or {}
    return {"type": kind, field: made} if field else dict(metric)


_TYPES = (("averageUtilization", "Utilization"), ("averageValue", "AverageValue"), ("value", "Value"))


def _new(metric: Map, side: str) -> Map:
    """A metric of v1 in v2's shape."""
    kind = metric["type"]
    source = metric.get(_FIELDS[kind])
    source = source if isinstance(source, dict) else {}
    values: Map = {new: source[old] for old, new in _names(kind, side) if old in source}
    if side == "target":
        values = {"type": next((shown for name, shown in _TYPES if name in values), ""), **values}
    made: Map = {key: source[key] for key in ("name", "container") if key in source}
    if kind in ("Object", "Pods", "External"):
        made["metric"] = {"name": source.get("metricName") or ""}
        selector = source.get("metricSelector" if kind == "External" else "selector")
        if selector is not None:
            made["metric"]["selector"] = selector
    if kind == "Object":
        made["describedObject"] = source.get("target") or {}
    return {"type": kind, _FIELDS[kind]: {**made, side: values}}


def _is_metric(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in _FIELDS


def _recased(value: Any, case: Any) -> Any:
    """With the first letter of every name in the other case."""
    if isinstance(value, dict):
        return {f"{case(key[:1])}{key[1:]}": _recased(each, case) for key, each in value.items()}
    return [_recased(each, case) for each in value] if isinstance(value, list) else value


def _taken(annotations: dict[str, str], name: str, kind: type) -> Any:
    """Take an annotation's JSON out; empty where it is absent or is not what it should be."""
    try:
        value = json.loads(annotations.pop(name, "null"))
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, kind) else kind()
