"""Configuration and cluster-wide policy: ConfigMaps, Secrets, Namespaces, Nodes, quotas, roles, classes, volumes, events, requests."""

from __future__ import annotations

from kubeling.api import names, quantity
from kubeling.api.errors import forbidden_value, invalid_value, required_value, too_long_value
from kubeling.api.meta import Object, annotations_of, name_of, namespace_of, spec_of, status_of
from kubeling.api.validation.common import Errors, Map, amount, checked, label_selector, one_of, required_name, unchanged
from kubeling.api.validation.scheduling import node_selector, taints
from kubeling.api.validation.volumes import access_modes, claim_spec, source

MAX_DATA = 1024 * 1024
_RBAC = "rbac.authorization.k8s.io"
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
        yield too_long_value("", MAX_DATA)


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


def resource_quota(obj: Object) -> Errors:
    """ResourceQuota."""
    for name, value in (spec_of(obj).get("hard") or {}).items():
        yield from checked(f"spec.hard[{name}]", name, names.qualified_name)
        yield from amount(f"spec.hard[{name}]", value)


def resource_quota_update(new: Object, old: Object) -> Errors:
    """What it counts stays."""
    yield from unchanged("spec.scopes", spec_of(new).get("scopes"), spec_of(old).get("scopes"))


def limit_range(obj: Object) -> Errors:
    """LimitRange: of each type one item, in which the bounds are in order."""
    seen: set[str] = set()
    for at, item in enumerate(spec_of(obj).get("limits") or ()):
        path = f"spec.limits[{at}]"
        kind = item.get("type") or ""
        yield from checked(f"{path}.type", kind, names.qualified_name)
        if kind in seen:
            yield invalid_value(f"{path}.type", kind, "must be unique")
        seen.add(kind)
        if kind == "Pod":
            for field in ("default", "defaultRequest"):
                if item.get(field):
                    yield forbidden_value(f"{path}.{field}", "may not be specified when `type` is 'Pod'")
        yield from _bounds(path, item)


def _bounds(path: str, item: Map) -> Errors:
    order = ("min", "defaultRequest", "default", "max")
    keys = {key for field in order for key in item.get(field) or {}}
    for key in sorted(keys):
        given = [(field, item[field][key]) for field in order if key in (item.get(field) or {})]
        wrong = [error for field, value in given for error in amount(f"{path}.{field}[{key}]", value)]
        yield from wrong
        if wrong:
            continue
        for at, (field, value) in enumerate(given):
            for larger, bound in given[at + 1 :]:
                if quantity.compare(value, bound) > 0:
                    where = f"{path}.{'min' if field == 'min' else field}[{key}]"
                    yield invalid_value(where, value, f"{field} value {value} is greater than {larger} value {bound}")


def role(obj: Object) -> Errors:
    """Role."""
    yield from _rules(obj, True)


def cluster_role(obj: Object) -> Errors:
    """ClusterRole."""
    yield from _rules(obj, False)
    selectors = (obj.get("aggregationRule") or {}).get("clusterRoleSelectors")
    if obj.get("aggregationRule") is not None and not selectors:
        yield required_value(
            "aggregationRule.clusterRoleSelectors", "at least one clusterRoleSelector required if aggregationRule is non-nil"
        )
    for at, each in enumerate(selectors or ()):
        yield from label_selector(f"aggregationRule.clusterRoleSelectors[{at}]", each)


