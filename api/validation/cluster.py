"""Configuration and cluster-wide policy: ConfigMaps, Secrets, Namespaces, Nodes, classes, revisions."""

from __future__ import annotations

import base64
import json
from typing import Any

from kubeling.api import names, quantity
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value, too_long_value
from kubeling.api.meta import Object, annotations_of, name_of, spec_of, status_of
from kubeling.api.validation.common import QUOTA_COUNTS, Errors, amount, checked, label_map, one_of, unchanged
from kubeling.api.validation.scheduling import taints, tolerations

MAX_DATA = 1024 * 1024
_FROZEN = "field is immutable when `immutable` is set"


def config_map(obj: Object) -> Errors:
    """ConfigMap."""
    text, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    total = 0
    for key, value in text.items():
        yield from checked(f"data[{key}]", key, names.config_key)
        if key in binary:
            yield invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData")
        total += len(value.encode())
    for key, value in binary.items():
        yield from checked(f"binaryData[{key}]", key, names.config_key)
        total += len(value) * 3 // 4
    if total > MAX_DATA:
        yield too_long_value("[]", MAX_DATA)


def _frozen(new: Object, old: Object, *fields: str) -> Errors:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield forbidden_value("immutable", _FROZEN)
    for field in fields:
        if (new.get(field) or {}) != (old.get(field) or {}):
            yield forbidden_value(field, _FROZEN)


def config_map_update(new: Object, old: Object) -> Errors:
    """An immutable one stays as it is."""
    yield from _frozen(new, old, "data", "binaryData")


_SECRET_KEYS = {"kubernetes.io/dockercfg": ".dockercfg", "kubernetes.io/dockerconfigjson": ".dockerconfigjson"}
_ACCOUNT = "kubernetes.io/service-account.name"


