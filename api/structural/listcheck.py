"""The rules of x-kubernetes-list-type, x-kubernetes-list-map-keys and x-kubernetes-map-type in schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubeling.api.errors import (
    FieldError,
    duplicate_value,
    forbidden_value,
    invalid_value,
    required_value,
    unsupported_value,
)

Errors = Iterator[FieldError]
Json = Mapping[str, Any]
_SCALARS = frozenset({"string", "integer", "number", "boolean"})
_LIST_TYPES = ("atomic", "map", "set")


def check_list(schema: Json, path: str) -> Errors:
    """Faults of the list type and the keys."""
    kind = schema.get("x-kubernetes-list-type")
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if kind is None:
        if keys:
            yield required_value(f"{path}.x-kubernetes-list-type", "must be map if x-kubernetes-list-map-keys is non-empty")
        return
    if kind not in _LIST_TYPES:
        yield unsupported_value(f"{path}.x-kubernetes-list-type", kind, _LIST_TYPES)
        return
    if schema.get("type") != "array":
        yield invalid_value(f"{path}.type", schema.get("type") or "", "must be array if x-kubernetes-list-type is specified")
        return
    items = schema.get("items")
    items = items if isinstance(items, dict) else {}
    if kind == "map":
        yield from _keys(schema, items, keys, path)
    elif keys:
        yield forbidden_value(f"{path}.x-kubernetes-list-map-keys", "must be empty if x-kubernetes-list-type is not map")
    if kind == "set":
        yield from _set_items(items, path)


def _keys(schema: Json, items: Json, keys: list[str], path: str) -> Errors:
    where = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        yield required_value(where, "must not be empty if x-kubernetes-list-type is map")
    if items.get("type") != "object":
        yield invalid_value(
            f"{path}.items.type", items.get("type") or "", "must be object if parent array's x-kubernetes-list-type is map"
        )
        return
    if items.get("nullable"):
        yield forbidden_value(f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is map")
    seen: set[str] = set()
    for index, key in enumerate(keys):
        if key in seen:
            yield duplicate_value(f"{where}[{index}]", key)
        seen.add(key)
        found = (items.get("properties") or {}).get(key)
        place = f"{path}.items.properties[{key}]"
        if not isinstance(found, dict):
            yield invalid_value(f"{where}[{index}]", key, "entries must all be names of item properties")
            continue
        if found.get("type") not in _SCALARS and not found.get("x-kubernetes-int-or-string"):
            yield invalid_value(
                f"{place}.type", found.get("type") or "", "must be a scalar type if parent array's x-kubernetes-list-type is map"
            )
        if found.get("nullable"):
            yield forbidden_value(f"{place}.nullable", "this property is in x-kubernetes-list-map-keys, so it cannot be nullable")
        if key not in (items.get("required") or ()) and found.get("default") is None:
            why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            yield required_value(f"{place}.default", why)


def _set_items(items: Json, path: str) -> Errors:
    if items.get("nullable"):
        yield forbidden_value(f"{path}.items.nullable", "cannot be nullable when x-kubernetes-list-type is set")
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        why = "must be atomic as item of a list with x-kubernetes-list-type=set"
        yield invalid_value(f"{path}.items.x-kubernetes-map-type", items.get("x-kubernetes-map-type") or "", why)
    if items.get("type") == "array" and (items.get("x-kubernetes-list-type") or "atomic") != "atomic":
        why = "must be atomic as item of a list with x-kubernetes-list-type=set"
        yield invalid_value(f"{path}.items.x-kubernetes-list-type", items["x-kubernetes-list-type"], why)


def check_map_type(schema: Json, path: str) -> Errors:
    """Faults of the map type."""
    kind = schema.get("x-kubernetes-map-type")
    if kind is None:
        return
    if kind not in ("atomic", "granular"):
        yield unsupported_value(f"{path}.x-kubernetes-map-type", kind, ("atomic", "granular"))
    if schema.get("type") != "object":
        yield invalid_value(f"{path}.type", schema.get("type") or "", "must be object if x-kubernetes-map-type is specified")
