"""Which volume a claim may have: the rules of the PersistentVolume binder, without network and clock.

A volume and a claim are bound by two references: `claimRef` on the volume, which counts, and `volumeName` on the claim, which follows. The annotations say who
wrote them: `bound-by-controller` where the binder chose (so it may undo that), `bind-completed` on a claim whose binding was once complete, so that losing the
volume afterwards means lost data, and not that another may be looked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubeling.api import labels, quantity
from kubeling.api.meta import annotations_of, copy_json, is_deleting, labels_of, name_of, namespace_of, spec_of, status_of, uid_of

Obj = dict[str, Any]

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_STORAGE_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
NO_PROVISIONER = "kubernetes.io/no-provisioner"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"


def class_of(obj: Obj) -> str:
    """The storage class of a claim or a volume, empty where it has none."""
    return annotations_of(obj).get(_BETA_CLASS) or str(spec_of(obj).get("storageClassName") or "")


def asked(claim: Obj) -> int:
    """Bytes that a claim asks for."""
    return quantity.units(((spec_of(claim).get("resources") or {}).get("requests") or {}).get("storage"))


def capacity(volume: Obj) -> int:
    """Bytes that a volume has."""
    return quantity.units((spec_of(volume).get("capacity") or {}).get("storage"))


def mode(obj: Obj) -> str:
    return str(spec_of(obj).get("volumeMode") or "Filesystem")


def holder(volume: Obj) -> Obj:
    """The claimRef of a volume; empty where it has none."""
    return dict(spec_of(volume).get("claimRef") or {})


def is_held_by(volume: Obj, claim: Obj) -> bool:
    """Whether the volume is set aside for the claim: by name, and by uid where it says one."""
    ref = holder(volume)
    named = (ref.get("namespace"), ref.get("name")) == (namespace_of(claim), name_of(claim))
    return bool(ref) and named and ref.get("uid") in (None, "", uid_of(claim))


def mismatch(volume: Obj, claim: Obj) -> str:
    """Why a claim that names a volume, or is named by it, cannot have it; empty where it can."""
    if capacity(volume) < asked(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if mode(volume) != mode(claim):
        return "incompatible volumeMode"
    if not set(spec_of(claim).get("accessModes") or ()) <= set(spec_of(volume).get("accessModes") or ()):
        return "incompatible accessMode"
    return ""


def best_match(volumes: Iterable[Obj], claim: Obj, delayed: bool) -> Obj | None:
    """The volume for a claim that names none: one set aside for it, else the smallest that is free and fits.

    `delayed`: the class waits for the first consumer, so that choosing a free one is the scheduler's.
    """
    free: list[Obj] = []
    selector = spec_of(claim).get("selector")
    chosen = labels.from_selector(selector) if selector is not None else None
    for volume in volumes:
        if holder(volume):
            if is_held_by(volume, claim) and _fits(volume, claim) and not is_deleting(volume):
                return volume
        elif (
            not delayed
            and not is_deleting(volume)
            and status_of(volume).get("phase") == "Available"
            and class_of(volume) == class_of(claim)
            and _fits(volume, claim)
            and (chosen is None or chosen.matches(labels_of(volume)))
        ):
            free.append(volume)
    return min(free, key=lambda each: (capacity(each), name_of(each))) if free else None


def _fits(volume: Obj, claim: Obj) -> bool:
    wanted = set(spec_of(claim).get("accessModes") or ())
    enough = capacity(volume) >= asked(claim)
    return enough and mode(volume) == mode(claim) and wanted <= set(spec_of(volume).get("accessModes") or ())


def waits_for_consumer(claim: Obj, storage_class: Obj | None) -> bool:
    """Whether nothing is to be done for a claim until the scheduler has chosen a node for a pod that uses it."""
    waits = storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
    return waits and SELECTED_NODE not in annotations_of(claim)


def default_class(classes: Iterable[Obj]) -> Obj | None:
    """The newest class that is marked as the default."""
    marked = [each for each in classes if any(annotations_of(each).get(key) == "true" for key in DEFAULT_CLASS)]
    return max(marked, key=lambda each: (each["metadata"].get("creationTimestamp") or "", name_of(each))) if marked else None


def set_marks(obj: Obj, marks: dict[str, str | None]) -> None:
    """Set annotations; None takes one away."""
    found = dict(annotations_of(obj))
    for key, value in marks.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value
    obj["metadata"]["annotations"] = found


def hold(volume: Obj, claim: Obj) -> Obj | None:
    """The volume with its claimRef complete; None where it is so already."""
    ref = holder(volume)
    if ref.get("uid") == uid_of(claim) and (ref.get("namespace"), ref.get("name")) == (namespace_of(claim), name_of(claim)):
        return None
    changed: Obj = copy_json(volume)
    if not is_held_by(volume, claim):
        set_marks(changed, {BOUND_BY_CONTROLLER: "yes"})
    changed["spec"]["claimRef"] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": namespace_of(claim),
        "name": name_of(claim),
        "uid": uid_of(claim),
        "resourceVersion": claim["metadata"].get("resourceVersion") or "",
    }
    return changed


def let_go(volume: Obj) -> Obj:
    """The volume without the hold of its claim: all of it where the binder chose, else only the uid, as the administrator wrote it."""
    changed: Obj = copy_json(volume)
    if BOUND_BY_CONTROLLER in annotations_of(volume):
        changed["spec"].pop("claimRef", None)
        set_marks(changed, {BOUND_BY_CONTROLLER: None})
    else:
        changed["spec"]["claimRef"].pop("uid", None)
    return changed


def take(claim: Obj, volume: Obj) -> Obj | None:
    """The claim with its side of the binding complete; None where it is so already."""
    spec, marks = spec_of(claim), annotations_of(claim)
    if spec.get("volumeName") == name_of(volume) and BIND_COMPLETED in marks:
        return None
    changed: Obj = copy_json(claim)
    if spec.get("volumeName") != name_of(volume):
        changed["spec"]["volumeName"] = name_of(volume)
        set_marks(changed, {BOUND_BY_CONTROLLER: "yes"})
    set_marks(changed, {BIND_COMPLETED: "yes"})
    return changed


def claim_status(claim: Obj, phase: str, volume: Obj | None = None) -> Obj | None:
    """The claim's new status, None where nothing changes. A bound claim shows what its volume has; growth is reported by who made the volume grow."""
    old = status_of(claim)
    new = {**old, "phase": phase}
    if volume is not None:
        new["accessModes"] = list(spec_of(volume).get("accessModes") or ())
        size = (spec_of(volume).get("capacity") or {}).get("storage")
        if size is not None and (old.get("phase") != "Bound" or not old.get("capacity")):
            new["capacity"] = {**(old.get("capacity") or {}), "storage": size}
    else:
        for field in ("accessModes", "capacity"):
            new.pop(field, None)
    return None if new == old else new
