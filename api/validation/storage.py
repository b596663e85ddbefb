"""StorageClasses, PersistentVolumes and their claims."""

from __future__ import annotations

import posixpath
from typing import Any

from kubeling.api import names, quantity
from kubeling.api.errors import (
    duplicate_value,
    forbidden_value,
    invalid_value,
    required_value,
    too_long_value,
    unsupported_value,
)
from kubeling.api.meta import Object, copy_json, spec_of, status_of
from kubeling.api.validation.common import Errors, Map, checked, one_of, positive_amount, required_name, unchanged
from kubeling.api.validation.scheduling import node_selector
from kubeling.api.validation.volumes import access_modes, claim_spec, source

_MAX_PARAMETERS, _MAX_SIZE = 512, 256 * 1024


def storage_class(obj: Object) -> Errors:
    """StorageClass."""
    yield from required_name("provisioner", obj.get("provisioner"))
    yield from one_of("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain"), required=False)
    mode = obj.get("volumeBindingMode")
    if mode is None:
        yield required_value("volumeBindingMode")
    elif mode not in ("Immediate", "WaitForFirstConsumer"):
        yield unsupported_value("volumeBindingMode", mode, ("Immediate", "WaitForFirstConsumer"))
    if obj.get("provisioner"):
        for message in names.qualified_name(obj["provisioner"].lower()):
            yield invalid_value("provisioner", obj["provisioner"].lower(), message)
    parameters = obj.get("parameters") or {}
    if len(parameters) > _MAX_PARAMETERS:
        yield too_long_value("parameters", _MAX_PARAMETERS)
    if "" in parameters:
        yield invalid_value("parameters", "", "field can not be empty.")
    if sum(len(key) + len(value) for key, value in parameters.items()) > _MAX_SIZE:
        yield too_long_value("parameters", _MAX_SIZE)
    seen: list[Any] = []
    for at, term in enumerate(obj.get("allowedTopologies") or ()):
        path, keys = f"allowedTopologies[{at}]", set()
        for index, each in enumerate(term.get("matchLabelExpressions") or ()):
            where = f"{path}.matchLabelExpressions[{index}]"
            yield from checked(f"{where}.key", each.get("key") or "", names.qualified_name)
            if not each.get("values"):
                yield required_value(f"{where}.values")
            for number, value in enumerate(each.get("values") or ()):
                if value in each["values"][:number]:
                    yield duplicate_value(f"{where}.values[{number}]", value)
            if each.get("key") in keys:
                yield duplicate_value(f"{where}.key", each.get("key") or "")
            keys.add(each.get("key"))
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
    yield from volume_spec("spec", spec_of(obj))


def volume_spec(path: str, spec: Map, *, inline: bool = False) -> Errors:
    """What a volume is. One that stands within an attachment (`inline`) says less of itself."""
    yield from access_modes(f"{path}.accessModes", spec.get("accessModes"), "")
    policy = spec.get("persistentVolumeReclaimPolicy") or ""
    if inline:
        yield from _inline(path, spec)
    else:
        yield from _capacity(f"{path}.capacity", spec.get("capacity") or {})
        yield from one_of(f"{path}.persistentVolumeReclaimPolicy", policy, ("Delete", "Recycle", "Retain"), required=False)
        if spec.get("storageClassName"):
            yield from checked(f"{path}.storageClassName", spec["storageClassName"], names.dns1123_subdomain)
        mode = spec.get("volumeMode")
        if mode is not None and mode not in ("Block", "Filesystem"):
            yield unsupported_value(f"{path}.volumeMode", mode, ("Block", "Filesystem"))
    placed = spec.get("nodeAffinity")
    if placed is not None and not inline:
        if placed.get("required") is None:
            yield required_value(f"{path}.nodeAffinity.required", "must specify required node constraints")
        else:
            yield from node_selector(f"{path}.nodeAffinity.required", placed["required"])
    yield from source(path, spec, *_VOLUME_FIELDS)
    if spec.get("local") is not None and placed is None:
        yield required_value(f"{path}.nodeAffinity", "Local volume requires node affinity")
    place = (spec.get("hostPath") or {}).get("path")
    if place and posixpath.normpath(place).lstrip("/") == "" and policy == "Recycle":
        yield forbidden_value(f"{path}.persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'")


