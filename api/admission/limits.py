"""What a LimitRange does: defaults for containers that ask for nothing, and bounds for containers, pods and claims, in upstream's words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kubeling.api import pods
from kubeling.api.quantity import ZERO, Quantity, parse

Object = dict[str, Any]
Amounts = Mapping[str, Quantity]
ANNOTATION = "kubernetes.io/limit-ranger"
_FIELDS = (("containers", "container"), ("initContainers", "init container"))


def _items(limit_range: Object, kind: str) -> Iterator[Object]:
    for each in (limit_range.get("spec") or {}).get("limits") or ():
        if each.get("type") == kind:
            yield each


def _amounts(found: Mapping[str, Any] | None) -> dict[str, Quantity]:
    return {name: parse(value) for name, value in (found or {}).items()}


def set_defaults(limit_range: Object, pod: Object) -> None:
    """Give containers without requests or limits the defaults, in place, and say so in an annotation."""
    requests: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for item in _items(limit_range, "Container"):
        requests.update(item.get("defaultRequest") or {})
        limits.update(item.get("default") or {})
    if not requests and not limits:
        return
    done: list[str] = []
    for field, what in _FIELDS:
        for container in (pod.get("spec") or {}).get(field) or ():
            done += _merge(container, requests, "requests", f"request for {what}")
            done += _merge(container, limits, "limits", f"limit for {what}")
    if done:
        metadata = pod.setdefault("metadata", {})
        metadata["annotations"] = {
            **(metadata.get("annotations") or {}),
            ANNOTATION: f"LimitRanger plugin set: {'; '.join(done)}",
        }


def _merge(container: Object, defaults: Mapping[str, Any], which: str, what: str) -> list[str]:
    present = (container.get("resources") or {}).get(which) or {}
    added = {name: value for name, value in defaults.items() if name not in present}
    if not added:
        return []
    container.setdefault("resources", {})[which] = {**present, **added}
    return [f"{', '.join(sorted(added))} {what} {container.get('name', '')}"]


def pod_faults(limit_range: Object, pod: Object) -> list[str]:
    """What a pod breaks."""
    spec = pod.get("spec") or {}
    found: list[str] = []
    for item in _items(limit_range, "Container"):
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            resources = container.get("resources") or {}
            found += _faults(item, _amounts(resources.get("requests")), _amounts(resources.get("limits")))
    for item in _items(limit_range, "Pod"):
        found += _faults(item, _quantities(pods.requests_of(pod)), _quantities(pods.limits_of(pod)))
    return found


def _quantities(amounts: Mapping[str, int]) -> dict[str, Quantity]:
    return {
        name: parse(f"{value}m") if name == "cpu" else Quantity(value * 10**9, _family(name)) for name, value in amounts.items()
    }


def _family(name: str) -> Any:
    return "binary" if name in ("memory", "ephemeral-storage") else "decimal"


def claim_faults(limit_range: Object, claim: Object) -> list[str]:
    """What a PersistentVolumeClaim breaks."""
    requests = _amounts((((claim.get("spec") or {}).get("resources")) or {}).get("requests"))
    found: list[str] = []
    for item in _items(limit_range, "PersistentVolumeClaim"):
        for name, bound in _amounts(item.get("min")).items():
            found += _at_least("PersistentVolumeClaim", name, bound, requests, {})
        for name, bound in _amounts(item.get("max")).items():
            request = requests.get(name)
            if request is None:
                found.append(f"maximum {name} usage per PersistentVolumeClaim is {bound}.  No request is specified")
            elif request > bound:
                found.append(f"maximum {name} usage per PersistentVolumeClaim is {bound}, but request is {request}")
    return found


def _faults(item: Object, requests: Amounts, limits: Amounts) -> list[str]:
    kind = item["type"]
    found: list[str] = []
    for name, bound in _sorted(item.get("min")):
        found += _at_least(kind, name, bound, requests, limits)
    for name, bound in _sorted(item.get("max")):
        found += _at_most(kind, name, bound, requests, limits)
    for name, bound in _sorted(item.get("maxLimitRequestRatio")):
        found += _ratio(kind, name, bound, requests, limits)
    return found


def _sorted(bounds: Mapping[str, Any] | None) -> Iterable[tuple[str, Quantity]]:
    return sorted(_amounts(bounds).items())


def _at_least(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> list[str]:
    start = f"minimum {name} usage per {kind} is {bound}"
    request, limit = requests.get(name), limits.get(name)
    if request is None:
        return [f"{start}.  No request is specified"]
    if request < bound:
        return [f"{start}, but request is {request}"]
    if limit is not None and limit < bound:
        return [f"{start}, but limit is {limit}"]
    return []


def _at_most(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> list[str]:
    start = f"maximum {name} usage per {kind} is {bound}"
    request, limit = requests.get(name), limits.get(name)
    if limit is None:
        return [f"{start}.  No limit is specified"]
    if limit > bound:
        return [f"{start}, but limit is {limit}"]
    if request is not None and request > bound:
        return [f"{start}, but request is {request}"]
    return []


def _ratio(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> list[str]:
    start = f"{name} max limit to request ratio per {kind} is {bound}"
    request, limit = requests.get(name, ZERO), limits.get(name, ZERO)
    if not request:
        return [f"{start}, but no request is specified or request is 0"]
    if not limit:
        return [f"{start}, but no limit is specified or limit is 0"]
    ratio = limit.nanos / request.nanos
    return [f"{start}, but provided ratio is {ratio:.6f}"] if ratio > bound.nanos / 10**9 else []
