"""The Scale subresource: replicas read from and written to the kinds that have them."""

from __future__ import annotations

from typing import Any

from kubeling.api import labels
from kubeling.api.meta import Object, copy_json, metadata_of, spec_of, status_of


def scale_of(obj: Object) -> Object:
    """The autoscaling/v1 Scale of a Deployment, ReplicaSet, StatefulSet or ReplicationController."""
    metadata = metadata_of(obj)
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    spec: dict[str, Any] = {}
    if spec_of(obj).get("replicas"):
        spec["replicas"] = spec_of(obj)["replicas"]
    status: dict[str, Any] = {"replicas": status_of(obj).get("replicas") or 0}
    selector = _selector_text(spec_of(obj).get("selector"))
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": spec,
        "status": status,
    }


def _selector_text(selector: dict[str, Any] | None) -> str:
    if not selector:
        return ""
    is_label_selector = "matchLabels" in selector or "matchExpressions" in selector
    return str(labels.from_selector(selector) if is_label_selector else labels.from_labels(selector))


def with_scale(obj: Object, scale: Object) -> Object:
    """A copy of the object with the replicas that the Scale asks for; an absent number is 0, as in a Scale."""
    changed: Object = copy_json(obj)
    changed.setdefault("spec", {})["replicas"] = spec_of(scale).get("replicas") or 0
    if metadata_of(scale).get("resourceVersion"):
        changed["metadata"]["resourceVersion"] = metadata_of(scale)["resourceVersion"]
    return changed
