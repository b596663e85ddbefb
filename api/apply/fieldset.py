"""Sets of field paths, in the very form in which managedFields keeps them (FieldsV1).

A node is a dict from path element to node. Elements are `f:<name>` for a member of an object or map, `k:{"name":"c"}` for a list element by its keys
and `v:<json>` for one of a set. An empty node is a path in the set; a node with children is one too if it has the key ".". All functions leave
their arguments alone and may share parts with them, since nodes live in cached objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

FieldSet = dict[str, Any]
#: Path elements from the root.
Path = tuple[str, ...]

SELF = "."
EMPTY: FieldSet = {}


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """The paths of either. For the root, where an empty node is the empty set."""
    if not left or left is right:
        return right
    return _union(left, right) if right else left


def _union(left: FieldSet, right: FieldSet) -> FieldSet:
    if left is right:
        return left
    if not left:
        return right if not right or SELF in right else {SELF: EMPTY, **right}
    if not right:
        return left if SELF in left else {SELF: EMPTY, **left}
    merged = dict(left)
    for element, node in right.items():
        mine = merged.get(element)
        merged[element] = node if mine is None else _union(mine, node)
    return merged


def without(left: FieldSet, right: FieldSet) -> FieldSet:
    """The paths of `left` that are not in `right` nor below a leaf of it. For the root."""
    return _without(left, right) or EMPTY if left and right else left


def _without(left: FieldSet, right: FieldSet) -> FieldSet | None:
    """None where nothing is left."""
    if not left:
        return None if SELF in right else left
    kept: FieldSet | None = None
    for element, cut in right.items():
        mine = left.get(element)
        if mine is None:
            continue
        rest = _without(mine, cut) if cut else None
        if rest is mine:
            continue
        if kept is None:
            kept = dict(left)
        if rest is None:
            del kept[element]
        else:
            kept[element] = rest
    if kept is None:
        return left
    if not kept:
        return None
    return EMPTY if len(kept) == 1 and SELF in kept else kept


def common(left: FieldSet, right: FieldSet) -> FieldSet:
    """The paths that are in both. For the root."""
    return _common(left, right) or EMPTY if left and right else EMPTY


def _common(left: FieldSet, right: FieldSet) -> FieldSet | None:
    if not left:
        return EMPTY if not right or SELF in right else None
    if not right:
        return EMPTY if SELF in left else None
    found: FieldSet = {}
    for element, node in left.items():
        theirs = right.get(element)
        if theirs is not None:
            both = _common(node, theirs)
            if both is not None:
                found[element] = both
    if not found:
        return None
    return EMPTY if len(found) == 1 and SELF in found else found


def insert(target: FieldSet, path: Sequence[str]) -> None:
    """Put a path into a set of one's own, in place."""
    node = target
    for element in path:
        node = node.setdefault(element, {})


def paths(node: FieldSet, prefix: Path = ()) -> Iterator[Path]:
    """Every path of the set, in the order of its keys."""
    for element, child in node.items():
        if element == SELF:
            yield prefix
        elif not child:
            yield (*prefix, element)
        else:
            yield from paths(child, (*prefix, element))


def spelled(path: Sequence[str]) -> str:
    """A path as messages show it: `.spec.containers[name="c"].image`."""
    return "".join(_spelled(each) for each in path)


def _spelled(element: str) -> str:
    kind, _, rest = element.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "v":
        return f"[={rest}]"
    if kind == "i":
        return f"[{rest}]"
    keys = json.loads(rest)
    return "[" + ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(keys.items())) + "]"


def field(name: str) -> str:
    """The element of a member."""
    return f"f:{name}"


def from_paths(found: Sequence[Sequence[str]]) -> FieldSet:
    """The set of these paths, given as member names."""
    target: FieldSet = {}
    for each in found:
        insert(target, [field(name) for name in each])
    return target
