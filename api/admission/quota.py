"""What an object uses of what a ResourceQuota counts, which quotas are for it, and whether it still fits.

The apiserver charges quotas with this when objects come, and the controller counts with it what there is, so that both always agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from kubeling.api import pods
from kubeling.api.meta import annotations_of, metadata_of, spec_of, status_of
from kubeling.api.quantity import ZERO, Quantity, parse
from kubeling.api.times import parse_time

Object = dict[str, Any]
Usage = dict[str, Quantity]
_ONE = parse(1)
#: Kinds of the core group whose number has an older name than `count/…`.
_LEGACY = frozenset({"services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims"})
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
#: What a pod has to say of itself where a quota counts it.
_MUST_BE_SET = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
_STORAGE_CLASS = ".storageclass.storage.k8s.io/"


def usage_of(qualified: str, obj: Object, now: datetime) -> Usage:
    """What one object of `plural` or `plural.group` uses, by the names that stand in `spec.hard`."""
    usage = {f"count/{qualified}": _ONE}
    if qualified in _LEGACY:
        usage[qualified] = _ONE
    if qualified == "pods":
        usage.update(_pod(obj, now))
    elif qualified == "services":
        usage.update(_service(obj))
    elif qualified == "persistentvolumeclaims":
        usage.update(_claim(obj))
    return usage


def _pod(pod: Object, now: datetime) -> Usage:
    """Nothing of a pod that is over, or whose time to go has run out: only its number counts."""
    if pods.is_terminal(pod) or _is_overdue(pod, now):
        return {}
    usage = {"pods": _ONE}
    for name, amount in pods.requests_of(pod).items():
        found = _quantity(name, amount)
        usage[f"requests.{name}"] = found
        if name in _COMPUTE or name.startswith("hugepages-"):
            usage[name] = found
    for name, amount in pods.limits_of(pod).items():
        if name in _COMPUTE:
            usage[f"limits.{name}"] = _quantity(name, amount)
    return usage


def _is_overdue(pod: Object, now: datetime) -> bool:
    since = metadata_of(pod).get("deletionTimestamp")
    if not since:
        return False
    grace = metadata_of(pod).get("deletionGracePeriodSeconds") or 0
    return now > parse_time(since) + timedelta(seconds=grace)


def _quantity(name: str, amount: int) -> Quantity:
    if name == "cpu":
        return parse(f"{amount}m")
    return Quantity(
        amount * 10**9, "binary" if name in ("memory", "ephemeral-storage") or name.startswith("hugepages-") else "decimal"
    )


def _service(service: Object) -> Usage:
    spec = spec_of(service)
    ports = spec.get("ports") or ()
    kind = spec.get("type")
    if kind == "NodePort":
        return {"services.nodeports": parse(len(ports))}
    if kind != "LoadBalancer":
        return {}
    if spec.get("allocateLoadBalancerNodePorts") is False:
        ports = [each for each in ports if each.get("nodePort")]
    return {"services.loadbalancers": _ONE, "services.nodeports": parse(len(ports))}


def _claim(claim: Object) -> Usage:
    spec = spec_of(claim)
    name = annotations_of(claim).get("volume.beta.kubernetes.io/storage-class") or spec.get("storageClassName") or ""
    usage: Usage = {}
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is not None:
        usage["requests.storage"] = parse(storage)
    if name:
        usage[f"{name}{_STORAGE_CLASS}persistentvolumeclaims"] = _ONE
        if storage is not None:
            usage[f"{name}{_STORAGE_CLASS}requests.storage"] = parse(storage)
    return usage


def plus(left: Mapping[str, Quantity], right: Mapping[str, Quantity]) -> Usage:
    """The sum."""
    return {name: left.get(name, ZERO) + right.get(name, ZERO) for name in {**left, **right}}


def grown(new: Mapping[str, Quantity], old: Mapping[str, Quantity]) -> Usage:
    """What has become more."""
    more = {name: amount - old.get(name, ZERO) for name, amount in new.items()}
    return {name: amount for name, amount in more.items() if amount > ZERO}


def counted(key: str) -> str | None:
    """The resource (`plural` or `plural.group`) that a key of `spec.hard` is about; None for a key that nobody knows."""
    if key.startswith("count/"):
        return key[len("count/") :]
    if key in _LEGACY or key == "pods":
        return key
    if key.startswith("services."):
        return "services"
    if key == "requests.storage" or _STORAGE_CLASS in key:
        return "persistentvolumeclaims"
    if key in _COMPUTE or key.startswith(("requests.", "limits.", "hugepages-")):
        return "pods"
    return None


# -- scopes ----------------------------------------------------------------------------------------------------------------------------


def in_scope(quota: Object, qualified: str, obj: Object) -> bool:
    """Whether the quota's scopes select the object. A quota with scopes is for pods only."""
    spec = spec_of(quota)
    expressions: list[Mapping[str, Any]] = [{"scopeName": each, "operator": "Exists"} for each in spec.get("scopes") or ()]
    expressions += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    if not expressions:
        return True
    return qualified == "pods" and all(_selects(each, obj) for each in expressions)


