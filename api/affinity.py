"""Node selectors and affinity terms: does this node, or this pod, fit?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubeling.api.meta import Object, labels_of, name_of, spec_of


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
