"""A strategic merge as kustomize does it: as the server's, but what a patch adds to a list, and what it changes there, comes first."""

from __future__ import annotations

from typing import Any

from kubeling.api.meta import copy_json
from kubeling.api.schema import Field, Schema, below
from kubeling.cli.kustomization.problems import KustomizationError

Map = dict[str, Any]
_PATCH = "$patch"


def merge(original: Map, patch: Map, schema: Schema | None) -> Map | None:
    """The patched object, None where the patch takes it away. Neither is changed."""
    directive = patch.get(_PATCH)
    if directive == "delete":
        return None
    if directive == "replace":
        return _plain(patch)  # type: ignore[no-any-return]
    if directive not in (None, "merge"):
        raise KustomizationError(f"unknown patch strategy '{directive}'")
    merged = dict(original)
    for name, value in patch.items():
        if name == _PATCH:
            continue
        if value is None:
            merged.pop(name, None)
            continue
        field, target = below(schema, name)
        found = _value(merged.get(name), value, field, target)
        if found is None:
            merged.pop(name, None)
        else:
            merged[name] = found
    return merged


def _value(original: Any, patch: Any, field: Field | None, target: Schema | None) -> Any:
    if isinstance(patch, dict):
        return merge(original if isinstance(original, dict) else {}, patch, target)
    if not isinstance(patch, list):
        return patch
    merges = field is not None and "merge" in field.patch_strategy
    if not merges and not (target is not None and target.list_type in ("map", "set")):
        return _plain(patch)
    before = original if isinstance(original, list) else []
    key = field.patch_merge_key if field is not None else ""
    keys = (target.list_map_keys if target is not None else ()) or ((key,) if key else ())
    if not keys:
        return [*patch, *(each for each in before if each not in patch)]
    return _list(before, patch, keys, target.element if target else None)


def _list(before: list[Any], patch: list[Any], keys: tuple[str, ...], element: Schema | None) -> list[Any]:
    if any(isinstance(each, dict) and each.get(_PATCH) == "replace" for each in patch):
        return [_plain(each) for each in patch if _PATCH not in each]
    left, first = list(before), []
    for each in patch:
        if not isinstance(each, dict):
            raise KustomizationError(f"wrong Node Kind: an element of a list with the key {keys[0]} has to be a map")
        at = next((at for at, other in enumerate(left) if _same(each, other, keys)), None)
        found = merge(left.pop(at) if at is not None else {}, each, element)
        if found is not None:
            first.append(found)
    return first + left


def _same(one: Any, other: Any, keys: tuple[str, ...]) -> bool:
    """By the keys that both have: a port without a protocol is the one with that number."""
    if not isinstance(other, dict):
        return False
    shared = [key for key in keys if one.get(key) is not None and other.get(key) is not None]
    return bool(shared) and all(one[key] == other[key] for key in shared)


def _plain(value: Any) -> Any:
    """A value of a patch that meets nothing, without directives and nulls in maps."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None and key != _PATCH}
    if isinstance(value, list):
        return [_plain(each) for each in value if not (isinstance(each, dict) and each.get(_PATCH) == "delete")]
    return copy_json(value)