def _selects(expression: Mapping[str, Any], pod: Object) -> bool:
    spec = spec_of(pod)
    match expression.get("scopeName"):
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return pods.qos_class(pod) == "BestEffort"
        case "NotBestEffort":
            return pods.qos_class(pod) != "BestEffort"
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(spec)
        case "PriorityClass":
            return _matches(expression, spec.get("priorityClassName") or "")
    return False


def _matches(expression: Mapping[str, Any], value: str) -> bool:
    held = value in (expression.get("values") or ())
    outcomes = {"In": held, "NotIn": not held, "Exists": value != "", "DoesNotExist": value == ""}
    return outcomes.get(str(expression.get("operator")), False)


def _crosses_namespaces(spec: Mapping[str, Any]) -> bool:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        found = affinity.get(kind) or {}
        terms = list(found.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [
            each.get("podAffinityTerm") or {} for each in found.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        if any(each.get("namespaces") or each.get("namespaceSelector") is not None for each in terms):
            return True
    return False


# -- admission -------------------------------------------------------------------------------------------------------------------------


class Exceeded(ValueError):
    """The quota does not allow it; the text is upstream's."""


def charge(quota: Object, qualified: str, obj: Object, usage: Mapping[str, Quantity], *, creating: bool) -> dict[str, str] | None:
    """`status.used` with the usage added; None where the quota does not count this object. Raises Exceeded."""
    name = metadata_of(quota).get("name")
    status = status_of(quota)
    hard = {key: parse(value) for key, value in (status.get("hard") or {}).items()}
    mine = [key for key in hard if counted(key) == qualified]
    if not mine or not in_scope(quota, qualified, obj):
        return None
    if creating and qualified == "pods" and (missing := _unset(obj, mine)):
        raise Exceeded(f"failed quota: {name}: must specify {missing}")
    used = status.get("used") or {}
    unknown = sorted(key for key in mine if key not in used)
    if unknown:
        raise Exceeded(f"status unknown for quota: {name}, resources: {','.join(unknown)}")
    requested = {key: usage[key] for key in mine if usage.get(key)}
    if not requested:
        return None
    total = {key: parse(used[key]) + amount for key, amount in requested.items()}
    over = sorted(key for key, amount in total.items() if amount > hard[key])
    if over:
        parts = [
            f"requested: {_shown(over, requested)}",
            f"used: {_shown(over, {key: parse(used[key]) for key in over})}",
            f"limited: {_shown(over, hard)}",
        ]
        raise Exceeded(f"exceeded quota: {name}, {', '.join(parts)}")
    return {**used, **{key: str(amount) for key, amount in total.items()}}


def _shown(keys: Iterable[str], amounts: Mapping[str, Quantity]) -> str:
    return ",".join(f"{key}={amounts[key]}" for key in keys)


def _unset(pod: Object, keys: Iterable[str]) -> str:
    """Which containers do not say what the quota counts: `limits.cpu for: a,b; …`."""
    spec = spec_of(pod)
    found: dict[str, set[str]] = {}
    for key in sorted(set(keys) & _MUST_BE_SET):
        which, _, name = key.rpartition(".")
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            if name not in ((container.get("resources") or {}).get(which or "requests") or {}):
                found.setdefault(key, set()).add(container.get("name") or "")
    return "; ".join(f"{key} for: {','.join(sorted(names))}" for key, names in found.items())


# -- counting --------------------------------------------------------------------------------------------------------------------------


def used(
    quota: Object,
    objects: Callable[[str], Iterable[Object]],
    count: Callable[[str], int],
    now: datetime,
) -> dict[str, str]:
    """The amounts for each key of `spec.hard`; a key that nobody knows is left out.

    `objects` gives those of a kind that is measured inside (pods, services, persistentvolumeclaims), `count` the number of any other.
    """
    hard = spec_of(quota).get("hard") or {}
    sums: dict[str, Usage] = {}
    found: dict[str, str] = {}
    for key in hard:
        qualified = counted(key)
        if qualified is None:
            continue
        if qualified not in MEASURED:
            found[key] = str(count(qualified)) if in_scope(quota, qualified, {}) else "0"
            continue
        if qualified not in sums:
            total: Usage = {}
            for each in objects(qualified):
                if in_scope(quota, qualified, each):
                    total = plus(total, usage_of(qualified, each, now))
            sums[qualified] = total
        found[key] = str(sums[qualified].get(key, ZERO))
    return found


#: Kinds of which more than the number is counted.
MEASURED = frozenset({"pods", "services", "persistentvolumeclaims"})