def _capacity(path: str, capacity: Map) -> Errors:
    if not capacity:
        yield required_value(path)
    if "storage" not in capacity or len(capacity) > 1:
        yield unsupported_value(path, capacity, ("storage",))
    for name, value in capacity.items():
        yield from positive_amount(f"{path}[{name}]", value)


def _inline(path: str, spec: Map) -> Errors:
    context = "in the context of inline volumes"
    for field in ("claimRef", "capacity", "nodeAffinity", "storageClassName"):
        if spec.get(field):
            yield forbidden_value(f"{path}.{field}", f"may not be specified {context}")
    if spec.get("csi") is None:
        yield required_value(f"{path}.csi", f"has to be specified {context}")
    if spec.get("persistentVolumeReclaimPolicy") not in (None, "", "Retain"):
        yield forbidden_value(f"{path}.persistentVolumeReclaimPolicy", f"may only be Retain {context}")
    if spec.get("volumeMode") not in (None, "Filesystem"):
        yield forbidden_value(f"{path}.volumeMode", f"may not specify volumeMode other than Filesystem {context}")


_GENERAL = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}


def persistent_volume_update(new: Object, old: Object) -> Errors:
    """Where the data is stays."""
    after, before = _where(spec_of(new)), _where(spec_of(old))
    csi, held = after.get("csi"), before.get("csi")
    if csi and held and held.get("controllerExpandSecretRef") is None:
        after["csi"] = {key: value for key, value in csi.items() if key != "controllerExpandSecretRef"}
    if after != before:
        yield forbidden_value("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation")
    yield from unchanged("volumeMode", spec_of(new).get("volumeMode"), spec_of(old).get("volumeMode"))
    placed, former = spec_of(new).get("nodeAffinity"), spec_of(old).get("nodeAffinity")
    if former is not None and placed != former and _renamed(placed, placed) != _renamed(former, placed):
        yield invalid_value("nodeAffinity", placed, "field is immutable, except for updating from beta label to GA")


def _where(spec: Map) -> Map:
    return {key: value for key, value in spec.items() if key not in _VOLUME_FIELDS}


def _renamed(affinity: Map | None, other: Map | None) -> Any:
    """With the old names of labels exchanged for those that stand at the same place of the other."""
    found: Any = copy_json(affinity)
    theirs = ((other or {}).get("required") or {}).get("nodeSelectorTerms") or []
    for term, their in zip(((found or {}).get("required") or {}).get("nodeSelectorTerms") or [], theirs, strict=False):
        for field in ("matchExpressions", "matchFields"):
            for each, one in zip(term.get(field) or [], their.get(field) or [], strict=False):
                if _GENERAL.get(each.get("key")) == one.get("key"):
                    each["key"] = one.get("key")
    return found


def persistent_volume_claim(obj: Object) -> Errors:
    """PersistentVolumeClaim."""
    yield from claim_spec("spec", spec_of(obj))


_FIXED = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"


def persistent_volume_claim_update(new: Object, old: Object) -> Errors:
    """A claim may be bound and may grow; one whose growth has failed may wish for less again (KEP-1790)."""
    after, before = dict(spec_of(new)), dict(spec_of(old))
    if not before.get("volumeName"):
        before["volumeName"] = after.get("volumeName")
    if before.get("storageClassName") is None:
        before["storageClassName"] = after.get("storageClassName")
    if status_of(new).get("phase") == "Bound":
        after["resources"], before["resources"] = _unsized(after), _unsized(before)
        if after.get("volumeAttributesClassName") is not None:
            after["volumeAttributesClassName"] = before.get("volumeAttributesClassName")
    bare = ({key: value for key, value in spec.items() if value not in (None, {}, "")} for spec in (after, before))
    first, second = bare
    if first != second:
        yield forbidden_value("spec", _FIXED)
    wanted, held = (((spec_of(each).get("resources") or {}).get("requests") or {}).get("storage") for each in (new, old))
    if wanted is not None and held is not None and quantity.compare(wanted, held) < 0:
        real = (status_of(old).get("capacity") or {}).get("storage", "0")
        if quantity.compare(wanted, real) <= 0:
            detail = "field can not be less than status.capacity"
            yield forbidden_value("spec.resources.requests.storage", detail)
    yield from unchanged("volumeMode", spec_of(new).get("volumeMode"), spec_of(old).get("volumeMode"))


def _unsized(spec: Map) -> Map:
    resources = spec.get("resources") or {}
    requests = {key: value for key, value in (resources.get("requests") or {}).items() if key != "storage"}
    return {**resources, "requests": requests}
