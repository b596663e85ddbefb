"""ResourceQuotas: what can be counted, and of what."""

from __future__ import annotations

from kubeling.api import names, quantity
from kubeling.api.errors import invalid_value, required_value
from kubeling.api.meta import Object, spec_of
from kubeling.api.validation.common import Errors, Map, amount, checked, unchanged

_COMPUTE = frozenset(
    {
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
    }
)
_COUNTS = frozenset(
    {
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "persistentvolumeclaims",
        "configmaps",
        "services.nodeports",
        "services.loadbalancers",
    }
)
_STANDARD = _COMPUTE | _COUNTS | {"requests.storage"}
_HUGE = ("hugepages-", "requests.hugepages-")
#: A scope, and what it may count: `pods` only, or what pods ask for as well.
_SCOPES = {
    "BestEffort": frozenset({"pods"}),
    "NotBestEffort": _COMPUTE | {"pods"},
    "Terminating": _COMPUTE | {"pods"},
    "NotTerminating": _COMPUTE | {"pods"},
    "PriorityClass": _COMPUTE | {"pods"},
    "CrossNamespacePodAffinity": _COMPUTE | {"pods"},
}
_OPPOSITES = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_EXIST = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)


def resource_quota(obj: Object) -> Errors:
    """ResourceQuota."""
    spec = spec_of(obj)
    hard = spec.get("hard") or {}
    for name, value in hard.items():
        yield from counted(f"spec.hard[{name}]", name, value)
    scopes = spec.get("scopes") or []
    yield from _scopes("spec.scopes", scopes, hard)
    expressions = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    for each in expressions:
        yield from _expression("spec.scopeSelector.matchExpressions", each)
    yield from _scopes("spec.scopeSelector.matchExpressions", [each.get("scopeName") or "" for each in expressions], hard)


def counted(path: str, name: str, value: str) -> Errors:
    """One thing that is counted, and how much of it."""
    faults = list(checked(path, name, names.qualified_name))
    yield from faults
    if "/" not in name and name not in _STANDARD and not name.startswith(_HUGE):
        if not faults and name not in ("storage",):
            yield invalid_value(path, name, "must be a standard resource type or fully qualified")
        yield invalid_value(path, name, "must be a standard resource for quota")
    yield from amount(path, value)
    if (name in _COUNTS or name.startswith("count/")) and quantity.is_quantity(value) and quantity.parse(value).nanos % 10**9:
        yield invalid_value(path, value, "must be an integer")


def _scopes(path: str, scopes: list[str], hard: Map) -> Errors:
    for each in scopes:
        allowed = _SCOPES.get(each)
        if allowed is None:
            yield invalid_value(path, scopes, "unsupported scope")
        elif any(name in _STANDARD and name not in allowed for name in hard):
            yield invalid_value(path, scopes, "unsupported scope applied to resource")
    for one, other in _OPPOSITES:
        if one in scopes and other in scopes:
            yield invalid_value(path, scopes, "conflicting scopes")


def _expression(path: str, each: Map) -> Errors:
    operator, values, scope = each.get("operator") or "", each.get("values") or [], each.get("scopeName") or ""
    if scope in _SCOPES and scope != "PriorityClass" and operator != "Exists":
        yield invalid_value(f"{path}.operator", operator, _EXIST)
    if operator in ("In", "NotIn"):
        if not values:
            detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            yield required_value(f"{path}.values", detail)
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            yield invalid_value(f"{path}.values", values, detail)
    else:
        yield invalid_value(f"{path}.operator", operator, "not a valid selector operator")


def resource_quota_update(new: Object, old: Object) -> Errors:
    """What it counts stays."""
    after, before = spec_of(new).get("scopes") or [], spec_of(old).get("scopes") or []
    if set(after) != set(before):
        yield from unchanged("spec.scopes", after, before)
