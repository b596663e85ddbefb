"""Where a pod may run: tolerations, affinity, spreading."""

from __future__ import annotations

from collections.abc import Iterable

from kubeling.api import names
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value, unsupported_value
from kubeling.api.validation.common import Errors, Map, checked, label_selector, one_of

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def tolerations(path: str, found: Iterable[Map]) -> Errors:
    """A pod's tolerations."""
    for at, each in enumerate(found):
        where = f"{path}[{at}]"
        key, operator, effect = each.get("key"), each.get("operator") or "", each.get("effect") or ""
        if key:
            yield from checked(f"{where}.key", key, names.qualified_name)
        elif operator != "Exists":
            detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            yield invalid_value(f"{where}.operator", operator, detail)
        if each.get("tolerationSeconds") is not None and effect != "NoExecute":
            yield invalid_value(f"{where}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
        if operator in ("Equal", ""):
            faults = names.label_value(each.get("value") or "")
            if faults:
                yield invalid_value(f"{where}.operator", each.get("value"), ";".join(faults))
        elif operator == "Exists":
            if each.get("value"):
                yield invalid_value(f"{where}.operator", each["value"], "value must be empty when `operator` is 'Exists'")
        else:
            yield from one_of(f"{where}.operator", operator, ("Equal", "Exists"))
        yield from one_of(f"{where}.effect", effect, _EFFECTS, required=False)


def taints(path: str, found: Iterable[Map]) -> Errors:
    """A node's taints: known effects, each key once an effect."""
    seen: set[tuple[str, str]] = set()
    for at, each in enumerate(found):
        where = f"{path}[{at}]"
        key, effect = each.get("key") or "", each.get("effect") or ""
        yield from checked(f"{where}.key", key, names.qualified_name)
        faults = names.label_value(each.get("value") or "")
        if faults:
            yield invalid_value(f"{where}.value", each.get("value"), ";".join(faults))
        yield from one_of(f"{where}.effect", effect, _EFFECTS)
        if (key, effect) in seen:
            fault = duplicate_value(where, each)
            fault.detail = "taints must be unique by key and effect pair"
            yield fault
        seen.add((key, effect))


def affinity(path: str, found: Map) -> Errors:
    """A pod's affinity of all three kinds."""
    node = found.get("nodeAffinity") or {}
    if node.get(_REQUIRED) is not None:
        yield from node_selector(f"{path}.nodeAffinity.{_REQUIRED}", node[_REQUIRED])
    for at, each in enumerate(node.get(_PREFERRED) or ()):
        where = f"{path}.nodeAffinity.{_PREFERRED}[{at}]"
        yield from _weight(where, each)
        yield from _node_term(f"{where}.preference", each.get("preference") or {}, loose=True)
    for kind in ("podAffinity", "podAntiAffinity"):
        pod = found.get(kind) or {}
        for at, each in enumerate(pod.get(_REQUIRED) or ()):
            yield from _pod_term(f"{path}.{kind}.{_REQUIRED}[{at}]", each)
        for at, each in enumerate(pod.get(_PREFERRED) or ()):
            where = f"{path}.{kind}.{_PREFERRED}[{at}]"
            yield from _weight(where, each)
            yield from _pod_term(f"{where}.podAffinityTerm", each.get("podAffinityTerm") or {})


def _weight(path: str, each: Map) -> Errors:
    if not 1 <= (each.get("weight") or 0) <= 100:
        yield invalid_value(f"{path}.weight", each.get("weight") or 0, "must be in the range 1-100")


def node_selector(path: str, selector: Map) -> Errors:
    """A NodeSelector."""
    terms = selector.get("nodeSelectorTerms") or ()
    if not terms:
        yield required_value(f"{path}.nodeSelectorTerms", "must have at least one node selector term")
        return
    for at, each in enumerate(terms):
        yield from _node_term(f"{path}.nodeSelectorTerms[{at}]", each)


def _node_term(path: str, term: Map, *, loose: bool = False) -> Errors:
    """What is only preferred may ask for values (`loose`) that no label can have."""
    for at, each in enumerate(term.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{at}]"
        yield from _expression(where, each)
        for index, value in enumerate(() if loose else each.get("values") or ()):
            yield from checked(f"{where}.values[{index}]", value, names.label_value)
    for at, each in enumerate(term.get("matchFields") or ()):
        where = f"{path}.matchFields[{at}]"
        if each.get("operator") not in ("In", "NotIn"):
            yield invalid_value(f"{where}.operator", each.get("operator") or "", "not a valid selector operator")
        elif len(each.get("values") or ()) != 1:
            detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            yield required_value(f"{where}.values", detail)
        if each.get("key") != "metadata.name":
            yield invalid_value(f"{where}.key", each.get("key") or "", "not a valid field selector key")
            continue
        for index, value in enumerate(each.get("values") or ()):
            yield from checked(f"{where}.values[{index}]", value, names.dns1123_subdomain)


def _expression(path: str, each: Map) -> Errors:
    operator, values = each.get("operator"), each.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            yield required_value(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            yield forbidden_value(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            yield required_value(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    else:
        yield invalid_value(f"{path}.operator", operator or "", "not a valid selector operator")
    yield from checked(f"{path}.key", each.get("key") or "", names.qualified_name)


def _pod_term(path: str, term: Map) -> Errors:
    yield from label_selector(f"{path}.labelSelector", term.get("labelSelector"))
    yield from label_selector(f"{path}.namespaceSelector", term.get("namespaceSelector"))
    for name in term.get("namespaces") or ():
        yield from checked(f"{path}.namespace", name, names.dns1123_label)
    yield from _label_keys(path, term)
    if not term.get("topologyKey"):
        yield required_value(f"{path}.topologyKey", "can not be empty")
    yield from checked(f"{path}.topologyKey", term.get("topologyKey") or "", names.qualified_name)


def _label_keys(path: str, term: Map) -> Errors:
    """matchLabelKeys and mismatchLabelKeys (KEP-3633)."""
    match, mismatch, selector = term.get("matchLabelKeys") or [], term.get("mismatchLabelKeys") or [], term.get("labelSelector")
    for field, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            yield forbidden_value(f"{path}.{field}", "must not be specified when labelSelector is not set")
        for at, key in enumerate(keys if selector is not None else ()):
            yield from checked(f"{path}.{field}[{at}]", key, names.qualified_name)
    if selector is not None:
        named = set(selector.get("matchLabels") or ())
        for each in selector.get("matchExpressions") or ():
            key = each.get("key")
            if key in match and key in named:
                yield invalid_value(f"{path}[{match.index(key)}]", key, "exists in both matchLabelKeys and labelSelector")
            named.add(key)
    for at, key in enumerate(match):
        if key in mismatch:
            yield invalid_value(f"{path}.matchLabelKeys[{at}]", key, "exists in both matchLabelKeys and mismatchLabelKeys")


_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
_POLICIES = ("Honor", "Ignore")


def spread(path: str, found: list[Map]) -> Errors:
    """topologySpreadConstraints."""
    for at, each in enumerate(found):
        where = f"{path}[{at}]"
        if (each.get("maxSkew") or 0) <= 0:
            yield invalid_value(f"{where}.maxSkew", each.get("maxSkew") or 0, "must be greater than zero")
        key, when = each.get("topologyKey") or "", each.get("whenUnsatisfiable") or ""
        if not key:
            yield required_value(f"{where}.topologyKey", "can not be empty")
        if when not in _ACTIONS:
            yield unsupported_value(f"{where}.whenUnsatisfiable", when, _ACTIONS)
        if any(
            (later.get("topologyKey") or "", later.get("whenUnsatisfiable") or "") == (key, when) for later in found[at + 1 :]
        ):
            yield duplicate_value(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {when}}}")
        least = each.get("minDomains")
        if least is not None and least <= 0:
            yield invalid_value(f"{where}.minDomains", least, "must be greater than zero")
        if least is not None and when != "DoNotSchedule":
            detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
            yield invalid_value(f"{where}.minDomains", least, detail)
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if each.get(field) is not None and each[field] not in _POLICIES:
                yield unsupported_value(f"{where}.{field}", each[field], _POLICIES)
        yield from _spread_keys(f"{where}.matchLabelKeys", each.get("matchLabelKeys") or [], each.get("labelSelector"))
        yield from label_selector(f"{where}.labelSelector", each.get("labelSelector"))


def _spread_keys(path: str, keys: list[str], selector: Map | None) -> Errors:
    if keys and selector is None:
        yield forbidden_value(path, "must not be specified when labelSelector is not set")
    named = {
        *((selector or {}).get("matchLabels") or ()),
        *(each.get("key") for each in (selector or {}).get("matchExpressions") or ()),
    }
    for at, key in enumerate(keys):
        yield from checked(f"{path}[{at}]", key, names.qualified_name)
        if key in named:
            yield invalid_value(f"{path}[{at}]", key, "exists in both matchLabelKeys and labelSelector")
