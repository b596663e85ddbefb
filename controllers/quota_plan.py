"""What a namespace uses of what a ResourceQuota counts: pods and their requests, claims and their storage, Services by type, objects by number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from kubeling.api import pods
from kubeling.api.meta import annotations_of, spec_of
from kubeling.api.quantity import Quantity, parse, total
from kubeling.controllers.context import Obj

#: Names of quotas on numbers of objects that are older than `count/…`.
LEGACY_COUNTS = {
    "pods": "pods",
    "services": "services",
    "replicationcontrollers": "replicationcontrollers",
    "resourcequotas": "resourcequotas",
    "secrets": "secrets",
    "configmaps": "configmaps",
    "persistentvolumeclaims": "persistentvolumeclaims",
}
_PLAIN = {"cpu": "requests.cpu", "memory": "requests.memory", "ephemeral-storage": "requests.ephemeral-storage"}
_STORAGE_CLASS = ".storageclass.storage.k8s.io/"


def counted_resource(key: str) -> str | None:
    """The resource (`plural` or `plural.group`) whose objects a key counts by number; None for a key that measures something else."""
    if key.startswith("count/"):
        return key[len("count/") :]
    return LEGACY_COUNTS.get(key) if key not in ("pods", "persistentvolumeclaims") else None


def in_scope(quota: Obj, pod: Obj) -> bool:
    """Whether the quota's scopes select a pod."""
    spec = spec_of(quota)
    expressions = [{"scopeName": each, "operator": "Exists"} for each in spec.get("scopes") or ()]
    expressions += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(_selects(each, pod) for each in expressions)


def _selects(expression: Mapping[str, object], pod: Obj) -> bool:
    match expression.get("scopeName"):
        case "Terminating":
            return spec_of(pod).get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec_of(pod).get("activeDeadlineSeconds") is None
        case "BestEffort":
            return pods.qos_class(pod) == "BestEffort"
        case "NotBestEffort":
            return pods.qos_class(pod) != "BestEffort"
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(pod)
        case "PriorityClass":
            return _matches(expression, spec_of(pod).get("priorityClassName") or "")
    return False


def _matches(expression: Mapping[str, object], value: str) -> bool:
    values = expression.get("values")
    held = value in values if isinstance(values, list) else False
    return {"In": held, "NotIn": not held, "Exists": value != "", "DoesNotExist": value == ""}.get(
        str(expression.get("operator")), False
    )


def _crosses_namespaces(pod: Obj) -> bool:
    affinity = spec_of(pod).get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        found = affinity.get(kind) or {}
        terms = list(found.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [
            each.get("podAffinityTerm") or {} for each in found.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        if any(each.get("namespaces") or each.get("namespaceSelector") is not None for each in terms):
            return True
    return False


def used(
    quota: Obj, all_pods: Sequence[Obj], services: Iterable[Obj], claims: Sequence[Obj], count: Callable[[str], int]
) -> dict[str, str]:
    """The amounts for each key of `spec.hard`; a key that nobody knows is left out."""
    living = [each for each in all_pods if not pods.is_terminal(each) and in_scope(quota, each)]
    requests = [pods.requests_of(each) for each in living]
    limits = [pods.limits_of(each) for each in living]
    types = [spec_of(each) for each in services]
    found: dict[str, str] = {}
    for key in spec_of(quota).get("hard") or {}:
        amount = _amount(key, len(living), requests, limits, types, claims, count)
        if amount is not None:
            found[key] = str(amount)
    return found


def _amount(
    key: str,
    pod_count: int,
    requests: Sequence[pods.Amounts],
    limits: Sequence[pods.Amounts],
    services: Sequence[Obj],
    claims: Sequence[Obj],
    count: Callable[[str], int],
) -> Quantity | None:
    if key in ("pods", "count/pods"):
        return parse(pod_count)
    if key in ("persistentvolumeclaims", "count/persistentvolumeclaims"):
        return parse(len(claims))
    if key == "requests.storage":
        return _storage(claims)
    if _STORAGE_CLASS in key:
        name, _, what = key.partition(_STORAGE_CLASS)
        of_class = [each for each in claims if _class_of(each) == name]
        return _storage(of_class) if what == "requests.storage" else parse(len(of_class))
    if key == "services.loadbalancers":
        return parse(sum(1 for each in services if each.get("type") == "LoadBalancer"))
    if key == "services.nodeports":
        open_ports = [each for each in services if each.get("type") in ("NodePort", "LoadBalancer")]
        return parse(sum(1 for each in open_ports for port in each.get("ports") or () if port.get("nodePort")))
    if (resource := counted_resource(key)) is not None:
        return parse(count(resource))
    which, dot, name = _PLAIN.get(key, key).partition(".")
    if dot and which in ("requests", "limits"):
        return _summed(requests if which == "requests" else limits, name)
    return None


def _summed(amounts: Sequence[pods.Amounts], name: str) -> Quantity:
    value = sum(each.get(name, 0) for each in amounts)
    if name == "cpu":
        return parse(f"{value}m")
    return Quantity(value * 10**9, "binary" if name in ("memory", "ephemeral-storage") else "decimal")


def _storage(claims: Iterable[Obj]) -> Quantity:
    asked = [((spec_of(each).get("resources") or {}).get("requests") or {}).get("storage") for each in claims]
    return total(*(each for each in asked if each))


def _class_of(claim: Obj) -> str:
    return str(
        spec_of(claim).get("storageClassName") or annotations_of(claim).get("volume.beta.kubernetes.io/storage-class") or ""
    )
