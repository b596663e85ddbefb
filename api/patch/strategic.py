"""Strategic merge patch: a merge patch that knows from the schema which lists merge by key, and takes directives.

- `$patch: replace | delete | merge` in an object, or in an element of a merging list;
- `$deleteFromPrimitiveList/<field>` takes values out of a merging list of scalars;
- `$setElementOrder/<field>` says in which order the elements that the client knows shall stand; those that only the server knows keep their places;
- `$retainKeys` drops the members of an object that are not named: unions such as volumes and strategies.

Null deletes; a null for what is not there does nothing. Lists without a merge strategy are replaced whole.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from kubeling.api.errors import bad_request
from kubeling.api.meta import copy_json
from kubeling.api.patch.json_patch import too_deep, unprocessable
from kubeling.api.patch.printed import printed
from kubeling.api.schema import Field, Schema, below

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"

Map = dict[str, Any]


def apply_strategic_patch(document: Map, patch: Any, schema: Schema) -> Map:
    """The patched document; parts that the patch does not touch are shared with the original.

    Raises ApiError: 400 for what is no patch or misuses a directive, 422 for a list element without its merge key.
    """
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a strategic merge patch must be a JSON object")
    try:
        return _merge_map(document, patch, schema)
    except RecursionError:
        raise too_deep() from None


def _merge_map(original: Map, patch: Map, schema: Schema | None) -> Map:
    directive = patch.get(_PATCH)
    if directive == "replace":
        return {key: _plain(value) for key, value in patch.items() if value is not None and not key.startswith("$")}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"unknown patch type: {directive} in map: {printed(patch)}")
    merged = _retained(original, patch)
    for field in dict.fromkeys(_field_of(key) for key in patch if key not in (_PATCH, _RETAIN)):
        _merge_field(merged, patch, field, schema)
    return merged


def _field_of(key: str) -> str:
    for prefix in (_DELETE_FROM, _ORDER):
        if key.startswith(prefix):
            return key[len(prefix) :]
    return key


def _retained(original: Map, patch: Map) -> Map:
    if _RETAIN not in patch:
        return dict(original)
    kept = patch[_RETAIN]
    if not isinstance(kept, list) or not all(isinstance(each, str) for each in kept):
        raise bad_request("invalid patch format of retainKeys: list of strings expected")
    for key, value in patch.items():
        if value is not None and not key.startswith("$") and key not in kept:
            raise bad_request(f"{key} in patch is not in the $retainKeys list: {printed(kept)}")
    return {key: value for key, value in original.items() if key in kept}


def _merge_field(merged: Map, patch: Map, name: str, schema: Schema | None) -> None:
    field, target = below(schema, name)
    order = patch.get(_ORDER + name)
    removed = patch.get(_DELETE_FROM + name)
    for each in (order, removed):
        if each is not None and not isinstance(each, list):
            raise bad_request(f"invalid patch format of {name}'s list directive: list expected")
    if name in patch and patch[name] is None:
        merged.pop(name, None)
        return
    server = merged.get(name)
    if removed is not None and isinstance(server, list):
        merged[name] = [each for each in server if each not in removed]
    if name in patch:
        merged[name] = _merge_value(merged.get(name), patch[name], field, target)
    if order is not None and isinstance(merged.get(name), list):
        key = field.patch_merge_key if field else ""
        _check_order(patch.get(name), order, key)
        merged[name] = _ordered(merged[name], order, server if isinstance(server, list) else [], key)


def _merge_value(original: Any, patch: Any, field: Field | None, target: Schema | None) -> Any:
    strategy = field.patch_strategy if field else frozenset[str]()
    if isinstance(patch, dict):
        if isinstance(original, dict) and "replace" not in strategy:
            return _merge_map(original, patch, target)
        return _merge_map({}, patch, target)
    if isinstance(patch, list) and field is not None and "merge" in strategy:
        element = target.element if target else None
        return _merge_list(original if isinstance(original, list) else [], patch, field.patch_merge_key, element)
    return _plain(patch)


def _merge_list(original: list[Any], patch: list[Any], key: str, element: Schema | None) -> list[Any]:
    if not key or any(not isinstance(each, dict) for each in patch):
        seen = {_identity(each, "") for each in original}
        merged = list(original)
        for each in patch:
            if _identity(each, "") not in seen:
                seen.add(_identity(each, ""))
                merged.append(each)
        return _ordered(merged, patch, original, "")
    if any(each.get(_PATCH) == "replace" for each in patch):
        return [_plain(each) for each in patch if _PATCH not in each]
    merged = list(original)
    places = _places(merged, key)
    known: list[Map] = []
    gone: set[str] = set()
    for each in patch:
        if each.get(key) is None:
            raise unprocessable(f"map: {printed(each)} does not contain declared merge key: {key}")
        identity = _identity(each, key)
        if each.get(_PATCH) == "delete":
            gone.add(identity)
            continue
        known.append(each)
        at = places.get(identity)
        if at is None:
            places[identity] = len(merged)
            merged.append(_merge_map({}, each, element))
        else:
            merged[at] = _merge_map(merged[at], each, element)
    return _ordered([each for each in merged if _identity(each, key) not in gone], known, original, key)


def _identity(value: Any, key: str) -> str:
    """What makes an element of a list the one it is, as something that can be looked up."""
    return json.dumps(value.get(key) if key and isinstance(value, dict) else value, sort_keys=True)


def _places(values: list[Any], key: str) -> dict[str, int]:
    places: dict[str, int] = {}
    for at, each in enumerate(values):
        places.setdefault(_identity(each, key), at)
    return places


def _ordered(merged: list[Any], order: list[Any], server: list[Any], key: str) -> list[Any]:
    """The known elements in the patch's order; before each, those that only the server has and that stood before it there."""
    wanted, held = _places(order, key), _places(server, key)
    tagged = [(_identity(each, key), each) for each in merged]
    known = sorted((each for each in tagged if each[0] in wanted), key=lambda each: wanted[each[0]])
    own = deque(sorted((each for each in tagged if each[0] not in wanted), key=lambda each: held.get(each[0], -1)))
    result: list[Any] = []
    for identity, value in known:
        place = held.get(identity, -1)
        while own and 0 <= held.get(own[0][0], -1) < place:
            result.append(own.popleft()[1])
        result.append(value)
    return result + [value for _, value in own]


def _check_order(patch: Any, order: list[Any], key: str) -> None:
    """The elements of the patch must stand in the order list, in that order."""
    if not isinstance(patch, list):
        return
    wanted = _places(order, key)
    places = [wanted.get(_identity(each, key), -1) for each in patch if not (isinstance(each, dict) and _PATCH in each)]
    if -1 in places or places != sorted(places):
        raise bad_request(
            f"The order in patch list:\n{printed(patch)}\n doesn't match $setElementOrder list:\n{printed(order)}\n"
        )


def _plain(value: Any) -> Any:
    """A value of a patch that meets nothing to merge with: without directives and nulls in objects."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None and not key.startswith("$")}
    if isinstance(value, list):
        return [_plain(each) for each in value if not (isinstance(each, dict) and each.get(_PATCH) == "delete")]
    return copy_json(value)
