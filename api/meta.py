"""Reading and writing ObjectMeta in plain dicts. Everything reads an absent and a null field alike."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson

from kubeling.api.times import parse_time

Object = dict[str, Any]


def metadata_of(obj: Object) -> dict[str, Any]:
    """The metadata; an empty dict, not the object's own, where there is none."""
    return obj.get("metadata") or {}


def name_of(obj: Object) -> str:
    return metadata_of(obj).get("name") or ""


def namespace_of(obj: Object) -> str:
    """The namespace, empty for cluster-scoped objects."""
    return metadata_of(obj).get("namespace") or ""


def uid_of(obj: Object) -> str:
    return metadata_of(obj).get("uid") or ""


def key_of(obj: Object) -> str:
    """`namespace/name`, or `name` where there is no namespace: how caches and work queues call an object."""
    metadata = metadata_of(obj)
    namespace, name = metadata.get("namespace"), metadata.get("name") or ""
    return f"{namespace}/{name}" if namespace else name


def join_key(namespace: str | None, name: str) -> str:
    """The key of the object of that namespace and name."""
    return f"{namespace}/{name}" if namespace else name


def labels_of(obj: Object) -> dict[str, str]:
    return metadata_of(obj).get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    return metadata_of(obj).get("annotations") or {}


def finalizers_of(obj: Object) -> list[str]:
    return metadata_of(obj).get("finalizers") or []


def owner_references_of(obj: Object) -> list[dict[str, Any]]:
    return metadata_of(obj).get("ownerReferences") or []


def controller_of(obj: Object) -> dict[str, Any] | None:
    """The owner reference with `controller: true`, None where nobody controls it."""
    return next((each for each in owner_references_of(obj) if each.get("controller")), None)


def is_deleting(obj: Object) -> bool:
    """Deletion was asked for; finalizers or a grace period keep the object."""
    return bool(metadata_of(obj).get("deletionTimestamp"))


def generation_of(obj: Object) -> int:
    """The count of spec changes, 0 for kinds that have none."""
    return metadata_of(obj).get("generation") or 0


def observed_generation_of(obj: Object) -> int:
    return (obj.get("status") or {}).get("observedGeneration") or 0


def resource_version_of(obj: Object) -> str:
    return metadata_of(obj).get("resourceVersion") or ""


def creation_of(obj: Object) -> datetime | None:
    """When it was created, None for what no server has seen yet."""
    stamp = metadata_of(obj).get("creationTimestamp")
    return parse_time(stamp) if stamp else None


def spec_of(obj: Object) -> dict[str, Any]:
    return obj.get("spec") or {}


def status_of(obj: Object) -> dict[str, Any]:
    return obj.get("status") or {}


def ensure(parent: dict[str, Any], name: str) -> dict[str, Any]:
    """The dict under `name`, put there where it is absent or null."""
    found = parent.get(name)
    if found is None:
        found = parent[name] = {}
    return found


def add_finalizer(obj: Object, finalizer: str) -> bool:
    """Add in place; whether it was missing."""
    metadata = ensure(obj, "metadata")
    present = metadata.get("finalizers") or []
    if finalizer in present:
        return False
    metadata["finalizers"] = [*present, finalizer]
    return True


def remove_finalizer(obj: Object, finalizer: str) -> bool:
    """Remove in place; whether it was there."""
    metadata = metadata_of(obj)
    present = metadata.get("finalizers") or []
    if finalizer not in present:
        return False
    kept = [each for each in present if each != finalizer]
    if kept:
        metadata["finalizers"] = kept
    else:
        del metadata["finalizers"]
    return True


def reference_to(obj: Object) -> dict[str, str]:
    """An ObjectReference to it, as events and bindings carry."""
    metadata = metadata_of(obj)
    found = {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "namespace": metadata.get("namespace"),
        "name": metadata.get("name"),
        "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    return {key: value for key, value in found.items() if value}


def by_key(objects: Iterable[Object]) -> dict[str, Object]:
    """Key → object."""
    return {key_of(each): each for each in objects}


def copy_json(value: Any) -> Any:
    """A deep copy of JSON data. Written and read again it is made in a third of the time that walking it takes."""
    if not isinstance(value, (dict, list)):
        return value
    try:
        return orjson.loads(orjson.dumps(value))
    except (orjson.JSONEncodeError, orjson.JSONDecodeError):
        # What came as YAML may have numbers or characters that JSON's libraries refuse; or it is very deep.
        return _walked(value)


def _walked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _walked(each) if isinstance(each, (dict, list)) else each for key, each in value.items()}
    return [_walked(each) if isinstance(each, (dict, list)) else each for each in value]
