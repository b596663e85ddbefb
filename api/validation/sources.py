"""Volume sources of particular vendors and networks, which few clusters see: loaded when there is one.

`SHARED` are the ones that pods have (PersistentVolumes mostly, too); `PERSISTENT` are those of which a PersistentVolume has more to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kubeling.api import names
from kubeling.api.errors import invalid_value, required_value, unsupported_value
from kubeling.api.validation.common import Errors, Map, checked, in_range, required_name
from kubeling.api.validation.mounts import relative_path
from kubeling.api.validation.volumes import driver_name

Check = Callable[[str, Map], Errors]
_PAIRS = "must be a host:port pair or multiple pairs separated by commas"
_INITIATORS = (
    ("iqn", re.compile(r"iqn\.\d{4}-\d{2}\.([a-z0-9.-]*[a-z0-9])(:[^,;*&$|\s]+)?", re.IGNORECASE)),
    ("eui", re.compile(r"eui\.[0-9a-f]{16}", re.IGNORECASE)),
    ("naa", re.compile(r"naa\.[0-9a-f]{16}([0-9a-f]{16})?", re.IGNORECASE)),
)
_DISK = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"


def _needs(*fields: str, more: Check | None = None) -> Check:
    """These members are not empty; and then something else."""

    def check(path: str, found: Map) -> Errors:
        for field in fields:
            yield from required_name(f"{path}.{field}", found.get(field))
        if more:
            yield from more(path, found)

    return check


def _partition(path: str, found: Map) -> Errors:
    yield from in_range(f"{path}.partition", found.get("partition"), 0, 255)


def _git(path: str, found: Map) -> Errors:
    yield from relative_path(f"{path}.directory", found.get("directory") or "")


def _iqn(path: str, name: str) -> Errors:
    for prefix, form in _INITIATORS:
        if name.startswith(prefix):
            if not form.fullmatch(name):
                yield invalid_value(path, name, "must be valid format")
            return
    yield invalid_value(path, name, "must be valid format starting with iqn, eui, or naa")


def _iscsi(path: str, found: Map) -> Errors:
    if found.get("iqn"):
        yield from _iqn(f"{path}.iqn", found["iqn"])
    yield from in_range(f"{path}.lun", found.get("lun"), 0, 255)
    if (found.get("chapAuthDiscovery") or found.get("chapAuthSession")) and found.get("secretRef") is None:
        yield required_value(f"{path}.secretRef")
    if found.get("initiatorName") is not None:
        yield from _iqn(f"{path}.initiatorname", found["initiatorName"])


def _fibre(path: str, found: Map) -> Errors:
    targets, ids = found.get("targetWWNs"), found.get("wwids")
    if not targets and not ids:
        yield required_value(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both")
    if targets and ids:
        yield invalid_value(f"{path}.targetWWNs", targets, "targetWWNs and wwids can not be specified simultaneously")
    if targets:
        if found.get("lun") is None:
            yield required_value(f"{path}.lun", "lun is required if targetWWNs is specified")
        else:
            yield from in_range(f"{path}.lun", found["lun"], 0, 255)


def _quobyte(path: str, found: Map) -> Errors:
    registry = found.get("registry")
    if not registry:
        yield required_value(f"{path}.registry", _PAIRS)
    elif len(found.get("tenant") or "") >= 65:
        yield required_value(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters")
    else:
        for pair in registry.split(","):
            if ":" not in pair:
                yield invalid_value(f"{path}.registry", registry, _PAIRS)
    yield from required_name(f"{path}.volume", found.get("volume"))


def _flocker(path: str, found: Map) -> Errors:
    name, uuid = found.get("datasetName"), found.get("datasetUUID")
    if not name and not uuid:
        yield required_value(path, "one of datasetName and datasetUUID is required")
    if name and uuid:
        yield invalid_value(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")
    if name and "/" in name:
        yield invalid_value(f"{path}.datasetName", name, "must not contain '/'")


def _flex(path: str, found: Map) -> Errors:
    for key in found.get("options") or ():
        domain = "." + key.partition("/")[0].lower()
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            yield invalid_value(f"{path}.options[{key}]", key, "kubernetes.io and k8s.io namespaces are reserved")


def _azure_disk(path: str, found: Map) -> Errors:
    for field, allowed in (("cachingMode", ("None", "ReadOnly", "ReadWrite")), ("kind", ("Dedicated", "Managed", "Shared"))):
        if found.get(field) is not None and found[field] not in allowed:
            yield unsupported_value(f"{path}.{field}", found[field], allowed)
    kind, uri = found.get("kind"), found.get("diskURI") or ""
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        yield unsupported_value(f"{path}.diskURI", uri, (_DISK,))
    elif kind is not None and kind != "Managed" and not uri.startswith("https://"):
        yield unsupported_value(f"{path}.diskURI", uri, (_BLOB,))


def _storage_os(path: str, found: Map) -> Errors:
    for field in ("volumeName", "volumeNamespace"):
        if found.get(field):
            yield from checked(f"{path}.{field}", found[field], names.dns1123_label)
    yield from _secret(path, found)


def _secret(path: str, found: Map) -> Errors:
    if found.get("secretRef") is not None:
        yield from required_name(f"{path}.secretRef.name", found["secretRef"].get("name"))


def _secret_elsewhere(path: str, found: Map) -> Errors:
    yield from _secret(path, found)
    if found.get("secretRef") is not None:
        yield from required_name(f"{path}.secretRef.namespace", found["secretRef"].get("namespace"))


def _glusterfs(path: str, found: Map) -> Errors:
    space = found.get("endpointsNamespace")
    if space == "":
        detail = "if the endpointnamespace is set, it must be a valid namespace name"
        yield invalid_value(f"{path}.endpointsNamespace", space, detail)
    elif space is not None:
        yield from checked(f"{path}.endpointsNamespace", space, names.dns1123_label)


def _azure_file(path: str, found: Map) -> Errors:
    if found.get("secretNamespace") == "":
        yield required_value(f"{path}.secretNamespace")


def _storage_os_elsewhere(path: str, found: Map) -> Errors:
    yield from _storage_os(path, {**found, "secretRef": None})
    yield from _secret_elsewhere(path, found)


def _iscsi_persistent(path: str, found: Map) -> Errors:
    yield from _iscsi(path, found)
    yield from _secret(path, found)


def _csi(path: str, found: Map) -> Errors:
    yield from driver_name(f"{path}.driver", found.get("driver"))
    yield from required_name(f"{path}.volumeHandle", found.get("volumeHandle"))
    for field in ("controllerPublish", "controllerExpand", "nodePublish", "nodeExpand"):
        secret = found.get(f"{field}SecretRef")
        if secret is not None:
            where = f"{path}.{field}SecretRef"
            yield from required_name(f"{where}.name", secret.get("name"), names.dns1123_subdomain)
            yield from required_name(f"{where}.namespace", secret.get("namespace"), names.dns1123_label)


SHARED: dict[str, Check] = {
    "gitRepo": _needs("repository", more=_git),
    "gcePersistentDisk": _needs("pdName", more=_partition),
    "awsElasticBlockStore": _needs("volumeID", more=_partition),
    "iscsi": _needs("targetPortal", "iqn", more=_iscsi),
    "glusterfs": _needs("endpoints", "path"),
    "flocker": _flocker,
    "rbd": _needs("monitors", "image"),
    "cinder": _needs("volumeID", more=_secret),
    "cephfs": _needs("monitors"),
    "quobyte": _quobyte,
    "fc": _fibre,
    "flexVolume": _needs("driver", more=_flex),
    "azureFile": _needs("secretName", "shareName"),
    "vsphereVolume": _needs("volumePath"),
    "photonPersistentDisk": _needs("pdID"),
    "portworxVolume": _needs("volumeID"),
    "azureDisk": _needs("diskName", "diskURI", more=_azure_disk),
    "storageos": _needs("volumeName", more=_storage_os),
    "scaleIO": _needs("gateway", "system", "volumeName"),
}
PERSISTENT: dict[str, Check] = {
    "csi": _csi,
    "glusterfs": _needs("endpoints", "path", more=_glusterfs),
    "cinder": _needs("volumeID", more=_secret_elsewhere),
    "iscsi": _needs("targetPortal", "iqn", more=_iscsi_persistent),
    "azureFile": _needs("secretName", "shareName", more=_azure_file),
    "storageos": _needs("volumeName", more=_storage_os_elsewhere),
}
