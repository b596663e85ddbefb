"""FlowSchemas and PriorityLevelConfigurations."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, log2

from kubeling.api import names
from kubeling.api.errors import FieldError, forbidden_value, invalid_value, required_value, unsupported_value
from kubeling.api.meta import Object, name_of, spec_of
from kubeling.api.validation.common import Errors, Map, checked

_MAX_PRECEDENCE = 10_000
_MAX_QUEUES = 10_000_000
_MAX_BITS = 60
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_KINDS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}


def flow_schema(obj: Object) -> Errors:
    """FlowSchema."""
    spec = spec_of(obj)
    precedence = spec.get("matchingPrecedence") or 0
    path = "spec.matchingPrecedence"
    if precedence <= 0:
        yield invalid_value(path, precedence, "must be a positive value")
    if precedence > _MAX_PRECEDENCE:
        yield invalid_value(path, precedence, f"must not be greater than {_MAX_PRECEDENCE}")
    if (precedence == 1) != (name_of(obj) == "exempt"):
        yield invalid_value(path, precedence, "only the schema named 'exempt' may have matchingPrecedence 1")
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in ("ByNamespace", "ByUser"):
        yield unsupported_value("spec.distinguisherMethod.type", method.get("type") or "", ("ByNamespace", "ByUser"))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name")
    if level:
        yield from checked("spec.priorityLevelConfiguration.name", level, names.dns1123_subdomain)
    else:
        yield required_value("spec.priorityLevelConfiguration.name", "must reference a priority level")
    for at, rule in enumerate(spec.get("rules") or ()):
        yield from _rule(f"spec.rules[{at}]", rule)


def _rule(path: str, rule: Map) -> Errors:
    if not rule.get("subjects"):
        yield required_value(f"{path}.subjects", "subjects must contain at least one value")
    for at, each in enumerate(rule.get("subjects") or ()):
        yield from _subject(f"{path}.subjects[{at}]", each)
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        yield required_value(path, "at least one of resourceRules and nonResourceRules has to be non-empty")
    for at, each in enumerate(rule.get("resourceRules") or ()):
        yield from _resource_rule(f"{path}.resourceRules[{at}]", each)
    for at, each in enumerate(rule.get("nonResourceRules") or ()):
        yield from _path_rule(f"{path}.nonResourceRules[{at}]", each)


def _subject(path: str, subject: Map) -> Errors:
    kind = subject.get("kind") or ""
    if kind not in _KINDS:
        yield unsupported_value(f"{path}.kind", kind, tuple(_KINDS))
        return
    field = _KINDS[kind]
    found = subject.get(field)
    if found is None:
        yield required_value(f"{path}.{field}", f"{field} is required when subject kind is '{kind}'")
    else:
        if not found.get("name"):
            yield required_value(f"{path}.{field}.name")
        if kind == "ServiceAccount":
            if found.get("name") not in (None, "", "*"):
                yield from checked(f"{path}.{field}.name", found["name"], names.dns1123_subdomain)
            if found.get("namespace"):
                yield from checked(f"{path}.{field}.namespace", found["namespace"], names.dns1123_label)
            else:
                yield required_value(f"{path}.{field}.namespace", "must specify namespace for service account")
    for other, name in _KINDS.items():
        if other != kind and subject.get(name) is not None:
            yield forbidden_value(f"{path}.{name}", f"{name} is forbidden when subject kind is not '{other}'")


def _alone(path: str, values: Iterable[str], empty: str, what: str) -> Errors:
    """There are values, and a wildcard stands alone."""
    values = list(values)
    if not values:
        yield required_value(path, empty)
    elif "*" in values and len(values) > 1:
        yield invalid_value(path, values, f"if '*' is present, must not specify other {what}")


def _verbs(path: str, rule: Map) -> Errors:
    values = rule.get("verbs") or []
    yield from _alone(f"{path}.verbs", values, "verbs must contain at least one value", "verbs")
    if values and "*" not in values and not set(values) <= set(_VERBS):
        yield FieldError(
            "FieldValueNotSupported", f"{path}.verbs", values, "supported values: " + ", ".join(f'"{each}"' for each in _VERBS)
        )


def _resource_rule(path: str, rule: Map) -> Errors:
    yield from _verbs(path, rule)
    yield from _alone(
        f"{path}.apiGroups", rule.get("apiGroups") or (), "resource rules must supply at least one api group", "api groups"
    )
    yield from _alone(
        f"{path}.resources", rule.get("resources") or (), "resource rules must supply at least one resource", "resources"
    )
    namespaces = rule.get("namespaces") or []
    if not namespaces and not rule.get("clusterScope"):
        detail = "resource rules that are not cluster scoped must supply at least one namespace"
        yield required_value(f"{path}.namespaces", detail)
    elif "*" in namespaces:
        yield from _alone(f"{path}.namespaces", namespaces, "", "namespaces")
    else:
        for at, each in enumerate(namespaces):
            yield from checked(f"{path}.namespaces[{at}]", each, names.dns1123_label)


def _path_rule(path: str, rule: Map) -> Errors:
    yield from _verbs(path, rule)
    urls = rule.get("nonResourceURLs") or []
    empty = "nonResourceURLs must contain at least one value"
    yield from _alone(f"{path}.nonResourceURLs", urls, empty, "non-resource URLs")
    for at, each in enumerate(urls):
        where = f"{path}.nonResourceURLs[{at}]"
        if each in ("/", "*"):
            continue
        if not each.startswith("/"):
            yield invalid_value(where, each, "must start with slash")
        if " " in each:
            yield invalid_value(where, each, "must not contain white-space")
        if "//" in each:
            yield invalid_value(where, each, "must not contain double slash")
        if each.count("*") > 1 or ("*" in each and not each.endswith("/*")):
            yield invalid_value(where, each, "wildcard can only do suffix matching")


def priority_level(obj: Object) -> Errors:
    """PriorityLevelConfiguration."""
    spec = spec_of(obj)
    kind, limited, exempt = spec.get("type") or "", spec.get("limited"), spec.get("exempt")
    if kind not in ("Exempt", "Limited"):
        yield unsupported_value("spec.type", kind, ("Exempt", "Limited"))
        return
    if (kind == "Exempt") != (name_of(obj) == "exempt"):
        yield invalid_value("spec.type", kind, "type must be 'Exempt' if and only if name is 'exempt'")
    if kind == "Exempt":
        if limited is not None:
            yield forbidden_value("spec.limited", "must be nil if the type is not Limited")
        yield from _amounts("spec.exempt", exempt or {})
        return
    if exempt is not None:
        yield forbidden_value("spec.exempt", "must be nil if the type is Limited")
    if limited is None:
        yield required_value("spec.limited", "must not be empty when type is Limited")
        return
    yield from _amounts("spec.limited", limited)
    response = limited.get("limitResponse") or {}
    queuing = response.get("queuing")
    path = "spec.limited.limitResponse"
    if response.get("type") == "Reject":
        if queuing is not None:
            yield forbidden_value(f"{path}.queuing", "must be nil if limited.limitResponse.type is not Limited")
    elif response.get("type") == "Queue":
        if queuing is None:
            yield required_value(f"{path}.queuing", "must not be empty if limited.limitResponse.type is Limited")
        else:
            yield from _queuing(f"{path}.queuing", queuing)
    else:
        yield unsupported_value(f"{path}.type", response.get("type") or "", ("Queue", "Reject"))


def _amounts(path: str, settings: Map) -> Errors:
    shares, lends = settings.get("nominalConcurrencyShares") or 0, settings.get("lendablePercent") or 0
    if shares < 0:
        yield invalid_value(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer")
    if not 0 <= lends <= 100:
        yield invalid_value(f"{path}.lendablePercent", lends, "must be between 0 and 100, inclusive")
    borrows = settings.get("borrowingLimitPercent")
    if borrows is not None and borrows < 0:
        yield invalid_value(f"{path}.borrowingLimitPercent", borrows, "if specified, must be a non-negative integer")


def _queuing(path: str, queuing: Map) -> Errors:
    queues, hand, length = (queuing.get(each) or 0 for each in ("queues", "handSize", "queueLengthLimit"))
    if length <= 0:
        yield invalid_value(f"{path}.queueLengthLimit", length, "must be positive")
    if queues <= 0:
        yield invalid_value(f"{path}.queues", queues, "must be positive")
    elif queues > _MAX_QUEUES:
        yield invalid_value(f"{path}.queues", queues, f"must not be greater than {_MAX_QUEUES}")
    if hand <= 0:
        yield invalid_value(f"{path}.handSize", hand, "must be positive")
    elif hand > queues:
        yield invalid_value(f"{path}.handSize", hand, f"should not be greater than queues ({queues})")
    elif (bits := ceil(sum(log2(queues - each) for each in range(min(hand, _MAX_BITS + 1))))) > _MAX_BITS:
        detail = (
            f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {_MAX_BITS}, is {bits}"
        )
        yield invalid_value(f"{path}.handSize", hand, detail)
