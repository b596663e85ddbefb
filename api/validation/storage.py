"""StorageClasses, PersistentVolumes and their claims."""

from __future__ import annotations

from typing import Any

from kubeling.api import names, quantity
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value, too_long_value
from kubeling.api.meta import Object, spec_of, status_of
from kubeling.api.validation.common import Errors, checked, label_selector, one_of, positive_amount, required_name, unchanged
from kubeling.api.validation.scheduling import node_selector
from kubeling.api.validation.volumes import access_modes, claim_spec, source

_MAX_PARAMETERS, _MAX_SIZE = 512, 256 * 1024


def storage_class(obj: Object) -> Errors:
    """StorageClass."""
    yield from required_name("provisioner", obj.get("provisioner"))
    yield from one_of("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain"))
    yield from one_of("volumeBindingMode", obj.get("volumeBindingMode"), ("Immediate", "WaitForFirstConsumer"))
    if obj.get("provisioner"):
        yield from checked("provisioner", obj["provisioner"].lower(), names.qualified_name)
    parameters = obj.get("parameters") or {}
    if len(parameters) > _MAX_PARAMETERS:
        yield too_long_value("parameters", _MAX_PARAMETERS)
    if "" in parameters:
        yield invalid_value("parameters", "", "field can not be empty.")
    if sum(len(key) + len(value) for key, value in parameters.items()) > _MAX_SIZE:
        yield too_long_value("parameters", _MAX_SIZE)
    seen: list[Any] = []
    for at, term in enumerate(obj.get("allowedTopologies") or ()):
        path = f"allowedTopologies[{at}]"
        for index, each in enumerate(term.get("matchLabelExpressions") or ()):
            where = f"{path}.matchLabelExpressions[{index}]"
            yield from checked(f"{where}.key", each.get("key") or "", names.qualified_name)
            if not each.get("values"):
                yield required_value(f"{where}.values")
            for number, value in enumerate(each.get("values") or ()):
                if value in each["values"][:number]:
                    yield duplicate_value(f"{where}.values[{number}]", value)
        if term in seen:
            yield duplicate_value(f"{path}.matchLabelExpressions", "")
        seen.append(term)


def storage_class_update(new: Object, old: Object) -> Errors:
    """Only what does not describe the volumes may change."""
    if (new.get("parameters") or {}) != (old.get("parameters") or {}):
        yield forbidden_value("parameters", "updates to parameters are forbidden.")
    if new.get("provisioner") != old.get("provisioner"):
        yield forbidden_value("provisioner", "updates to provisioner are forbidden.")
    if new.get("reclaimPolicy") != old.get("reclaimPolicy"):
        yield forbidden_value("reclaimPolicy", "updates to reclaimPolicy are forbidden.")
    yield from unchanged("volumeBindingMode", new.get("volumeBindingMode"), old.get("volumeBindingMode"))


_VOLUME_FIELDS = (
    "capacity",
    "accessModes",
    "claimRef",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "mountOptions",
    "volumeMode",
    "nodeAffinity",
    "volumeAttributesClassName",
)


def persistent_volume(obj: Object) -> Errors:
    """PersistentVolume."""
    spec = spec_of(obj)
    yield from access_modes("spec.accessModes", spec.get("accessModes"))
    capacity = spec.get("capacity") or {}
    if not capacity:
        yield required_value("spec.capacity")
    elif "storage" not in capacity or len(capacity) > 1:
        yield from one_of("spec.capacity", ",".join(sorted(capacity)), ("storage",))
    for name, value in capacity.items():
        yield from positive_amount(f"spec.capacity[{name}]", value)
    policy = spec.get("persistentVolumeReclaimPolicy")
    yield from one_of("spec.persistentVolumeReclaimPolicy", policy, ("Delete", "Recycle", "Retain"), required=False)
    yield from source("spec", spec, *_VOLUME_FIELDS)
    if (spec.get("hostPath") or {}).get("path") == "/" and policy == "Recycle":
        yield forbidden_value("spec.persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'")
    wanted = (spec.get("nodeAffinity") or {}).get("required")
    if wanted is not None:
        yield from node_selector("spec.nodeAffinity.required", wanted)
    elif spec.get("local") is not None:
        yield required_value("spec.nodeAffinity", "Local volume requires node affinity")


def persistent_volume_update(new: Object, old: Object) -> Errors:
    """Where the data is stays."""
    after = {key: value for key, value in spec_of(new).items() if key not in _VOLUME_FIELDS}
    before = {key: value for key, value in spec_of(old).items() if key not in _VOLUME_FIELDS}
    if after != before:
        yield forbidden_value("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation")
    yield from unchanged("spec.volumeMode", spec_of(new).get("volumeMode"), spec_of(old).get("volumeMode"))


def persistent_volume_claim(obj: Object) -> Errors:
    """PersistentVolumeClaim."""
    yield from label_selector("spec.selector", spec_of(obj).get("selector"))
    yield from claim_spec("spec", spec_of(obj))


def persistent_volume_claim_update(new: Object, old: Object) -> Errors:
    """A claim may be bound and may grow."""
    after, before = dict(spec_of(new)), dict(spec_of(old))
    if not before.get("volumeName"):
        before["volumeName"] = after.get("volumeName")
    if before.get("storageClassName") is None:
        before["storageClassName"] = after.get("storageClassName")
    for spec in (after, before):
        for field in ("resources", "volumeAttributesClassName"):
            spec.pop(field, None)
    bare = ({key: value for key, value in spec.items() if value is not None} for spec in (after, before))
    first, second = bare
    if first != second:
        detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        yield forbidden_value("spec", detail)
        return
    wanted = ((spec_of(new).get("resources") or {}).get("requests") or {}).get("storage")
    held = ((spec_of(old).get("resources") or {}).get("requests") or {}).get("storage")
    if wanted is None or held is None or wanted == held:
        return
    if status_of(old).get("phase") != "Bound":
        detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        yield forbidden_value("spec", detail)
    elif quantity.compare(wanted, held) < 0:
        least = (status_of(old).get("capacity") or {}).get("storage", held)
        if quantity.compare(wanted, least) < 0:
            detail = "field can not be less than status.capacity"
            yield forbidden_value("spec.resources.requests.storage", detail)
