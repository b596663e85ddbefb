"""HorizontalPodAutoscalers: their metrics and their behaviour."""

from __future__ import annotations

from kubeling.api import names, quantity
from kubeling.api.errors import forbidden_value, invalid_value, required_value, unsupported_value
from kubeling.api.meta import Object, spec_of
from kubeling.api.validation.common import Errors, Map, label_selector, one_of, required_name

_KINDS = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_TARGETS = ("Utilization", "Value", "AverageValue")
_MAX_WINDOW, _MAX_PERIOD = 3600, 1800


def autoscaler(obj: Object) -> Errors:
    """HorizontalPodAutoscaler, either version."""
    spec = spec_of(obj)
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if least is not None and least < 1:
        yield invalid_value("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        yield invalid_value("spec.maxReplicas", most, "must be greater than 0")
    if least is not None and most < least:
        yield invalid_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    target = spec.get("scaleTargetRef") or {}
    for field in ("kind", "name"):
        yield from required_name(f"spec.scaleTargetRef.{field}", target.get(field), names.path_segment)
    percent = spec.get("targetCPUUtilizationPercentage")
    if percent is not None and percent < 1:
        yield invalid_value("spec.targetCPUUtilizationPercentage", percent, "must be greater than 0")
    for at, each in enumerate(spec.get("metrics") or ()):
        yield from _metric(f"spec.metrics[{at}]", each)
    behavior = spec.get("behavior") or {}
    for field in ("scaleUp", "scaleDown"):
        if behavior.get(field) is not None:
            yield from _rules(f"spec.behavior.{field}", behavior[field])


def _metric(path: str, each: Map) -> Errors:
    kind = each.get("type")
    if not kind:
        yield required_value(f"{path}.type", "must specify a metric source type")
        return
    yield from one_of(f"{path}.type", kind, tuple(_KINDS))
    if kind not in _KINDS:
        return
    field = _KINDS[kind]
    for other in _KINDS.values():
        if other != field and each.get(other) is not None:
            yield forbidden_value(f"{path}.{other}", "must populate the given metric source only")
    source = each.get(field)
    if source is None:
        yield required_value(f"{path}.{field}", "must populate information for the given metric source")
        return
    where = f"{path}.{field}"
    target = source.get("target") or {}
    yield from _target(f"{where}.target", target)
    if kind in ("Resource", "ContainerResource"):
        if not source.get("name"):
            yield required_value(f"{where}.name", "must specify a resource name")
        if kind == "ContainerResource" and not source.get("container"):
            yield required_value(f"{where}.container", "must specify a container")
        yield from _either(where, target, "averageValue", "averageUtilization", "target raw value", "target utilization")
        return
    yield from _identifier(f"{where}.metric", source.get("metric") or {})
    if kind == "Pods":
        if target.get("averageValue") is None:
            yield required_value(f"{where}.target.averageValue", "must specify a positive target averageValue")
    elif kind == "Object":
        about = source.get("describedObject") or {}
        for name in ("kind", "name"):
            yield from required_name(f"{where}.describedObject.{name}", about.get(name), names.path_segment)
        if target.get("value") is None and target.get("averageValue") is None:
            yield required_value(f"{where}.target.averageValue", "must set either a target value or averageValue")
    else:
        yield from _either(where, target, "value", "averageValue", "target value for metric", "per-pod target")


def _either(path: str, target: Map, one: str, other: str, first: str, second: str) -> Errors:
    if target.get(one) is None and target.get(other) is None:
        yield required_value(f"{path}.target.{other}", f"must set either a {first} or a {second}")
    elif target.get(one) is not None and target.get(other) is not None:
        yield forbidden_value(f"{path}.target.{one}", f"may not set both a {first} and a {second}")


def _identifier(path: str, metric: Map) -> Errors:
    name = metric.get("name")
    if not name:
        yield required_value(f"{path}.name", "must specify a metric name")
    else:
        for message in names.path_segment(name):
            yield invalid_value(f"{path}.name", name, message)
    yield from label_selector(f"{path}.selector", metric.get("selector"))


def _target(path: str, target: Map) -> Errors:
    kind = target.get("type")
    if not kind:
        yield required_value(f"{path}.type", "must specify a metric target type")
    elif kind not in _TARGETS:
        yield invalid_value(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue")
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        yield invalid_value(f"{path}.averageUtilization", utilization, "must be greater than 0")
    for field in ("value", "averageValue"):
        value = target.get(field)
        if value is not None and (not quantity.is_quantity(value) or quantity.compare(value, "0") <= 0):
            yield invalid_value(f"{path}.{field}", value, "must be positive")


def _rules(path: str, rules: Map) -> Errors:
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and window < 0:
        yield invalid_value(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero")
    if window is not None and window > _MAX_WINDOW:
        yield invalid_value(f"{path}.stabilizationWindowSeconds", window, f"must be less than or equal to {_MAX_WINDOW}")
    chosen = rules.get("selectPolicy")
    if chosen is not None and chosen not in ("Max", "Min", "Disabled"):
        yield unsupported_value(f"{path}.selectPolicy", chosen, ("Disabled", "Max", "Min"))
    if not rules.get("policies"):
        yield required_value(f"{path}.policies", "must specify at least one Policy")
    for at, each in enumerate(rules.get("policies") or ()):
        where = f"{path}.policies[{at}]"
        if each.get("type") not in ("Pods", "Percent"):
            yield unsupported_value(f"{where}.type", each.get("type") or "", ("Percent", "Pods"))
        for field in ("value", "periodSeconds"):
            if (each.get(field) or 0) <= 0:
                yield invalid_value(f"{where}.{field}", each.get(field) or 0, "must be greater than zero")
        if (each.get("periodSeconds") or 0) > _MAX_PERIOD:
            yield invalid_value(f"{where}.periodSeconds", each["periodSeconds"], f"must be less than or equal to {_MAX_PERIOD}")
