"""LimitRanges: of each type one item, in which the bounds are in order."""

from __future__ import annotations

from kubeling.api import names, quantity
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value
from kubeling.api.meta import Object, spec_of
from kubeling.api.validation.common import Errors, Map, amount, checked
from kubeling.api.validation.containers import KNOWN_RESOURCES, resource_name

_FIELDS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
#: Pairs of which the first must not be above the second: where that is told, with which value, and in which words.
_ORDER = (
    ("min", "max", "min", 0, "min value {0} is greater than max value {1}"),
    ("min", "defaultRequest", "defaultRequest", 1, "min value {0} is greater than default request value {1}"),
    ("defaultRequest", "max", "defaultRequest", 0, "default request value {0} is greater than max value {1}"),
    ("defaultRequest", "default", "defaultRequest", 0, "default request value {0} is greater than default limit value {1}"),
    ("min", "default", "default", 0, "min value {0} is greater than default value {1}"),
    ("default", "max", "default", 1, "default value {0} is greater than max value {1}"),
)


def limit_range(obj: Object) -> Errors:
    """LimitRange."""
    seen: set[str] = set()
    for at, item in enumerate(spec_of(obj).get("limits") or ()):
        path = f"spec.limits[{at}]"
        kind = item.get("type") or ""
        faults = list(checked(f"{path}.type", kind, names.qualified_name))
        yield from faults
        if not faults and "/" not in kind and kind not in ("Pod", "Container", "PersistentVolumeClaim"):
            yield invalid_value(f"{path}.type", kind, "must be a standard limit type or fully qualified")
        if kind in seen:
            yield duplicate_value(f"{path}.type", kind)
        seen.add(kind)
        if kind == "Pod":
            for field in ("default", "defaultRequest"):
                if item.get(field):
                    yield forbidden_value(f"{path}.{field}", "may not be specified when `type` is 'Pod'")
        if kind == "PersistentVolumeClaim" and not any("storage" in (item.get(field) or {}) for field in ("min", "max")):
            yield required_value(
                f"{path}.limits", "either minimum or maximum storage value is required, but neither was provided"
            )
        yield from _names(path, kind, item)
        yield from _bounds(path, item)


def _names(path: str, kind: str, item: Map) -> Errors:
    for field in _FIELDS:
        for name in item.get(field) or {}:
            where = f"{path}.{field}[{name}]"
            if kind in ("Pod", "Container"):
                yield from resource_name(where, name)
                continue
            faults = list(checked(where, name, names.qualified_name))
            yield from faults
            if not faults and "/" not in name and name not in KNOWN_RESOURCES and not name.startswith("hugepages-"):
                yield invalid_value(where, name, "must be a standard resource type or fully qualified")


def _bounds(path: str, item: Map) -> Errors:
    for key in sorted({key for field in _FIELDS for key in item.get(field) or {}}):
        given = {field: item[field][key] for field in _FIELDS if key in (item.get(field) or {})}
        wrong = [error for field, value in given.items() for error in amount(f"{path}.{field}[{key}]", value)]
        yield from wrong
        if wrong:
            continue
        for less, more, where, shown, words in _ORDER:
            if less in given and more in given and quantity.compare(given[less], given[more]) > 0:
                value = given[(less, more)[shown]]
                yield invalid_value(f"{path}.{where}[{key}]", value, words.format(given[less], given[more]))
        yield from _ratio(f"{path}.maxLimitRequestRatio[{key}]", given)
        if "/" in key or key.startswith("hugepages-"):
            yield from _fixed(path, key, given)


def _ratio(path: str, given: Map) -> Errors:
    ratio = given.get("maxLimitRequestRatio")
    if ratio is None:
        return
    if quantity.compare(ratio, "1") < 0:
        yield invalid_value(path, ratio, f"ratio {ratio} is less than 1")
    if "max" in given and "min" in given and (least := quantity.parse(given["min"]).nanos):
        most = quantity.parse(given["max"]).nanos / least
        if quantity.parse(ratio).nanos / 1e9 > most:
            yield invalid_value(path, ratio, f"ratio {ratio} is greater than max/min = {most:f}")


def _fixed(path: str, key: str, given: Map) -> Errors:
    """What cannot be promised twice is asked for as it is limited."""
    if "default" in given and "defaultRequest" in given and quantity.compare(given["default"], given["defaultRequest"]):
        limit, request = given["default"], given["defaultRequest"]
        detail = f"default value {limit} must equal to defaultRequest value {request} in {key}"
        yield invalid_value(f"{path}.defaultRequest[{key}]", request, detail)
