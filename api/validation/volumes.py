"""Volumes of a pod, and the sources that PersistentVolumes share with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kubeling.api import names
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value
from kubeling.api.validation.common import Errors, Map, amount, checked, in_range, one_of, positive_amount, present, required_name
from kubeling.api.validation.containers import no_backsteps, relative_path

_HOST_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")


def volumes(path: str, found: Iterable[Map]) -> Errors:
    """A pod's volumes: named, each of one kind."""
    seen: set[str] = set()
    for at, each in enumerate(found):
        where = f"{path}[{at}]"
        name = each.get("name")
        if not name:
            yield required_value(f"{where}.name")
        else:
            yield from checked(f"{where}.name", name, names.dns1123_label)
            if name in seen:
                yield duplicate_value(f"{where}.name", name)
            seen.add(name)
        yield from source(where, each, "name")


def source(path: str, found: Map, *others: str) -> Errors:
    """Exactly one volume source among the members (`others` are none)."""
    given = [name for name, value in found.items() if value is not None and name not in others]
    if not given:
        yield required_value(path, "must specify a volume type")
    for name in given[1:]:
        yield forbidden_value(f"{path}.{name}", "may not specify more than 1 volume type")
    if given and given[0] in _SOURCES:
        yield from _SOURCES[given[0]](f"{path}.{given[0]}", found[given[0]])


def _mode(path: str, value: int | None) -> Errors:
    if value is not None and not 0 <= value <= 0o777:
        yield invalid_value(path, value, "must be a number between 0 and 0777 (octal), both inclusive")


def _items(path: str, items: Iterable[Map] | None) -> Errors:
    for at, each in enumerate(items or ()):
        where = f"{path}[{at}]"
        yield from required_name(f"{where}.key", each.get("key"))
        if not each.get("path"):
            yield required_value(f"{where}.path")
        else:
            yield from relative_path(f"{where}.path", each["path"])
        yield from _mode(f"{where}.mode", each.get("mode"))


def _host_path(path: str, found: Map) -> Errors:
    value = found.get("path")
    if not value:
        yield required_value(f"{path}.path")
    else:
        yield from no_backsteps(f"{path}.path", value)
    if found.get("type") not in (None, *_HOST_PATH_TYPES):
        yield from one_of(f"{path}.type", found["type"], _HOST_PATH_TYPES)


def _config_map(path: str, found: Map) -> Errors:
    yield from required_name(f"{path}.name", found.get("name"))
    yield from _mode(f"{path}.defaultMode", found.get("defaultMode"))
    yield from _items(f"{path}.items", found.get("items"))


def _secret(path: str, found: Map) -> Errors:
    yield from required_name(f"{path}.secretName", found.get("secretName"))
    yield from _mode(f"{path}.defaultMode", found.get("defaultMode"))
    yield from _items(f"{path}.items", found.get("items"))


def _claim(path: str, found: Map) -> Errors:
    yield from required_name(f"{path}.claimName", found.get("claimName"))


def _downward(path: str, found: Map) -> Errors:
    yield from _mode(f"{path}.defaultMode", found.get("defaultMode"))
    for at, each in enumerate(found.get("items") or ()):
        where = f"{path}.items[{at}]" if "items" in found else path
        if not each.get("path"):
            yield required_value(f"{where}.path")
        else:
            yield from relative_path(f"{where}.path", each["path"])
        given = present(each, ("fieldRef", "resourceFieldRef"))
        if not given:
            yield required_value(where, "one of fieldRef and resourceFieldRef is required")
        elif len(given) > 1:
            yield invalid_value(where, each, "fieldRef and resourceFieldRef can not be specified simultaneously")


def _projected(path: str, found: Map) -> Errors:
    yield from _mode(f"{path}.defaultMode", found.get("defaultMode"))
    kinds = ("secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle")
    for at, each in enumerate(found.get("sources") or ()):
        where = f"{path}.sources[{at}]"
        given = present(each, kinds)
        if not given:
            yield required_value(where, "must specify one projected volume source")
        for name in given[1:]:
            yield forbidden_value(f"{where}.{name}", "may not specify more than 1 volume type per source")
        for name in given[:1]:
            inner = each[name]
            if name in ("secret", "configMap"):
                yield from required_name(f"{where}.{name}.name", inner.get("name"))
                yield from _items(f"{where}.{name}.items", inner.get("items"))
            elif name == "downwardAPI":
                yield from _downward(f"{where}.{name}", inner)
            elif name == "serviceAccountToken":
                yield from required_name(f"{where}.{name}.path", inner.get("path"))
                seconds = inner.get("expirationSeconds")
                if seconds is not None and seconds < 600:
                    detail = "may not specify a duration less than 10 minutes"
                    yield invalid_value(f"{where}.{name}.expirationSeconds", seconds, detail)


def _nfs(path: str, found: Map) -> Errors:
    yield from required_name(f"{path}.server", found.get("server"))
    value = found.get("path")
    yield from required_name(f"{path}.path", value)
    if value and not value.startswith("/"):
        yield invalid_value(f"{path}.path", value, "must be an absolute path")


def _csi(path: str, found: Map) -> Errors:
    yield from required_name(f"{path}.driver", found.get("driver"))


def _local(path: str, found: Map) -> Errors:
    value = found.get("path")
    if not value:
        yield required_value(f"{path}.path")
    else:
        yield from no_backsteps(f"{path}.path", value)


def _empty_dir(path: str, found: Map) -> Errors:
    if found.get("sizeLimit") is not None:
        yield from amount(f"{path}.sizeLimit", found["sizeLimit"])


def _iscsi(path: str, found: Map) -> Errors:
    for field in ("targetPortal", "iqn"):
        yield from required_name(f"{path}.{field}", found.get(field))
    yield from in_range(f"{path}.lun", found.get("lun"), 0, 255)


def _ephemeral(path: str, found: Map) -> Errors:
    template = found.get("volumeClaimTemplate")
    if not template:
        yield required_value(f"{path}.volumeClaimTemplate")
    else:
        yield from claim_spec(f"{path}.volumeClaimTemplate.spec", template.get("spec") or {})


_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def access_modes(path: str, modes: list[str] | None) -> Errors:
    """Known, and at least one."""
    if not modes:
        yield required_value(path, "at least 1 access mode is required")
    for each in modes or ():
        if each not in _MODES:
            yield from one_of(path, each, _MODES)
    if modes and "ReadWriteOncePod" in modes and len(modes) > 1:
        yield forbidden_value(path, "may not use ReadWriteOncePod with other access modes")


def claim_spec(path: str, spec: Map) -> Errors:
    """What a claim asks for."""
    yield from access_modes(f"{path}.accessModes", spec.get("accessModes"))
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        yield required_value(f"{path}.resources[storage]")
    else:
        yield from positive_amount(f"{path}.resources[storage]", storage)
    if spec.get("storageClassName"):
        yield from checked(f"{path}.storageClassName", spec["storageClassName"], names.dns1123_subdomain)
    yield from one_of(f"{path}.volumeMode", spec.get("volumeMode"), ("Block", "Filesystem"), required=False)


_SOURCES: dict[str, Callable[[str, Map], Errors]] = {
    "hostPath": _host_path,
    "configMap": _config_map,
    "secret": _secret,
    "persistentVolumeClaim": _claim,
    "downwardAPI": _downward,
    "projected": _projected,
    "nfs": _nfs,
    "csi": _csi,
    "local": _local,
    "emptyDir": _empty_dir,
    "iscsi": _iscsi,
    "ephemeral": _ephemeral,
}
