"""The kinds that are not about running pods: Services, storage, access, admission, cluster policy."""

from __future__ import annotations

import base64
from typing import Any

from kubeling.api import quantity
from kubeling.api.defaults.pod import amounts, volume_source

Map = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"


def _set(target: Map, **values: Any) -> None:
    for name, value in values.items():
        if target.get(name) is None:
            target[name] = value


def _fill(target: Map, **values: Any) -> None:
    """As _set, but an empty string counts as absent."""
    for name, value in values.items():
        if not target.get(name):
            target[name] = value


def _spec(obj: Map) -> Map:
    if obj.get("spec") is None:
        obj["spec"] = {}
    return obj["spec"]  # type: ignore[no-any-return]


def service(obj: Map) -> None:
    """Service. Addresses, families and node ports are the allocator's."""
    spec = _spec(obj)
    _fill(spec, sessionAffinity="None", type="ClusterIP")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    if spec["sessionAffinity"] == "ClientIP":
        _set(spec, sessionAffinityConfig={})
        _set(spec["sessionAffinityConfig"], clientIP={})
        _set(spec["sessionAffinityConfig"]["clientIP"], timeoutSeconds=10800)
    for port in spec.get("ports") or ():
        _fill(port, protocol="TCP", targetPort=port.get("port") or 0)
    external = spec["type"] in ("NodePort", "LoadBalancer") or (spec["type"] == "ClusterIP" and spec.get("externalIPs"))
    if external:
        _fill(spec, externalTrafficPolicy="Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer", "ClusterIP"):
        _set(spec, internalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _set(spec, allocateLoadBalancerNodePorts=True)
        for each in ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
            if each.get("ip"):
                _set(each, ipMode="VIP")


def endpoints(obj: Map) -> None:
    """Endpoints."""
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            _fill(port, protocol="TCP")


def endpoint_slice(obj: Map) -> None:
    """EndpointSlice."""
    for port in obj.get("ports") or ():
        _set(port, name="", protocol="TCP")


def secret(obj: Map) -> None:
    """Secret: its type, and `stringData` folded into `data`."""
    _fill(obj, type="Opaque")
    text = obj.pop("stringData", None)
    if text:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in text.items()}
        obj["data"] = {**(obj.get("data") or {}), **encoded}


def namespace(obj: Map) -> None:
    """Namespace: the label by which selectors can name it."""
    metadata = obj.setdefault("metadata", {})
    if metadata.get("name"):
        metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}


def node(obj: Map) -> None:
    """Node: what is allocatable is the capacity where it is not said."""
    spec = _spec(obj)
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        spec["podCIDR"] = spec["podCIDRs"][0]
    status = obj.get("status") or {}
    for field in ("capacity", "allocatable"):
        if status.get(field):
            amounts(status[field])
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])


def persistent_volume(obj: Map) -> None:
    """PersistentVolume."""
    spec = _spec(obj)
    _fill(spec, persistentVolumeReclaimPolicy="Retain")
    _set(spec, volumeMode="Filesystem")
    if spec.get("capacity"):
        amounts(spec["capacity"])
    volume_source(spec)


def persistent_volume_claim(obj: Map) -> None:
    """PersistentVolumeClaim."""
    spec = _spec(obj)
    _set(spec, volumeMode="Filesystem")
    for field in ("requests", "limits"):
        if (spec.get("resources") or {}).get(field):
            amounts(spec["resources"][field])


def limit_range(obj: Map) -> None:
    """LimitRange: of a container, the default limit is the maximum, the default request the default limit, else the minimum."""
    for item in _spec(obj).get("limits") or ():
        for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
            if item.get(field):
                amounts(item[field])
        if item.get("type") != "Container":
            continue
        limits = {**(item.get("max") or {}), **(item.get("default") or {})}
        requests = {**(item.get("min") or {}), **limits, **(item.get("defaultRequest") or {})}
        if limits:
            item["default"] = limits
        if requests:
            item["defaultRequest"] = requests


def resource_quota(obj: Map) -> None:
    """ResourceQuota."""
    if _spec(obj).get("hard"):
        amounts(obj["spec"]["hard"])


