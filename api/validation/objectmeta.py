"""metadata: of every kind, on creation and on update."""

from __future__ import annotations

import json

from kubeling.api import names
from kubeling.api.errors import forbidden_value, invalid_value, required_value, too_long_value
from kubeling.api.meta import Object, finalizers_of, is_deleting, metadata_of
from kubeling.api.names import Check
from kubeling.api.validation.common import Errors, checked, label_map, unchanged

MAX_ANNOTATIONS = 256 * 1024


def validate_metadata(obj: Object, namespaced: bool, name_check: Check) -> Errors:
    """metadata as it may stand in an object that is created."""
    metadata = metadata_of(obj)
    base = metadata.get("generateName")
    if base:
        stem = base[:-1] + "a" if base.endswith("-") else base
        for message in name_check(stem[:58]):
            yield invalid_value("metadata.generateName", base, message)
    name = metadata.get("name")
    if not name:
        yield required_value("metadata.name", "name or generateName is required")
    else:
        yield from checked("metadata.name", name, name_check)
    namespace = metadata.get("namespace")
    if namespaced:
        if not namespace:
            yield required_value("metadata.namespace")
        else:
            yield from checked("metadata.namespace", namespace, names.dns1123_label)
    elif namespace:
        yield forbidden_value("metadata.namespace", "not allowed on this type")
    yield from label_map("metadata.labels", metadata.get("labels"))
    yield from annotation_map("metadata.annotations", metadata.get("annotations"))
    yield from _owners(metadata.get("ownerReferences") or [])
    yield from _finalizers(finalizers_of(obj))


def annotation_map(path: str, found: dict[str, str] | None) -> Errors:
    """Keys of the right form, and all together not too big."""
    total = 0
    for key, value in (found or {}).items():
        yield from checked(path, key.lower(), names.qualified_name)
        total += len(key.encode()) + len(value.encode())
    if total > MAX_ANNOTATIONS:
        yield too_long_value(path, MAX_ANNOTATIONS)


def _owners(owners: list[Object]) -> Errors:
    path = "metadata.ownerReferences"
    controller = ""
    for each in owners:
        if not (each.get("apiVersion") or "").rpartition("/")[2]:
            yield invalid_value(f"{path}.apiVersion", each.get("apiVersion") or "", "version must not be empty")
        for field in ("kind", "name", "uid"):
            if not each.get(field):
                yield invalid_value(f"{path}.{field}", "", "must not be empty")
        if (each.get("apiVersion"), each.get("kind")) == ("v1", "Event"):
            yield invalid_value(path, each, "/v1, Kind=Event is disallowed from being an owner")
        if each.get("controller"):
            called = f"{each.get('kind')}/{each.get('name')}"
            if controller:
                detail = "Only one reference can have Controller set to true. Found "
                yield invalid_value(path, owners, f'{detail}"true" in references for {controller} and {called}')
            controller = called


def _finalizers(found: list[str]) -> Errors:
    for each in found:
        yield from checked("metadata.finalizers", each, names.qualified_name)
    if "orphan" in found and "foregroundDeletion" in found:
        detail = "finalizer set can not have both orphan and foregroundDeletion"
        yield invalid_value("metadata.finalizers", found, detail)


def validate_metadata_update(new: Object, old: Object) -> Errors:
    """metadata as it may become."""
    after, before = metadata_of(new), metadata_of(old)
    if is_deleting(old):
        extra = [each for each in finalizers_of(new) if each not in finalizers_of(old)]
        if extra:
            shown = ", ".join(json.dumps(each) for each in extra)
            detail = "no new finalizers can be added if the object is being deleted, found new finalizers "
            yield forbidden_value("metadata.finalizers", f"{detail}[]string{{{shown}}}")
    for field in ("name", "namespace", "uid"):
        yield from unchanged(f"metadata.{field}", after.get(field) or "", before.get(field) or "")
    if after.get("labels") is not before.get("labels"):
        yield from label_map("metadata.labels", after.get("labels"))
    if after.get("annotations") is not before.get("annotations"):
        yield from annotation_map("metadata.annotations", after.get("annotations"))
    if after.get("ownerReferences") != before.get("ownerReferences"):
        yield from _owners(after.get("ownerReferences") or [])
    if finalizers_of(new) != finalizers_of(old):
        yield from _finalizers(finalizers_of(new))
