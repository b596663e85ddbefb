"""Volumes of a pod, and the sources that PersistentVolumes share with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kubeling.api import names, quantity
from kubeling.api.errors import (
    duplicate_value,
    forbidden_value,
    invalid_value,
    required_value,
    too_long_value,
    unsupported_value,
)
from kubeling.api.validation.common import (
    Errors,
    Map,
    checked,
    label_map,
    label_selector,
    one_of,
    positive_amount,
    present,
    required_name,
)
from kubeling.api.validation.containers import field_ref, resource_field_ref
from kubeling.api.validation.mounts import file_path, no_backsteps
from kubeling.api.validation.objectmeta import annotation_map

_MAX_DRIVER = 63
_HOST_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")


def volumes(path: str, found: Iterable[Map], *, pod: str = "", of_pod: bool = False) -> Errors:
    """A pod's volumes: named, each of one kind. `pod` is the pod's name, where it has one."""
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
        claim = f"{pod}-{name}" if pod and name else ""
        yield from source(where, each, "name", of_pod=of_pod, claim=claim)


def source(path: str, found: Map, *others: str, of_pod: bool = False, claim: str = "") -> Errors:
    """Exactly one volume source among the members (`others` are none). `claim` is what a claim made for it would be called."""
    given = [name for name, value in found.items() if value is not None and name not in others]
    if not given:
        yield required_value(path, "must specify a volume type")
        return
    if len(given) > 1:
        given.sort(key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    for name in given[1:]:
        yield forbidden_value(f"{path}.{name}", "may not specify more than 1 volume type")
    kind = given[0]
    check = _SOURCES.get(kind)
    if check is None:
        from kubeling.api.validation.sources import PERSISTENT, SHARED

        check = SHARED.get(kind) if "name" in others else PERSISTENT.get(kind) or SHARED.get(kind)
    elif "name" not in others:
        from kubeling.api.validation.sources import PERSISTENT

        check = PERSISTENT.get(kind, check)
    if check is not None:
        yield from check(f"{path}.{kind}", found[kind])
    if kind == "image":
        if of_pod and not found[kind].get("reference"):
            yield required_value(f"{path}.image.reference")
        yield from one_of(f"{path}.image.pullPolicy", found[kind].get("pullPolicy"), ("Always", "IfNotPresent", "Never"))
    elif kind == "ephemeral" and claim:
        for message in names.dns1123_subdomain(claim):
            yield invalid_value(f"{path}.name", found.get("name"), f'PVC name "{claim}": {message}')


#: Of several sources the first counts, in this order.
_ORDER = (
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "local",
    "csi",
    "ephemeral",
    "image",
)


def _mode(path: str, value: int | None) -> Errors:
    if value is not None and not 0 <= value <= 0o777:
        yield invalid_value(path, value, "must be a number between 0 and 0777 (octal), both inclusive")


def _items(path: str, items: Iterable[Map] | None) -> Errors:
    for at, each in enumerate(items or ()):
        where = f"{path}[{at}]"
        yield from required_name(f"{where}.key", each.get("key"))
        if not each.get("path"):
            yield required_value(f"{where}.path")
        yield from file_path(f"{where}.path", each.get("path") or "")
        yield from _mode(f"{where}.mode", each.get("mode"))


def _host_path(path: str, found: Map) -> Errors:
    value = found.get("path")
    if not value:
        yield required_value(f"{path}.path")
    else:
        yield from no_backsteps(f"{path}.path", value)
    if found.get("type") not in (None, *_HOST_PATH_TYPES):
        yield unsupported_value(f"{path}.type", found["type"], _HOST_PATH_TYPES)


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


_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")


def _downward(path: str, found: Map) -> Errors:
    yield from _mode(f"{path}.defaultMode", found.get("defaultMode"))
    for each in found.get("items") or ():
        yield from _downward_file(path, each)


def _downward_file(path: str, each: Map) -> Errors:
    """Faults are found at the volume and not at the item, as upstream has it."""
    if not each.get("path"):
        yield required_value(f"{path}.path")
    yield from file_path(f"{path}.path", each.get("path") or "")
    field, resource = each.get("fieldRef"), each.get("resourceFieldRef")
    if field is not None:
        yield from field_ref(f"{path}.fieldRef", field, _FIELDS)
        if resource is not None:
            yield invalid_value(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif resource is not None:
        yield from resource_field_ref(f"{path}.resourceFieldRef", resource, in_volume=True)
    else:
        yield required_value(path, "one of fieldRef and resourceFieldRef is required")
    yield from _mode(f"{path}.mode", each.get("mode"))


_PROJECTED = ("secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle")


def _projected(path: str, found: Map) -> Errors:
    yield from _mode(f"{path}.defaultMode", found.get("defaultMode"))
    taken: set[str] = set()
    for at, each in enumerate(found.get("sources") or ()):
        where = f"{path}.sources[{at}]"
        given = present(each, _PROJECTED)
        for name in given:
            inner = each[name]
            if name in ("secret", "configMap"):
                yield from required_name(f"{where}.{name}.name", inner.get("name"))
                yield from _items(f"{where}.{name}.items", inner.get("items"))
                for item in inner.get("items") or ():
                    yield from _once(path, item.get("path"), taken, inner.get("name") or "")
            elif name == "downwardAPI":
                for item in inner.get("items") or ():
                    yield from _downward_file(f"{where}.{name}", item)
                    yield from _once(path, item.get("path"), taken, item.get("path") or "")
            elif name == "serviceAccountToken":
                yield from _token(path, f"{where}.{name}", inner)
            else:
                yield from _trust_bundle(f"{where}.{name}", inner)
                yield from _once(path, inner.get("path"), taken, inner.get("path") or "")
        if len(given) > 1:
            yield forbidden_value(where, "may not specify more than 1 volume type per source")


def _once(path: str, target: str | None, taken: set[str], shown: str) -> Errors:
    if target and target in taken:
        yield invalid_value(path, shown, "conflicting duplicate paths")
    taken.add(target or "")


def _token(path: str, where: str, found: Map) -> Errors:
    seconds = found.get("expirationSeconds") or 0
    if seconds < 600:
        yield invalid_value(f"{where}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    elif seconds > 1 << 32:
        yield invalid_value(f"{where}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    if not found.get("path"):
        yield required_value(f"{path}.path")
    else:
        yield from file_path(f"{path}.path", found["path"])


def _trust_bundle(path: str, found: Map) -> Errors:
    name, signer = found.get("name"), found.get("signerName")
    if name is not None and signer is not None:
        yield invalid_value(path, found, "only one of name and signerName may be used")
    elif name is not None:
        if not name:
            yield required_value(f"{path}.name", "must be a valid object name")
        if found.get("labelSelector") is not None:
            yield invalid_value(
                f"{path}.labelSelector", found["labelSelector"], "labelSelector must be unset if name is specified"
            )
    elif signer is not None:
        from kubeling.api.validation.certificates import signer_name

        if not signer:
            yield required_value(f"{path}.signerName", "must be a valid signer name")
        else:
            yield from signer_name(f"{path}.signerName", signer)
        yield from label_selector(f"{path}.labelSelector", found.get("labelSelector"))
    else:
        yield required_value(path, "either name or signerName must be specified")
    if not found.get("path"):
        yield required_value(f"{path}.path")
    yield from file_path(f"{path}.path", found.get("path") or "")


def _nfs(path: str, found: Map) -> Errors:
    yield from required_name(f"{path}.server", found.get("server"))
    value = found.get("path") or ""
    yield from required_name(f"{path}.path", value)
    if not value.startswith("/"):
        yield invalid_value(f"{path}.path", value, "must be an absolute path")


def driver_name(path: str, name: str | None) -> Errors:
    """The name of a CSI driver."""
    if not name:
        yield required_value(path)
    elif len(name) > _MAX_DRIVER:
        yield too_long_value(path, _MAX_DRIVER)
    for message in names.dns1123_subdomain((name or "").lower()):
        yield invalid_value(path, name or "", message)


def _csi(path: str, found: Map) -> Errors:
    yield from driver_name(f"{path}.driver", found.get("driver"))
    secret = found.get("nodePublishSecretRef")
    if secret is not None:
        if not secret.get("name"):
            yield required_value(f"{path}.nodePublishSecretRef.name")
        else:
            yield from checked(f"{path}.name", secret["name"], names.dns1123_subdomain)


def _local(path: str, found: Map) -> Errors:
    value = found.get("path")
    if not value:
        yield required_value(f"{path}.path")
    else:
        yield from no_backsteps(f"{path}.path", value)


def _empty_dir(path: str, found: Map) -> Errors:
    size = found.get("sizeLimit")
    if size is not None and quantity.is_quantity(size) and quantity.parse(size).nanos < 0:
        yield forbidden_value(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _ephemeral(path: str, found: Map) -> Errors:
    template, where = found.get("volumeClaimTemplate"), f"{path}.volumeClaimTemplate"
    if not template:
        yield required_value(where)
        return
    metadata = template.get("metadata") or {}
    yield from annotation_map(f"{where}.metadata.annotations", metadata.get("annotations"))
    yield from label_map(f"{where}.metadata.labels", metadata.get("labels"))
    for field, value in metadata.items():
        if field not in ("annotations", "labels") and value:
            yield forbidden_value(f"{where}.metadata.{field}", "cannot be set")
    yield from claim_spec(f"{where}.spec", template.get("spec") or {})


_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def access_modes(path: str, modes: list[str] | None, detail: str = "at least 1 access mode is required") -> Errors:
    """Known, and at least one."""
    if not modes:
        yield required_value(path, detail)
        return
    for each in modes:
        if each not in _MODES:
            yield unsupported_value(path, each, _MODES)
    if "ReadWriteOncePod" in modes and any(each in _MODES and each != "ReadWriteOncePod" for each in modes):
        yield forbidden_value(path, "may not use ReadWriteOncePod with other access modes")


def claim_spec(path: str, spec: Map) -> Errors:
    """What a claim asks for."""
    yield from access_modes(f"{path}.accessModes", spec.get("accessModes"))
    yield from label_selector(f"{path}.selector", spec.get("selector"))
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        yield required_value(f"{path}.resources[storage]")
    else:
        yield from positive_amount(f"{path}.resources[storage]", storage)
    if spec.get("storageClassName"):
        yield from checked(f"{path}.storageClassName", spec["storageClassName"], names.dns1123_subdomain)
    mode = spec.get("volumeMode")
    if mode is not None and mode not in ("Block", "Filesystem"):
        yield unsupported_value(f"{path}.volumeMode", mode, ("Block", "Filesystem"))
    origin, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    for field, found in (("dataSource", origin), ("dataSourceRef", reference)):
        if found is not None:
            yield from _data_source(f"{path}.{field}", found)
    if reference is not None and reference.get("namespace"):
        if origin is not None:
            detail = "may not be specified when dataSourceRef.namespace is specified"
            yield invalid_value(path, f"{path}.dataSource", detail)
    elif origin and reference and any(origin.get(field) != reference.get(field) for field in ("apiGroup", "kind", "name")):
        yield invalid_value(path, f"{path}.dataSource", "must match dataSourceRef")


def _data_source(path: str, found: Map) -> Errors:
    group, kind = found.get("apiGroup") or "", found.get("kind") or ""
    yield from required_name(f"{path}.name", found.get("name"))
    yield from required_name(f"{path}.kind", kind)
    if not group and kind != "PersistentVolumeClaim":
        yield invalid_value(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
    if group:
        yield from checked(f"{path}.apiGroup", group, names.dns1123_subdomain)
    if found.get("namespace"):
        yield from checked(f"{path}.namespace", found["namespace"], names.dns1123_label)


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
    "ephemeral": _ephemeral,
}
