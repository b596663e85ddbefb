"""Configuration and cluster-wide policy: ConfigMaps, Secrets, Namespaces, Nodes, quotas, classes, events, requests."""

from __future__ import annotations

from kubeling.api import names
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value, too_long_value
from kubeling.api.meta import Object, annotations_of, name_of, namespace_of, spec_of
from kubeling.api.validation.common import Errors, amount, checked, label_map, one_of, required_name, unchanged
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


_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def secret(obj: Object) -> Errors:
    """Secret."""
    data = obj.get("data") or {}
    for key in data:
        yield from checked(f"data[{key}]", key, names.config_key)
    if sum(len(value) * 3 // 4 for value in data.values()) > MAX_DATA:
        yield too_long_value("data", MAX_DATA)
    kind = obj.get("type")
    for key in _SECRET_KEYS.get(kind or "", ()):
        if key not in data:
            yield required_value(f"data[{key}]")
    if kind == "kubernetes.io/service-account-token":
        account = "kubernetes.io/service-account.name"
        if not annotations_of(obj).get(account):
            yield required_value(f"metadata.annotations[{account}]")
    if kind == "kubernetes.io/basic-auth" and "username" not in data and "password" not in data:
        yield required_value("data[username]")
        yield required_value("data[password]")


def secret_update(new: Object, old: Object) -> Errors:
    """The type stays; an immutable one stays altogether."""
    yield from unchanged("type", new.get("type"), old.get("type"))
    yield from _frozen(new, old, "data")


def namespace(obj: Object) -> Errors:
    """Namespace."""
    for each in spec_of(obj).get("finalizers") or ():
        yield from checked("spec.finalizers", each, names.qualified_name)


def node(obj: Object) -> Errors:
    """Node."""
    spec = spec_of(obj)
    yield from taints("metadata.taints", spec.get("taints") or ())
    for at, each in enumerate(spec.get("podCIDRs") or ()):
        yield from checked(f"spec.podCIDRs[{at}]", each, names.cidr)


def node_update(new: Object, old: Object) -> Errors:
    """A node's pod addresses and provider stay once they are given."""
    after, before = spec_of(new), spec_of(old)
    if before.get("podCIDRs") and after.get("podCIDRs") != before["podCIDRs"]:
        yield forbidden_value("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
    if before.get("providerID") and after.get("providerID") != before["providerID"]:
        yield forbidden_value("spec.providerID", 'node updates may not change providerID except from "" to valid')


def priority_class(obj: Object) -> Errors:
    """PriorityClass."""
    value = obj.get("value") or 0
    known = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
    if name_of(obj).startswith("system-"):
        if known.get(name_of(obj)) != value:
            detail = "priority class names with 'system-' prefix are reserved for system use only"
            yield forbidden_value("metadata.name", f"{detail}. error: {name_of(obj)} is not a known system priority class")
    elif value > 1_000_000_000:
        yield forbidden_value("value", "maximum allowed value of a user defined priority is 1000000000")
    yield from one_of("preemptionPolicy", obj.get("preemptionPolicy"), ("Never", "PreemptLowerPriority"), required=False)


def priority_class_update(new: Object, old: Object) -> Errors:
    """What pods have been given stays."""
    if (new.get("value") or 0) != (old.get("value") or 0):
        yield forbidden_value("value", "may not be changed in an update.")
    yield from unchanged("preemptionPolicy", new.get("preemptionPolicy"), old.get("preemptionPolicy"))


def event(obj: Object) -> Errors:
    """An event lives beside what it is about; one about a cluster-scoped object in `default` or kube-system."""
    about = (obj.get("involvedObject") or obj.get("regarding") or {}).get("namespace") or ""
    allowed = (about,) if about else ("default", "kube-system", "")
    if namespace_of(obj) not in allowed:
        yield invalid_value("involvedObject.namespace", about, "does not match event.namespace")


def ingress_class(obj: Object) -> Errors:
    """IngressClass."""
    spec = spec_of(obj)
    controller = spec.get("controller") or ""
    if len(controller) > 250:
        yield too_long_value("spec.controller", 250)
    domain, slash, path = controller.partition("/")
    if not controller:
        yield required_value("spec.controller")
    elif not slash or not path:
        yield invalid_value("spec.controller", controller, 'must be a domain-prefixed path (such as "acme.io/foo")')
    else:
        yield from checked("spec.controller", domain, names.dns1123_subdomain)
    found = spec.get("parameters")
    if found is None:
        return
    path = "spec.parameters"
    if found.get("apiGroup"):
        yield from checked(f"{path}.apiGroup", found["apiGroup"], names.dns1123_subdomain)
    for field in ("kind", "name"):
        if not found.get(field):
            yield required_value(f"{path}.{field}", f"{field} is required")
        else:
            yield from checked(f"{path}.{field}", found[field], names.path_segment)
    scope, own = found.get("scope"), found.get("namespace")
    yield from one_of(f"{path}.scope", scope, ("Cluster", "Namespace"))
    if scope == "Namespace" and not own:
        yield required_value(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")
    elif scope == "Cluster" and own is not None:
        yield forbidden_value(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'")


def ingress_class_update(new: Object, old: Object) -> Errors:
    """Its controller stays."""
    yield from unchanged("spec.controller", spec_of(new).get("controller"), spec_of(old).get("controller"))


def runtime_class(obj: Object) -> Errors:
    """RuntimeClass."""
    yield from required_name("handler", obj.get("handler"), names.dns1123_label)
    for name, value in ((obj.get("overhead") or {}).get("podFixed") or {}).items():
        yield from checked(f"overhead.podFixed[{name}]", name, names.qualified_name)
        yield from amount(f"overhead.podFixed[{name}]", value)
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


def service_cidr(obj: Object) -> Errors:
    """ServiceCIDR: one range, or one of each family."""
    found = spec_of(obj).get("cidrs") or []
    if not found:
        yield required_value("spec.cidrs", "at least one CIDR required")
    if len(found) > 2:
        yield invalid_value("spec.cidrs", found, "may only hold up to 2 values")
    for at, each in enumerate(found):
        yield from checked(f"spec.cidrs[{at}]", each, names.cidr)
    if len(found) == 2 and (":" in found[0]) == (":" in found[1]):
        yield invalid_value(
            "spec.cidrs", found, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        )


def service_cidr_update(new: Object, old: Object) -> Errors:
    """What addresses have been given out of stays."""
    after, before = spec_of(new).get("cidrs") or [], spec_of(old).get("cidrs") or []
    if after[: len(before)] != before:
        yield from unchanged("spec.cidrs", after, before)


def ip_address(obj: Object) -> Errors:
    """IPAddress: an address is somebody's."""
    parent = spec_of(obj).get("parentRef")
    if parent is None:
        yield required_value("spec.parentRef")
        return
    for field in ("resource", "name"):
        if not parent.get(field):
            yield required_value(f"spec.parentRef.{field}")
        else:
            yield from checked(f"spec.parentRef.{field}", parent[field], names.path_segment)


def ip_address_update(new: Object, old: Object) -> Errors:
    """Whose it is stays."""
    yield from unchanged("spec.parentRef", spec_of(new).get("parentRef"), spec_of(old).get("parentRef"))
