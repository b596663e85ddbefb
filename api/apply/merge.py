"""Structured merge: an applied configuration laid over the live object, and the fields taken out that their manager no longer wishes for."""

from __future__ import annotations

from typing import Any

from kubeling.api.apply.fieldset import SELF, FieldSet
from kubeling.api.apply.walk import divisible, element_key, member_schema
from kubeling.api.errors import FieldError, duplicate_value, required_value
from kubeling.api.schema import Schema


def merge(live: Any, applied: Any, schema: Schema | None) -> Any:
    """The two as one: the applied value wins wherever there is one. Parts are shared with the arguments."""
    if schema is None or not divisible(applied, schema) or type(live) is not type(applied):
        return applied
    if isinstance(applied, dict):
        merged = dict(live)
        for name, value in applied.items():
            # Most members are scalars, of which nothing is looked up.
            if isinstance(value, (dict, list)) and merged.get(name) is not None:
                value = merge(merged[name], value, member_schema(schema, name))
            merged[name] = value
        return merged
    return _merge_list(live, applied, schema)


def _merge_list(live: list[Any], applied: list[Any], schema: Schema) -> list[Any]:
    """The applied elements in their order; before each, the live ones that stand before it and are not applied."""
    wished = {element_key(schema, each): each for each in applied}
    merged: list[Any] = []
    done: set[str | None] = set()
    at = 0
    keys = [element_key(schema, each) for each in live]
    places = {key: index for index, key in enumerate(keys)}
    for key, value in wished.items():
        place = places.get(key, -1)
        while at < place:
            if keys[at] not in wished and keys[at] not in done:
                merged.append(live[at])
                done.add(keys[at])
            at += 1
        merged.append(merge(live[place], value, schema.element) if place >= 0 else value)
    merged += [each for key, each in zip(keys, live, strict=True) if key not in wished and key not in done]
    return merged


def prune(obj: Any, dropped: FieldSet, kept: FieldSet, schema: Schema | None) -> Any:
    """Take out the paths of `dropped` that nothing in `kept` is at or below. What no manager ever owned goes only with its parent."""
    if schema is None or not divisible(obj, schema) or not dropped:
        return obj
    if isinstance(obj, dict):
        return _prune_map(obj, dropped, kept, schema)
    if isinstance(obj, list):
        return _prune_list(obj, dropped, kept, schema)
    return obj


def _prune_map(obj: dict[str, Any], dropped: FieldSet, kept: FieldSet, schema: Schema) -> dict[str, Any]:
    pruned = dict(obj)
    for element, node in dropped.items():
        name = element[2:]
        if element == SELF or name not in pruned:
            continue
        if element not in kept and (schema.type != "map" or not node or SELF in node):
            del pruned[name]
            continue
        pruned[name] = prune(pruned[name], node, kept.get(element, {}), member_schema(schema, name))
    return pruned


def _prune_list(items: list[Any], dropped: FieldSet, kept: FieldSet, schema: Schema) -> list[Any]:
    pruned = []
    for item in items:
        element = element_key(schema, item)
        node = dropped.get(element) if element is not None else None
        if node is None or element is None:
            pruned.append(item)
        elif element in kept or (node and SELF not in node):
            pruned.append(prune(item, node, kept.get(element, {}), schema.element))
    return pruned


def strip_nulls(value: Any) -> Any:
    """The configuration without members that are null, which wish for nothing."""
    if isinstance(value, dict):
        return {
            name: strip_nulls(each) if isinstance(each, (dict, list)) else each
            for name, each in value.items()
            if each is not None
        }
    if isinstance(value, list):
        return [strip_nulls(each) for each in value]
    return value


def check_keys(value: Any, schema: Schema | None, path: str = "") -> list[FieldError]:
    """Keyed lists whose elements lack a key, or name one twice: they cannot be merged."""
    if schema is None or not divisible(value, schema):
        return []
    found: list[FieldError] = []
    if isinstance(value, dict):
        for name, each in value.items():
            if isinstance(each, (dict, list)):
                found += check_keys(each, member_schema(schema, name), f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        seen: set[str] = set()
        for index, each in enumerate(value):
            key = element_key(schema, each)
            where = f"{path}[{index}]"
            if key is None:
                missing = next(
                    (name for name in schema.list_map_keys if not isinstance(each, dict) or each.get(name) is None), ""
                )
                detail = f'associative list with keys has an element that omits key field "{missing}"'
                found.append(required_value(where, detail))
            elif key in seen:
                found.append(duplicate_value(where, key[2:]))
            else:
                seen.add(key)
                found += check_keys(each, schema.element, where)
    return found
