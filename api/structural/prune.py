"""Takes out of an object what its schema does not name.

What stands under x-kubernetes-preserve-unknown-fields or under a schema for all other properties is kept. The metadata of the object itself, and of
embedded resources, is not the schema's business: it is kept here and checked against ObjectMeta by the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubeling.api.structural.node import Node

#: Findings beyond this many are not told.
MAX_PROBLEMS = 100
_IDENTITY = frozenset({"apiVersion", "kind", "metadata"})


#: Gets a value and where it stands; returns what is to stand there.
Check = Callable[[Any, str], Any]


def check_embedded(value: Any, node: Node, check: Check, path: str = "") -> None:
    """Put what `check` makes of the metadata of embedded resources in its place."""
    if not node.embedded_below:
        return
    if type(value) is dict:
        if node.embedded and value.get("metadata") is not None:
            value["metadata"] = check(value["metadata"], f"{path}.metadata")
        for name, item in value.items():
            inner = node.member(name)
            if inner is not None and inner.embedded_below:
                check_embedded(item, inner, check, f"{path}.{name}" if path else name)
    elif type(value) is list and node.items is not None:
        for index, item in enumerate(value):
            check_embedded(item, node.items, check, f"{path}[{index}]")


def prune(obj: dict[str, Any], node: Node, *, top: bool = True) -> list[str]:
    """Prune in place; returns the paths of what was taken out (`spec.foo`, `spec.list[0].bar`), at most 100 of them.

    `top` says that this is a whole object, which has apiVersion, kind and metadata whatever the schema says.
    """
    removed: list[str] = []
    _prune(obj, node, "", top or node.embedded, removed)
    return removed


def _prune(value: Any, node: Node, path: str, resource: bool, removed: list[str]) -> None:
    if type(value) is dict:
        _prune_map(value, node, path, resource, removed)
    elif type(value) is list and node.items is not None:
        items = node.items
        for index, item in enumerate(value):
            if type(item) is dict or type(item) is list:
                _prune(item, items, f"{path}[{index}]", items.embedded, removed)


def _prune_map(value: dict[str, Any], node: Node, path: str, resource: bool, removed: list[str]) -> None:
    properties, additional = node.properties, node.additional
    keeps = node.preserve_unknown or node.additional_any
    unknown: list[str] = []
    for name, item in value.items():
        if resource and name in _IDENTITY:
            continue
        inner = properties.get(name) or additional
        if inner is None:
            if not keeps:
                unknown.append(name)
        elif type(item) is dict or type(item) is list:
            _prune(item, inner, f"{path}.{name}" if path else name, inner.embedded, removed)
    for name in unknown:
        del value[name]
        if len(removed) < MAX_PROBLEMS:
            removed.append(f"{path}.{name}" if path else name)
