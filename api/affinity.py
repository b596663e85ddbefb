"""Node selectors and affinity terms: does this node, or this pod, fit?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubeling.api import labels
from kubeling.api.meta import Object, labels_of, name_of, namespace_of, spec_of


def matches_expression(expression: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    """One NodeSelectorRequirement on labels (or fields): In, NotIn, Exists, DoesNotExist, Gt, Lt."""
    value = values.get(expression.get("key", ""))
    wanted: Sequence[str] = expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return value is not None and value in wanted
        case "NotIn":
            return value is None or value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                number, bound = int(value or ""), int(wanted[0])
            except (ValueError, IndexError):
                return False
            return number > bound if operator == "Gt" else number < bound
    return False


def matches_term(term: Mapping[str, Any], node: Object) -> bool:
    """All of a NodeSelectorTerm; a term with nothing in it matches no node."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    by_label = labels_of(node)
    by_field = {"metadata.name": name_of(node)}
    return all(matches_expression(each, by_label) for each in expressions) and all(
        matches_expression(each, by_field) for each in fields
    )


def matches_node_selector(selector: Mapping[str, Any] | None, node: Object) -> bool:
    """Any of a NodeSelector's terms; an absent selector matches every node."""
    if selector is None:
        return True
    return any(matches_term(each, node) for each in selector.get("nodeSelectorTerms") or ())


def pod_matches_node(pod: Object, node: Object) -> bool:
    """What a pod demands of its node: `nodeSelector` and the required node affinity."""
    spec = spec_of(pod)
    by_label = labels_of(node)
    if any(by_label.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    wanted = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    return matches_node_selector(wanted, node)


def preferred_weight(pod: Object, node: Object) -> int:
    """The sum of the weights of the preferred node affinity terms that the node meets. A term with nothing in it meets every node."""
    affinity = (spec_of(pod).get("affinity") or {}).get("nodeAffinity") or {}
    total = 0
    for each in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
        term = each.get("preference") or {}
        if not (term.get("matchExpressions") or term.get("matchFields")) or matches_term(term, node):
            total += int(each.get("weight") or 0)
    return total


def pod_term_namespaces(term: Mapping[str, Any], owner: Object) -> frozenset[str] | None:
    """The namespaces a PodAffinityTerm names: its own pod's where it names none; None where a namespaceSelector decides too."""
    if term.get("namespaceSelector") is not None:
        return None
    return frozenset(term.get("namespaces") or (namespace_of(owner),))


def pod_term_selects(
    term: Mapping[str, Any], owner: Object, other: Object, namespace_labels: Mapping[str, Mapping[str, str]] | None = None
) -> bool:
    """Whether a pod affinity term of `owner` is about the pod `other`. `namespace_labels` (name → labels) is for namespaceSelector."""
    namespace = namespace_of(other)
    named: Iterable[str] = term.get("namespaces") or ()
    chosen = term.get("namespaceSelector")
    if chosen is None:
        if namespace not in (named or (namespace_of(owner),)):
            return False
    elif namespace not in named and not labels.from_selector(chosen).matches((namespace_labels or {}).get(namespace)):
        return False
    by_label, own = labels_of(other), labels_of(owner)
    if not labels.from_selector(term.get("labelSelector")).matches(by_label):
        return False
    same = all(by_label.get(key) == own[key] for key in term.get("matchLabelKeys") or () if key in own)
    return same and all(by_label.get(key) != own[key] for key in term.get("mismatchLabelKeys") or () if key in own)
