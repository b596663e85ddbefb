"""CSI drivers, what they are on nodes, how much room they have, and the attachment of volumes."""

from __future__ import annotations

from kubeling.api import names
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value, too_long_value, unsupported_value
from kubeling.api.meta import Object, spec_of, status_of
from kubeling.api.validation.common import IMMUTABLE, Errors, amount, checked, in_range, label_selector, unchanged
from kubeling.api.validation.volumes import driver_name

_MAX_NODE_ID, _MAX_METADATA = 192, 256 * 1024
_MAX_MESSAGE = 1024
_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_MODES = ("Persistent", "Ephemeral")


def csi_driver(obj: Object) -> Errors:
    """CSIDriver."""
    spec = spec_of(obj)
    yield from driver_name("metadata.name", (obj.get("metadata") or {}).get("name"))
    for field in ("attachRequired", "podInfoOnMount", "storageCapacity"):
        if spec.get(field) is None:
            yield required_value(f"spec.{'attachedRequired' if field == 'attachRequired' else field}")
    policy = spec.get("fsGroupPolicy")
    if policy is not None and policy not in _GROUP_POLICIES:
        yield unsupported_value("spec.fsGroupPolicy", policy, _GROUP_POLICIES)
    audiences: set[str] = set()
    for at, each in enumerate(spec.get("tokenRequests") or ()):
        path, audience = f"spec.tokenRequests[{at}]", each.get("audience") or ""
        if audience in audiences:
            yield duplicate_value(f"{path}.audience", audience)
        audiences.add(audience)
        seconds = each.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            yield invalid_value(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        elif seconds is not None and seconds > 1 << 32:
            yield invalid_value(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    for each in spec.get("volumeLifecycleModes") or ():
        if each not in _MODES:
            yield unsupported_value("spec.volumeLifecycleModes", each, _MODES)


def csi_driver_update(new: Object, old: Object) -> Errors:
    """What pods have been started by stays."""
    for field, shown in (("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")):
        yield from unchanged(f"spec.{shown}", spec_of(new).get(field), spec_of(old).get(field))


def csi_node(obj: Object) -> Errors:
    """CSINode."""
    seen: set[str] = set()
    for at, each in enumerate(spec_of(obj).get("drivers") or ()):
        path, name, node = f"spec.drivers[{at}]", each.get("name"), each.get("nodeID") or ""
        yield from driver_name(f"{path}.name", name)
        if not node:
            yield required_value(f"{path}.nodeID")
        elif len(node) > _MAX_NODE_ID:
            yield invalid_value(f"{path}.nodeID", node, f"must be {_MAX_NODE_ID} characters or less")
        count = (each.get("allocatable") or {}).get("count")
        if count is not None and count < 0:
            yield invalid_value(f"{path}.allocatable.count", count, "must be greater than or equal to 0")
        keys: set[str] = set()
        for key in each.get("topologyKeys") or ():
            if key in keys:
                yield duplicate_value(f"{path}.topologyKeys", key)
            keys.add(key)
            yield from checked(f"{path}.topologyKeys", key, names.qualified_name)
        if name in seen:
            yield duplicate_value(f"{path}.name", name)
        seen.add(name or "")


def csi_node_update(new: Object, old: Object) -> Errors:
    """A driver that is there is taken away and added, not changed, but for how many volumes it takes."""
    before = {each.get("name"): each for each in spec_of(old).get("drivers") or ()}
    for each in spec_of(new).get("drivers") or ():
        former = before.get(each.get("name"))
        if former is not None and any(former.get(field) != each.get(field) for field in ("nodeID", "topologyKeys")):
            yield invalid_value("CSINodeDriver", each, IMMUTABLE)


def csi_storage_capacity(obj: Object) -> Errors:
    """CSIStorageCapacity."""
    yield from label_selector("nodeTopology", obj.get("nodeTopology"))
    yield from checked("storageClassName", obj.get("storageClassName") or "", names.dns1123_subdomain)
    for field in ("capacity", "maximumVolumeSize"):
        if obj.get(field) is not None:
            yield from amount(field, obj[field])


def csi_storage_capacity_update(new: Object, old: Object) -> Errors:
    """Whose room it is stays."""
    yield from unchanged("nodeTopology", new.get("nodeTopology"), old.get("nodeTopology"))
    yield from unchanged("storageClassName", new.get("storageClassName"), old.get("storageClassName"))


def volume_attachment(obj: Object) -> Errors:
    """VolumeAttachment."""
    spec = spec_of(obj)
    yield from driver_name("spec.attacher", spec.get("attacher"))
    source = spec.get("source") or {}
    inline, name = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    if inline is None and name is None:
        yield required_value("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
    elif inline is not None and name is not None:
        yield forbidden_value("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
    elif name is not None:
        if not name:
            yield required_value("spec.source.persistentVolumeName", "must specify non empty persistentVolumeName")
        else:
            yield from checked("spec.source.persistentVolumeName", name, names.dns1123_subdomain)
    elif inline is not None:
        from kubeling.api.validation.storage import volume_spec

        yield from volume_spec("spec.source.inlineVolumeSpec", inline, inline=True)
    node = spec.get("nodeName")
    yield from checked("spec.nodeName", node or "", names.dns1123_subdomain)


def volume_attachment_update(new: Object, old: Object) -> Errors:
    """What is attached where stays."""
    yield from volume_attachment_status(new, old)
    yield from unchanged("spec", spec_of(new), spec_of(old))


def volume_attachment_status(new: Object, old: Object) -> Errors:
    """What a driver may write."""
    status = status_of(new)
    metadata = status.get("attachmentMetadata") or {}
    if sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items()) > _MAX_METADATA:
        yield too_long_value("status.attachmentMetadata", _MAX_METADATA)
    for field in ("attachError", "detachError"):
        message = (status.get(field) or {}).get("message") or ""
        if len(message) > _MAX_MESSAGE:
            yield too_long_value(f"status.{field}.message", _MAX_MESSAGE)
        code = (status.get(field) or {}).get("errorCode")
        yield from in_range(f"status.{field}.errorCode", code, 0, (1 << 31) - 1)
