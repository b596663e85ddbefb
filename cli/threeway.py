"""The three-way patch of client-side apply: from the manifest applied last, the live object and the manifest of now, to what must change.

What the last manifest had and this one has not is deleted; what this one has and the live object has otherwise is set; all else is left to those who
manage it. For built-in kinds the result is a strategic merge patch, so that lists merge by their keys; for custom resources a JSON merge patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubeling.api.resources import Resource, by_kind
from kubeling.client.rest import PatchType

if TYPE_CHECKING:
    from kubeling.api.schema import Field, Schema

Obj = dict[str, Any]


def schema_of(resource: Resource) -> Schema | None:
    """The schema by whose merge keys a kind's lists merge; None for custom resources."""
    if by_kind(resource.group_version, resource.kind) is None:
        return None
    from kubeling.api.builtin import schema_of as builtin_schema_of  # It reads all of a group's types: only who patches pays.

    return builtin_schema_of(resource.group_version, resource.kind)


def patch_type_of(resource: Resource) -> PatchType:
    """How a patch of :func:`three_way` is sent."""
    return "strategic" if by_kind(resource.group_version, resource.kind) is not None else "merge"


def three_way(last: Obj, live: Obj, now: Obj, schema: Schema | None) -> Obj:
    """The patch; empty where nothing must change. `schema` None makes it a JSON merge patch."""
    return _merge(_deletions(last, now, live, schema), _changes(live, now, schema))


def _changes(live: Any, now: Obj, schema: Schema | None) -> Obj:
    """What `now` sets and `live` has otherwise. Nothing is deleted."""
    patch: Obj = {}
    for key, wanted in now.items():
        if not isinstance(live, dict) or key not in live:
            if wanted is not None:
                patch[key] = wanted
            continue
        have = live[key]
        field = _field(schema, key)
        if wanted is None:
            patch[key] = None
        elif isinstance(wanted, dict) and isinstance(have, dict):
            below = _changes(have, wanted, _target(field))
            if field is not None and "retainKeys" in field.patch_strategy and below:
                below["$retainKeys"] = sorted(wanted)
            if below:
                patch[key] = below
        elif isinstance(wanted, list) and isinstance(have, list) and _merges(field):
            _change_list(patch, key, have, wanted, field)
        elif wanted != have:
            patch[key] = wanted
    return patch


def _change_list(patch: Obj, key: str, have: list[Any], wanted: list[Any], field: Field | None) -> None:
    assert field is not None
    merge_key = field.patch_merge_key
    if not merge_key:
        added = [value for value in wanted if value not in have]
        if added:
            patch[key] = added
            patch[f"$setElementOrder/{key}"] = wanted
        return
    known = {element.get(merge_key): element for element in have if isinstance(element, dict)}
    changed: list[Obj] = []
    for element in wanted:
        live = known.get(element.get(merge_key))
        if live is None:
            changed.append(element)
            continue
        below = _changes(live, element, _element(field))
        if below and "retainKeys" in field.patch_strategy:
            below["$retainKeys"] = sorted(element)
        if below:
            changed.append({merge_key: element[merge_key], **below})
    order = [element.get(merge_key) for element in wanted]
    if changed or [each for each in (element.get(merge_key) for element in have) if each in order] != order:
        patch[key] = changed
        patch[f"$setElementOrder/{key}"] = [{merge_key: each} for each in order]
        if not changed:
            del patch[key]


def _deletions(last: Any, now: Obj, live: Any, schema: Schema | None) -> Obj:
    """What the last manifest had, this one has no more, and the live object still has."""
    patch: Obj = {}
    for key, before in (last or {}).items() if isinstance(last, dict) else ():
        if not isinstance(live, dict) or key not in live:
            continue
        field = _field(schema, key)
        if key not in now:
            patch[key] = None
        elif isinstance(before, dict) and isinstance(now[key], dict):
            below = _deletions(before, now[key], live[key], _target(field))
            if below:
                patch[key] = below
        elif isinstance(before, list) and isinstance(now[key], list) and _merges(field):
            _delete_from_list(patch, key, before, now[key], live[key], field)
    return patch


def _delete_from_list(patch: Obj, key: str, before: list[Any], now: list[Any], live: Any, field: Field | None) -> None:
    assert field is not None
    merge_key = field.patch_merge_key
    present = live if isinstance(live, list) else []
    if not merge_key:
        gone = [value for value in before if value not in now and value in present]
        if gone:
            patch[f"$deleteFromPrimitiveList/{key}"] = gone
        return
    still = {element.get(merge_key): element for element in now}
    there = {element.get(merge_key): element for element in present if isinstance(element, dict)}
    changes: list[Obj] = []
    for element in before:
        identity = element.get(merge_key)
        if identity not in there:
            continue
        if identity not in still:
            changes.append({"$patch": "delete", merge_key: identity})
            continue
        below = _deletions(element, still[identity], there[identity], _element(field))
        if below:
            changes.append({merge_key: identity, **below})
    if changes:
        patch[key] = changes
        patch[f"$setElementOrder/{key}"] = [{merge_key: each} for each in still]


def _merge(left: Obj, right: Obj) -> Obj:
    """Both patches in one. They never set the same scalar: one deletes what the other does not have."""
    merged = dict(left)
    for key, value in right.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merge(old, value)
        elif isinstance(old, list) and isinstance(value, list) and not key.startswith("$"):
            merged[key] = _merge_elements(old, value)
        else:
            merged[key] = value
    return merged


def _merge_elements(left: list[Any], right: list[Any]) -> list[Any]:
    """Two lists of element patches: those of one element become one."""
    merged = list(left)
    for element in right:
        for at, other in enumerate(merged):
            if isinstance(element, dict) and isinstance(other, dict) and _same_element(other, element):
                merged[at] = _merge(other, element)
                break
        else:
            merged.append(element)
    return merged


def _same_element(left: Obj, right: Obj) -> bool:
    """The merge key comes first in every element patch made here, behind a directive."""
    keys = [key for key in left if not key.startswith("$")]
    return bool(keys) and left.get("$patch") != "delete" and left[keys[0]] == right.get(keys[0])


def _field(schema: Schema | None, key: str) -> Field | None:
    return schema.fields.get(key) if schema is not None else None


def _target(field: Field | None) -> Schema | None:
    return field.schema if field is not None else None


def _element(field: Field) -> Schema | None:
    return field.schema.element


def _merges(field: Field | None) -> bool:
    return field is not None and "merge" in field.patch_strategy
