"""Fills in the defaults of a structural schema.

A null where null is not allowed counts as absent: it gives way to the default where there is one, and goes away where there is none.
"""

from __future__ import annotations

from typing import Any

from kubeling.api.meta import copy_json
from kubeling.api.structural.node import Node


def apply_defaults(value: Any, node: Node, *, top: bool = False) -> bool:
    """Default in place. Returns whether anything changed. `top`: `value` is a whole object, whose metadata is left alone."""
    changed = False
    if type(value) is dict:
        changed = _drop_nulls(value, node)
        if node.defaults_below:
            for name, inner in node.properties.items():
                if inner.has_default and name not in value and not (top and name == "metadata"):
                    value[name] = copy_json(inner.default)
                    changed = True
        for name, item in value.items():
            if (type(item) is dict or type(item) is list) and not (top and name == "metadata"):
                inner_node = node.member(name)
                if inner_node is not None:
                    changed = apply_defaults(item, inner_node, top=inner_node.embedded) or changed
    elif type(value) is list and node.items is not None:
        items = node.items
        for index, item in enumerate(value):
            if item is None and items.has_default and not items.nullable:
                value[index] = copy_json(items.default)
                changed = True
            elif type(item) is dict or type(item) is list:
                changed = apply_defaults(item, items, top=items.embedded) or changed
    return changed


def _drop_nulls(value: dict[str, Any], node: Node) -> bool:
    nulls = [name for name, item in value.items() if item is None]
    dropped = False
    for name in nulls:
        inner = node.member(name)
        if inner is None or inner.nullable or inner.preserve_unknown:
            continue
        if name in node.properties or inner.has_default:
            dropped = True
            if inner.has_default:
                value[name] = copy_json(inner.default)
            else:
                del value[name]
    return dropped
