"""Where a container's volumes stand: mounts in its file system, and block devices."""

from __future__ import annotations

from kubeling.api.errors import forbidden_value, invalid_value, not_found_value, required_value, unsupported_value
from kubeling.api.validation.common import Errors, Map

Volumes = dict[str, Map]
_PROPAGATION = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE = ("Disabled", "Enabled", "IfPossible")


def mounts(path: str, container: Map, volumes: Volumes) -> Errors:
    """volumeMounts: of volumes that there are, each at a place of its own."""
    seen: set[str] = set()
    devices = container.get("volumeDevices") or ()
    for at, each in enumerate(container["volumeMounts"]):
        where = f"{path}[{at}]"
        name, target = each.get("name") or "", each.get("mountPath") or ""
        if not name:
            yield required_value(f"{where}.name")
        if name not in volumes:
            yield not_found_value(f"{where}.name", name)
        if not target:
            yield required_value(f"{where}.mountPath")
        if target in seen:
            yield invalid_value(f"{where}.mountPath", target, "must be unique")
        seen.add(target)
        if any(device.get("name") == name for device in devices):
            yield invalid_value(f"{where}.name", name, "must not already exist in volumeDevices")
        if any(device.get("devicePath") == target for device in devices):
            yield invalid_value(f"{where}.mountPath", target, "must not already exist as a path in volumeDevices")
        yield from _below(path, where, each, volumes.get(name) or {})
        if each.get("mountPropagation") is not None:
            yield from _propagation(f"{path}.mountPropagation", each["mountPropagation"], container)
        if each.get("recursiveReadOnly") is not None:
            yield from _recursive(f"{path}.recursiveReadOnly", each)


def _below(path: str, where: str, each: Map, volume: Map) -> Errors:
    """subPath and subPathExpr, whose faults are found at the list and not at the element, as upstream has it."""
    for field in ("subPath", "subPathExpr"):
        if each.get(field):
            if volume.get("image") is not None:
                yield invalid_value(f"{where}.{field}", each[field], "not allowed in image volume sources")
            yield from relative_path(f"{path}.{field}", each[field])
    if each.get("subPath") and each.get("subPathExpr"):
        yield invalid_value(f"{where}.subPathExpr", each["subPathExpr"], "subPathExpr and subPath are mutually exclusive")


def _propagation(path: str, mode: str, container: Map) -> Errors:
    if mode not in _PROPAGATION:
        yield unsupported_value(path, mode, _PROPAGATION)
    if mode == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        yield forbidden_value(path, "Bidirectional mount propagation is available only to privileged containers")


def _recursive(path: str, mount: Map) -> Errors:
    mode = mount["recursiveReadOnly"]
    if mode not in _RECURSIVE:
        yield unsupported_value(path, mode, _RECURSIVE)
    elif mode != "Disabled":
        if not mount.get("readOnly"):
            yield forbidden_value(path, "may only be specified when readOnly is true")
        if mount.get("mountPropagation") not in (None, "None"):
            yield forbidden_value(path, "may only be specified when mountPropagation is None or not specified")


def devices(path: str, container: Map, volumes: Volumes) -> Errors:
    """volumeDevices: of claims, each at a place of its own."""
    mounted = container.get("volumeMounts") or ()
    seen_names: set[str] = set()
    seen: set[str] = set()
    for at, each in enumerate(container["volumeDevices"]):
        where = f"{path}[{at}]"
        name, target = each.get("name") or "", each.get("devicePath") or ""
        if not name:
            yield required_value(f"{where}.name")
        if name in seen_names:
            yield invalid_value(f"{where}.name", name, "must be unique")
        volume = volumes.get(name)
        if volume is None:
            yield not_found_value(f"{where}.name", name)
        elif volume.get("persistentVolumeClaim") is None and volume.get("ephemeral") is None:
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            yield invalid_value(f"{where}.name", name, detail)
        if not target:
            yield required_value(f"{where}.devicePath")
        if target in seen:
            yield invalid_value(f"{where}.devicePath", target, "must be unique")
        if ".." in target.split("/"):
            yield invalid_value(f"{where}.devicePath", target, "can not contain backsteps ('..')")
        else:
            seen.add(target)
        if any(mount.get("name") == name for mount in mounted):
            yield invalid_value(f"{where}.name", name, "must not already exist in volumeMounts")
        if any(mount.get("mountPath") == target for mount in mounted):
            yield invalid_value(f"{where}.devicePath", target, "must not already exist as a path in volumeMounts")
        if name:
            seen_names.add(name)


def relative_path(path: str, value: str) -> Errors:
    """A path that stays where it is put."""
    if value.startswith("/"):
        yield invalid_value(path, value, "must be a relative path")
    yield from no_backsteps(path, value)


def no_backsteps(path: str, value: str) -> Errors:
    """A path without '..'."""
    if ".." in value and ".." in value.split("/"):
        yield invalid_value(path, value, "must not contain '..'")


def file_path(path: str, value: str) -> Errors:
    """A file in a volume that is written anew: names that begin with '..' are the writer's own."""
    yield from relative_path(path, value)
    if value.startswith("..") and not value.startswith("../"):
        yield invalid_value(path, value, "must not start with '..'")
