"""Rows of nodes, events, configuration, volumes and access rules."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubeling.api.conditions import find_condition
from kubeling.api.meta import Object, annotations_of, is_deleting, labels_of, metadata_of, spec_of, status_of
from kubeling.api.printers.columns import (
    AGE,
    CREATED,
    NAME,
    NONE,
    UNKNOWN,
    UNSET,
    Cells,
    Column,
    Printer,
    name,
    since,
    wide,
)
from kubeling.api.times import age

_ROLE = "node-role.kubernetes.io/"


def _node(obj: Object, now: datetime) -> Cells:
    status = status_of(obj)
    ready = find_condition(status.get("conditions"), "Ready")
    state = "Unknown" if ready is None else ("Ready" if ready.get("status") == "True" else "NotReady")
    if spec_of(obj).get("unschedulable"):
        state += ",SchedulingDisabled"
    labels = labels_of(obj)
    roles = {key[len(_ROLE) :] for key in labels if key.startswith(_ROLE) and len(key) > len(_ROLE)}
    if labels.get("kubernetes.io/role"):
        roles.add(labels["kubernetes.io/role"])
    info = status.get("nodeInfo") or {}
    addresses = {each.get("type"): each.get("address") for each in reversed(status.get("addresses") or [])}
    return [
        name(obj),
        state,
        ",".join(sorted(roles)) or NONE,
        since(obj, now),
        info.get("kubeletVersion") or "",
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
        *(info.get(each) or UNKNOWN for each in ("osImage", "kernelVersion", "containerRuntimeVersion")),
    ]


NODE = Printer(
    (
        NAME,
        Column("Status", "Whether it is ready, and takes pods."),
        Column("Roles", "What it is for."),
        AGE,
        Column("Version", "Version of its kubelet."),
        wide("Internal-IP", "Its address inside the cluster."),
        wide("External-IP", "Its address outside of it."),
        wide("OS-Image", "Its operating system."),
        wide("Kernel-Version", "Its kernel."),
        wide("Container-Runtime", "Its container runtime."),
    ),
    _node,
)


def _event(obj: Object, now: datetime) -> Cells:
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    first_stamp = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last_stamp = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first_stamp
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    series = obj.get("series")
    if series:
        last_stamp, count = series.get("lastObservedTime") or last_stamp, series.get("count") or count
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    kind = (about.get("kind") or "").lower()
    return [
        age(last_stamp, now),
        obj.get("type") or "",
        obj.get("reason") or "",
        f"{kind}/{about['name']}" if about.get("name") else kind,
        about.get("fieldPath") or "",
        f"{component}, {host}" if host else component,
        (obj.get("message") or obj.get("note") or "").strip(),
        age(first_stamp, now),
        count,
        name(obj),
    ]


EVENT = Printer(
    (
        Column("Last Seen", "How long ago it was last seen."),
        Column("Type", "Normal or Warning."),
        Column("Reason", "What happened, in one word."),
        Column("Object", "What it is about."),
        wide("Subobject", "Which part of it."),
        wide("Source", "Who reports it."),
        Column("Message", "What happened, for people."),
        wide("First Seen", "How long ago it was first seen."),
        wide("Count", "How often it was seen."),
        Column("Name", "Name of the event.", format="name", wide=True),
    ),
    _event,
)


def _namespace(obj: Object, now: datetime) -> Cells:
    return [name(obj), status_of(obj).get("phase") or "", since(obj, now)]


NAMESPACE = Printer((NAME, Column("Status", "Active, or Terminating while it is emptied."), AGE), _namespace)


def _secret(obj: Object, now: datetime) -> Cells:
    return [name(obj), obj.get("type") or "", len(obj.get("data") or ()), since(obj, now)]


_DATA = Column("Data", "How many values it has.")
SECRET = Printer((NAME, Column("Type", "What the secret is for."), _DATA, AGE), _secret)


def _config_map(obj: Object, now: datetime) -> Cells:
    return [name(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), since(obj, now)]


CONFIG_MAP = Printer((NAME, _DATA, AGE), _config_map)


def _account(obj: Object, now: datetime) -> Cells:
    return [name(obj), len(obj.get("secrets") or ()), since(obj, now)]


SERVICE_ACCOUNT = Printer((NAME, Column("Secrets", "How many secrets it lists."), AGE), _account)


def _lease(obj: Object, now: datetime) -> Cells:
    return [name(obj), spec_of(obj).get("holderIdentity") or "", since(obj, now)]


LEASE = Printer((NAME, Column("Holder", "Who holds it."), AGE), _lease)


def _quota(obj: Object, now: datetime) -> Cells:
    hard = status_of(obj).get("hard") or spec_of(obj).get("hard") or {}
    used = status_of(obj).get("used") or {}
    shown = {key: f"{key}: {used.get(key, '0')}/{hard[key]}" for key in sorted(hard)}
    requests = ", ".join(text for key, text in shown.items() if not key.startswith("limits"))
    return [name(obj), requests, ", ".join(text for key, text in shown.items() if key.startswith("limits")), since(obj, now)]


QUOTA = Printer(
    (NAME, Column("Request", "Used and allowed amounts."), Column("Limit", "Used and allowed sums of limits."), AGE), _quota
)

_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_CLASS = "volume.beta.kubernetes.io/storage-class"


def _modes(found: list[str] | None) -> str:
    return ",".join(short for long, short in _MODES.items() if long in (found or ()))


def _phase(obj: Object) -> str:
    return "Terminating" if is_deleting(obj) else status_of(obj).get("phase") or ""


def _volume(obj: Object, now: datetime) -> Cells:
    spec, status = spec_of(obj), status_of(obj)
    claim = spec.get("claimRef")
    return [
        name(obj),
        (spec.get("capacity") or {}).get("storage") or "",
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        _phase(obj),
        f"{claim.get('namespace')}/{claim.get('name')}" if claim else "",
        annotations_of(obj).get(_CLASS) or spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        status.get("reason") or "",
        since(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


_STORAGE_CLASS = Column("StorageClass", "Its class.")
_ATTRIBUTES = Column("VolumeAttributesClass", "Its attributes' class.")
_VOLUME_MODE = wide("VolumeMode", "Filesystem or Block.")
VOLUME = Printer(
    (
        NAME,
        Column("Capacity", "Its size."),
        Column("Access Modes", "How it can be mounted."),
        Column("Reclaim Policy", "What becomes of it when its claim goes."),
        Column("Status", "Whether it is free, bound or released."),
        Column("Claim", "Whose it is."),
        _STORAGE_CLASS,
        _ATTRIBUTES,
        Column("Reason", "Why it failed."),
        AGE,
        _VOLUME_MODE,
    ),
    _volume,
)


def _claim(obj: Object, now: datetime) -> Cells:
    spec, status = spec_of(obj), status_of(obj)
    bound = bool(spec.get("volumeName"))
    return [
        name(obj),
        _phase(obj),
        spec.get("volumeName") or "",
        (status.get("capacity") or {}).get("storage") or "" if bound else "",
        _modes(status.get("accessModes")) if bound else "",
        annotations_of(obj).get(_CLASS) or spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or UNSET,
        since(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


CLAIM = Printer(
    (
        NAME,
        Column("Status", "Whether it has a volume."),
        Column("Volume", "Which."),
        Column("Capacity", "The volume's size."),
        Column("Access Modes", "How the volume is mounted."),
        _STORAGE_CLASS,
        _ATTRIBUTES,
        AGE,
        _VOLUME_MODE,
    ),
    _claim,
)


def _storage_class(obj: Object, now: datetime) -> Cells:
    default = annotations_of(obj).get("storageclass.kubernetes.io/is-default-class") == "true"
    return [
        f"{name(obj)} (default)" if default else name(obj),
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        since(obj, now),
    ]


STORAGE_CLASS = Printer(
    (
        NAME,
        Column("Provisioner", "Who makes the volumes."),
        Column("ReclaimPolicy", "What becomes of a volume whose claim goes."),
        Column("VolumeBindingMode", "When a volume is made."),
        Column("AllowVolumeExpansion", "Whether volumes can grow.", "boolean"),
        AGE,
    ),
    _storage_class,
)


def _created(obj: Object, now: datetime) -> Cells:
    return [name(obj), metadata_of(obj).get("creationTimestamp") or UNKNOWN]


OTHER_BUILTIN = Printer((NAME, CREATED), _created)


def _aged(obj: Object, now: datetime) -> Cells:
    return [name(obj), since(obj, now)]


CUSTOM = Printer((NAME, AGE), _aged)


def _binding(obj: Object, now: datetime) -> Cells:
    role = obj.get("roleRef") or {}
    subjects: list[dict[str, Any]] = obj.get("subjects") or []

    def those(kind: str) -> list[dict[str, Any]]:
        return [each for each in subjects if each.get("kind") == kind]

    return [
        name(obj),
        f"{role.get('kind')}/{role.get('name')}",
        since(obj, now),
        ", ".join(each.get("name") or "" for each in those("User")),
        ", ".join(each.get("name") or "" for each in those("Group")),
        ", ".join(f"{each.get('namespace')}/{each.get('name')}" for each in those("ServiceAccount")),
    ]


BINDING = Printer(
    (
        NAME,
        Column("Role", "The rights that are given."),
        AGE,
        wide("Users", "Users who get them."),
        wide("Groups", "Groups that get them."),
        wide("ServiceAccounts", "Service accounts that get them."),
    ),
    _binding,
)