def _rules(obj: Object, namespaced: bool) -> Errors:
    for at, rule in enumerate(obj.get("rules") or ()):
        path = f"rules[{at}]"
        if not rule.get("verbs"):
            yield required_value(f"{path}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            if namespaced:
                detail = "namespaced rules cannot apply to non-resource URLs"
                yield invalid_value(f"{path}.nonResourceURLs", rule["nonResourceURLs"], detail)
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                yield invalid_value(f"{path}.nonResourceURLs", rule["nonResourceURLs"], detail)
            continue
        if not rule.get("apiGroups"):
            yield required_value(f"{path}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required_value(f"{path}.resources", "resource rules must supply at least one resource")


def role_binding(obj: Object) -> Errors:
    """RoleBinding."""
    yield from _binding(obj, ("ClusterRole", "Role"), False)


def cluster_role_binding(obj: Object) -> Errors:
    """ClusterRoleBinding."""
    yield from _binding(obj, ("ClusterRole",), True)


def _binding(obj: Object, kinds: tuple[str, ...], cluster: bool) -> Errors:
    reference = obj.get("roleRef") or {}
    if reference.get("apiGroup") != _RBAC:
        yield from one_of("roleRef.apiGroup", reference.get("apiGroup"), (_RBAC,))
    yield from one_of("roleRef.kind", reference.get("kind"), kinds)
    yield from required_name("roleRef.name", reference.get("name"), names.path_segment)
    for at, each in enumerate(obj.get("subjects") or ()):
        path = f"subjects[{at}]"
        yield from required_name(f"{path}.name", each.get("name"))
        kind, group = each.get("kind"), each.get("apiGroup") or ""
        if kind == "ServiceAccount":
            if each.get("name"):
                yield from checked(f"{path}.name", each["name"], names.dns1123_subdomain)
            if group:
                yield from one_of(f"{path}.apiGroup", group, ("",))
            if cluster and not each.get("namespace"):
                yield required_value(f"{path}.namespace")
        elif kind in ("User", "Group"):
            if group != _RBAC:
                yield from one_of(f"{path}.apiGroup", group, (_RBAC,))
        else:
            yield from one_of(f"{path}.kind", kind or " ", ("ServiceAccount", "User", "Group"))


def binding_update(new: Object, old: Object) -> Errors:
    """The role of a binding stays."""
    if new.get("roleRef") != old.get("roleRef"):
        yield invalid_value("roleRef", new.get("roleRef"), "cannot change roleRef")


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


def storage_class(obj: Object) -> Errors:
    """StorageClass."""
    yield from required_name("provisioner", obj.get("provisioner"))
    yield from one_of("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain"))
    yield from one_of("volumeBindingMode", obj.get("volumeBindingMode"), ("Immediate", "WaitForFirstConsumer"))


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
        yield from amount(f"spec.capacity[{name}]", value)
    policy = spec.get("persistentVolumeReclaimPolicy")
    yield from one_of("spec.persistentVolumeReclaimPolicy", policy, ("Delete", "Recycle", "Retain"), required=False)
    yield from source("spec", spec, *_VOLUME_FIELDS)
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


def event(obj: Object) -> Errors:
    """An event lives beside what it is about; one about a cluster-scoped object in `default` or kube-system."""
    about = (obj.get("involvedObject") or obj.get("regarding") or {}).get("namespace") or ""
    allowed = (about,) if about else ("default", "kube-system", "")
    if namespace_of(obj) not in allowed:
        yield invalid_value("involvedObject.namespace", about, "does not match event.namespace")


def signing_request(obj: Object) -> Errors:
    """CertificateSigningRequest."""
    spec = spec_of(obj)
    yield from required_name("spec.request", spec.get("request"))
    if not spec.get("usages"):
        yield required_value("spec.usages")
    name = spec.get("signerName")
    if not name:
        yield required_value("spec.signerName")
    elif "/" not in name:
        yield invalid_value(
            "spec.signerName", name, "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        )
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        yield invalid_value("spec.expirationSeconds", seconds, "may not specify a duration less than 600 seconds (10 minutes)")


def signing_request_update(new: Object, old: Object) -> Errors:
    """What was asked for stays; a verdict is not taken back."""
    yield from unchanged("spec", spec_of(new), spec_of(old))


def ingress_class(obj: Object) -> Errors:
    """IngressClass."""
    controller = spec_of(obj).get("controller")
    if not controller:
        yield required_value("spec.controller")
    elif "/" not in controller:
        detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
        yield invalid_value("spec.controller", controller, detail)


def runtime_class(obj: Object) -> Errors:
    """RuntimeClass."""
    yield from required_name("handler", obj.get("handler"), names.dns1123_label)


def runtime_class_update(new: Object, old: Object) -> Errors:
    """Its handler stays."""
    yield from unchanged("handler", new.get("handler"), old.get("handler"))