def network_policy(obj: Map) -> None:
    """NetworkPolicy: it is about ingress, and about egress where it has such rules."""
    spec = _spec(obj)
    for rule in [*(spec.get("ingress") or ()), *(spec.get("egress") or ())]:
        for port in rule.get("ports") or ():
            _set(port, protocol="TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def ingress_class(obj: Map) -> None:
    """IngressClass."""
    parameters = _spec(obj).get("parameters")
    if parameters is not None:
        _set(parameters, scope="Cluster")


def binding(obj: Map) -> None:
    """RoleBinding and ClusterRoleBinding."""
    if obj.get("roleRef") is not None:
        _fill(obj["roleRef"], apiGroup=RBAC)
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            _fill(subject, apiGroup=RBAC)


def storage_class(obj: Map) -> None:
    """StorageClass."""
    _set(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def csi_driver(obj: Map) -> None:
    """CSIDriver."""
    spec = _spec(obj)
    _set(spec, attachRequired=True, podInfoOnMount=False, storageCapacity=False, requiresRepublish=False, seLinuxMount=False)
    _set(spec, fsGroupPolicy="ReadWriteOnceWithFSType")
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def csi_storage_capacity(obj: Map) -> None:
    """CSIStorageCapacity."""
    for field in ("capacity", "maximumVolumeSize"):
        if obj.get(field) is not None and quantity.is_quantity(obj[field]):
            obj[field] = quantity.canonical(obj[field])


def priority_class(obj: Map) -> None:
    """PriorityClass."""
    _set(obj, preemptionPolicy="PreemptLowerPriority", value=0)


def mutating_webhooks(obj: Map) -> None:
    """MutatingWebhookConfiguration."""
    _webhooks(obj, True)


def validating_webhooks(obj: Map) -> None:
    """ValidatingWebhookConfiguration."""
    _webhooks(obj, False)


def _webhooks(obj: Map, mutating: bool) -> None:
    for each in obj.get("webhooks") or ():
        _set(each, failurePolicy="Fail", matchPolicy="Equivalent", namespaceSelector={}, objectSelector={}, timeoutSeconds=10)
        if mutating:
            _set(each, reinvocationPolicy="Never")
        _scopes(each.get("rules"))
        target = (each.get("clientConfig") or {}).get("service")
        if target is not None:
            _set(target, port=443)


def admission_policy(obj: Map) -> None:
    """ValidatingAdmissionPolicy."""
    spec = _spec(obj)
    _set(spec, failurePolicy="Fail")
    _match(spec.get("matchConstraints"))


def admission_policy_binding(obj: Map) -> None:
    """ValidatingAdmissionPolicyBinding."""
    _match(_spec(obj).get("matchResources"))


def _match(found: Map | None) -> None:
    if found is not None:
        _set(found, matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
        _scopes(found.get("resourceRules"))
        _scopes(found.get("excludeResourceRules"))


def _scopes(rules: list[Map] | None) -> None:
    for rule in rules or ():
        _set(rule, scope="*")


def flow_schema(obj: Map) -> None:
    """FlowSchema."""
    _fill(_spec(obj), matchingPrecedence=1000)


def priority_level(obj: Map) -> None:
    """PriorityLevelConfiguration."""
    spec = _spec(obj)
    if spec.get("exempt") is not None or spec.get("type") == "Exempt":
        _set(spec, exempt={})
        _set(spec["exempt"], nominalConcurrencyShares=0, lendablePercent=0)
    limited = spec.get("limited")
    if limited is not None:
        _set(limited, nominalConcurrencyShares=30, lendablePercent=0, limitResponse={})
        response = limited["limitResponse"]
        _fill(response, type="Reject")
        if response.get("queuing") is not None:
            _fill(response["queuing"], queues=64, handSize=8, queueLengthLimit=50)


def custom_resource_definition(obj: Map) -> None:
    """CustomResourceDefinition: derived names, no conversion."""
    spec = _spec(obj)
    names = spec.get("names") or {}
    if names.get("kind"):
        _fill(names, singular=names["kind"].lower(), listKind=f"{names['kind']}List")
    _set(spec, conversion={"strategy": "None"})
    client = ((spec["conversion"].get("webhook") or {}).get("clientConfig") or {}).get("service")
    if client is not None:
        _set(client, port=443)


def api_service(obj: Map) -> None:
    """APIService."""
    target = _spec(obj).get("service")
    if target is not None:
        _set(target, port=443)


def token_request(obj: Map) -> None:
    """TokenRequest."""
    _set(_spec(obj), expirationSeconds=3600)
