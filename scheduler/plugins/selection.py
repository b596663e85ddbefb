"""Node selectors on arrays: for each row of the table, does the node match? Mirrors :mod:`kubeling.api.affinity`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kubeling.api.affinity import matches_expression
from kubeling.scheduler.table import Table

Mask = NDArray[np.bool_]


def matches_label(table: Table, expression: Mapping[str, Any]) -> Mask:
    """One NodeSelectorRequirement on labels: judged once for each value of the label, and once for its absence."""
    key = expression.get("key", "")
    column = table.labels(key)
    verdicts = [matches_expression(expression, {key: value}) for value in column.values]
    verdicts.append(matches_expression(expression, {}))
    return np.array(verdicts, dtype=bool)[column.ids[: table.size]]


def matches_field(table: Table, expression: Mapping[str, Any]) -> Mask:
    """One requirement on `metadata.name`."""
    return np.array([matches_expression(expression, {"metadata.name": name}) for name in table.names], dtype=bool)


def matches_term(table: Table, term: Mapping[str, Any]) -> Mask:
    """All of a NodeSelectorTerm; one with nothing in it matches no node."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    found = np.full(table.size, bool(expressions or fields))
    for each in expressions:
        found &= matches_label(table, each)
    for each in fields:
        found &= matches_field(table, each)
    return found


def matches_selector(table: Table, selector: Mapping[str, Any] | None) -> Mask:
    """Any of a NodeSelector's terms; an absent selector matches every node."""
    if selector is None:
        return np.ones(table.size, dtype=bool)
    found = np.zeros(table.size, dtype=bool)
    for term in selector.get("nodeSelectorTerms") or ():
        found |= matches_term(table, term)
    return found


def pod_matches(table: Table, spec: Mapping[str, Any]) -> Mask:
    """What a pod demands of its node: `nodeSelector` and the required node affinity."""
    wanted = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    found = matches_selector(table, wanted)
    for key, value in (spec.get("nodeSelector") or {}).items():
        column = table.labels(key)
        found &= column.ids[: table.size] == column.values.get(value, -2)
    return found
