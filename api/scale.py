"""The Scale subresource: replicas read from and written to the kinds that have them."""

from __future__ import annotations

from typing import Any

from kubeling.api import labels
from kubeling.api.meta import Object, copy_json, metadata_of, spec_of, status_of

Paths = tuple[str, str, str]


def scale_of(obj: Object, paths: Paths | None = None) -> Object:
    """The autoscaling/v1 Scale of a Deployment, ReplicaSet, StatefulSet or ReplicationController; of a custom resource, by its `paths`: to the
    replicas, to their actual number, and to the selector in text form (or empty).
    """
    metadata = metadata_of(obj)
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    spec: dict[str, Any] = {}
    if paths is None:
        wanted, actual = spec_of(obj).get("replicas"), status_of(obj).get("replicas")
        selector = _selector_text(spec_of(obj).get("selector"))
    else:
        wanted, actual = (_number(_at(obj, path)) for path in paths[:2])
        selector = str(_at(obj, paths[2]) or "") if paths[2] else ""
    if wanted:
        spec["replicas"] = wanted
    status: dict[str, Any] = {"replicas": actual or 0}
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": spec,
        "status": status,
    }


def _at(obj: Object, path: str) -> Any:
    """The value at a path such as `.spec.size`, None where it leads nowhere."""
    value: Any = obj
    for name in path.strip(".").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(value: Any) -> int:
    return value if type(value) is int else 0


def _selector_text(selector: dict[str, Any] | None) -> str:
    if not selector:
        return ""
    is_label_selector = "matchLabels" in selector or "matchExpressions" in selector
    return str(labels.from_selector(selector) if is_label_selector else labels.from_labels(selector))


def with_scale(obj: Object, scale: Object, paths: Paths | None = None) -> Object:
    """A copy of the object with the replicas that the Scale asks for; an absent number is 0, as in a Scale."""
    changed: Object = copy_json(obj)
    *parents, last = (paths[0] if paths else ".spec.replicas").strip(".").split(".")
    place: Any = changed
    for name in parents:
        if not isinstance(place.get(name), dict):
            place[name] = {}
        place = place[name]
    place[last] = spec_of(scale).get("replicas") or 0
    if metadata_of(scale).get("resourceVersion"):
        changed["metadata"]["resourceVersion"] = metadata_of(scale)["resourceVersion"]
    return changed