def secret(obj: Object) -> Errors:
    """Secret."""
    data = obj.get("data") or {}
    for key in data:
        yield from checked(f"data[{key}]", key, names.config_key)
    if sum(len(value) * 3 // 4 for value in data.values()) > MAX_DATA:
        yield too_long_value("data", MAX_DATA)
    kind = obj.get("type") or ""
    if kind == "kubernetes.io/service-account-token" and not annotations_of(obj).get(_ACCOUNT):
        yield required_value(f"metadata.annotations[{_ACCOUNT}]")
    elif kind in _SECRET_KEYS:
        yield from _docker_config(_SECRET_KEYS[kind], data)
    elif kind == "kubernetes.io/basic-auth" and "username" not in data and "password" not in data:
        yield required_value("data[username]")
        yield required_value("data[password]")
    elif kind == "kubernetes.io/ssh-auth" and not data.get("ssh-privatekey"):
        yield required_value("data[ssh-privatekey]")
    elif kind == "kubernetes.io/tls":
        for key in ("tls.crt", "tls.key"):
            if key not in data:
                yield required_value(f"data[{key}]")


def _docker_config(key: str, data: dict[str, str]) -> Errors:
    if key not in data:
        yield required_value(f"data[{key}]")
        return
    text = base64.b64decode(data[key])
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        shown = (
            "unexpected end of JSON input"
            if not text.strip()
            else f"invalid character {_first(text)} looking for beginning of value"
        )
        yield invalid_value(f"data[{key}]", "<secret contents redacted>", shown)
        return
    if not isinstance(found, dict) and found is not None:
        kind = {str: "string", bool: "bool", list: "array"}.get(type(found), "number")
        detail = f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        yield invalid_value(f"data[{key}]", "<secret contents redacted>", detail)


def _first(text: bytes) -> str:
    """The first character as Go quotes it."""
    found = text.lstrip()[:1]
    return repr(found.decode("latin-1"))


def secret_update(new: Object, old: Object) -> Errors:
    """The type stays; an immutable one stays altogether."""
    yield from unchanged("type", new.get("type"), old.get("type"))
    yield from _frozen(new, old, "data")


def namespace(obj: Object) -> Errors:
    """Namespace."""
    for each in spec_of(obj).get("finalizers") or ():
        yield from finalizer("spec.finalizers", each)


def finalizer(path: str, name: str) -> Errors:
    """Of a namespace's own: with a domain, or one of the old ones."""
    faults = list(checked(path, name, names.qualified_name))
    yield from faults
    if not faults and "/" not in name and name not in ("kubernetes", "orphan", "foregroundDeletion"):
        yield invalid_value(path, name, "name is neither a standard finalizer name nor is it fully qualified")


def node(obj: Object) -> Errors:
    """Node, new or changed, through whichever door."""
    spec, status = spec_of(obj), status_of(obj)
    yield from taints("metadata.taints", spec.get("taints") or ())
    for field in ("capacity", "allocatable"):
        for name, value in (status.get(field) or {}).items():
            path = f"status.{field}.{name}"
            yield from amount(path, value)
            if is_whole(name) and quantity.is_quantity(value) and quantity.parse(value).milli % 1000:
                yield invalid_value(path, value, "must be an integer")
    ranges = spec.get("podCIDRs") or []
    for at, each in enumerate(ranges):
        yield from checked(f"spec.podCIDRs[{at}]", each, names.cidr)
        if each in ranges[:at]:
            yield duplicate_value(f"spec.podCIDRs[{at}]", each)
    if len(ranges) > 2 or (len(ranges) == 2 and (":" in ranges[0]) == (":" in ranges[1])):
        yield invalid_value("spec.podCIDRs", ranges, "may specify no more than one CIDR for each IP family")


def is_whole(name: str) -> bool:
    """Resources of which there are no fractions: pods, devices, what quotas count."""
    return name in QUOTA_COUNTS or not ("/" not in name or "kubernetes.io/" in name)


def node_update(new: Object, old: Object) -> Errors:
    """A node's pod addresses and provider stay once they are given."""
    after, before = spec_of(new), spec_of(old)
    seen: list[Any] = []
    for at, each in enumerate(status_of(new).get("addresses") or ()):
        if each in seen:
            yield duplicate_value(f"status.addresses[{at}]", each)
        seen.append(each)
    if before.get("podCIDRs") and after.get("podCIDRs") != before["podCIDRs"]:
        yield forbidden_value("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
    if before.get("providerID") and after.get("providerID") != before["providerID"]:
        yield forbidden_value("spec.providerID", 'node updates may not change providerID except from "" to valid')


def node_status(new: Object, old: Object) -> Errors:
    """What the kubelet reports."""
    yield from node(new)
    yield from node_update(new, old)


def priority_class(obj: Object) -> Errors:
    """PriorityClass."""
    value = obj.get("value") or 0
    known = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
    if name_of(obj).startswith("system-"):
        name, why = name_of(obj), ""
        if name not in known:
            why = f"{name} is not a known system priority class"
        elif known[name] != value:
            why = f"value of {name} PriorityClass must be {known[name]}"
        elif obj.get("globalDefault"):
            why = f"globalDefault of {name} PriorityClass must be false"
        if why:
            detail = "priority class names with 'system-' prefix are reserved for system use only"
            yield forbidden_value("metadata.name", f"{detail}. error: {why}")
    elif value > 1_000_000_000:
        yield forbidden_value("value", "maximum allowed value of a user defined priority is 1000000000")
    policy = obj.get("preemptionPolicy")
    if policy is not None:
        yield from one_of("preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))


def priority_class_update(new: Object, old: Object) -> Errors:
    """What pods have been given stays."""
    if (new.get("value") or 0) != (old.get("value") or 0):
        yield forbidden_value("value", "may not be changed in an update.")
    yield from unchanged("preemptionPolicy", new.get("preemptionPolicy"), old.get("preemptionPolicy"))


def runtime_class(obj: Object) -> Errors:
    """RuntimeClass."""
    yield from checked("handler", obj.get("handler") or "", names.dns1123_label)
    overhead = (obj.get("overhead") or {}).get("podFixed")
    if overhead:
        from kubeling.api.validation.containers import resources

        yield from resources("overhead", {"limits": overhead}, {})
    scheduling = obj.get("scheduling") or {}
    yield from label_map("scheduling.nodeSelector", scheduling.get("nodeSelector"))
    found = scheduling.get("tolerations") or []
    yield from tolerations("scheduling.tolerations", found)
    for at, each in enumerate(found):
        if each in found[:at]:
            yield duplicate_value(f"scheduling.tolerations[{at}]", each)


def runtime_class_update(new: Object, old: Object) -> Errors:
    """Its handler stays."""
    yield from unchanged("handler", new.get("handler"), old.get("handler"))


def controller_revision(obj: Object) -> Errors:
    """ControllerRevision."""
    revision = obj.get("revision") or 0
    if revision < 0:
        yield invalid_value("revision", revision, "must be greater than or equal to 0")
    if obj.get("data") is None:
        yield required_value("data", "data is mandatory")


def controller_revision_update(new: Object, old: Object) -> Errors:
    """What a revision is stays."""
    yield from unchanged("data", new.get("data"), old.get("data"))
