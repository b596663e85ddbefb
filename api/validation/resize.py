"""pods/resize: what of a running pod's resources may change (KEP-1287)."""

from __future__ import annotations

from typing import Any

from kubeling.api import pods, quantity
from kubeling.api.errors import forbidden_value, invalid_value
from kubeling.api.meta import Object, spec_of, status_of
from kubeling.api.validation.common import Errors, Map

_MUTABLE = frozenset({"cpu", "memory"})


def resize(new: Object, old: Object) -> Errors:
    """Nothing, where no container's resources have changed."""
    changed = False
    for field in ("containers", "initContainers"):
        for at, (after, before) in enumerate(zip(spec_of(new).get(field) or (), spec_of(old).get(field) or (), strict=False)):
            wanted, held = after.get("resources") or {}, before.get("resources") or {}
            if wanted == held:
                continue
            changed = True
            if field == "initContainers" and before.get("restartPolicy") != "Always":
                yield forbidden_value("spec", "resources for non-sidecar init containers are immutable")
                continue
            yield from _container(f"spec.{field}[{at}].resources", wanted, held, before)
    if not changed:
        return
    if any((spec_of(each).get("resources") or {}).get(kind) for each in (new, old) for kind in ("limits", "requests")):
        yield forbidden_value("[]", "pods with pod-level resources cannot be resized")
    if (spec_of(old).get("os") or {}).get("name") == "windows":
        yield forbidden_value("[]", "windows pods cannot be resized")
    before_class = status_of(old).get("qosClass") or pods.qos_class(old)
    if pods.qos_class(new) != before_class:
        yield invalid_value("spec", pods.qos_class(new), "Pod QOS Class may not change as a result of resizing")


def _container(path: str, wanted: Map, held: Map, container: Map) -> Errors:
    for kind, words in (("requests", "resource requests"), ("limits", "resource limits")):
        after: dict[str, Any] = wanted.get(kind) or {}
        before: dict[str, Any] = held.get(kind) or {}
        if set(before) - set(after):
            yield forbidden_value(f"{path}.{kind}", f"{words} cannot be removed")
        for name in {*after, *before} - _MUTABLE:
            if after.get(name) != before.get(name) and name in after:
                yield forbidden_value("spec", "only cpu and memory resources are mutable")
    if wanted.get("claims") != held.get("claims"):
        yield forbidden_value("spec", "only cpu and memory resources are mutable")
    limit, former = (wanted.get("limits") or {}).get("memory"), (held.get("limits") or {}).get("memory")
    if limit is None or (former is not None and quantity.compare(limit, former) >= 0):
        return
    policies = {each.get("resourceName"): each.get("restartPolicy") for each in container.get("resizePolicy") or ()}
    if policies.get("memory") != "RestartContainer":
        what = "decreased" if former is not None else "added"
        detail = f"memory limits cannot be {what} unless resizePolicy is RestartContainer"
        yield forbidden_value(f"{path}.limits[memory]", detail)
