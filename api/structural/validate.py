"""Holds an object against its schema, in upstream's words.

On an update parts that did not change are not looked at again (KEP-4008): an object that was stored under an older schema can still be changed elsewhere.
Items of lists are compared with their predecessors where the list is a map by keys; other lists count as one value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from kubeling.api.errors import (
    DUPLICATE,
    FieldError,
    invalid_value,
    required_value,
    too_long_value,
    too_many_values,
    unsupported_value,
    wrong_type,
)
from kubeling.api.structural.node import Node

#: Stands for "there was nothing".
ABSENT: Any = object()
#: Errors of one object beyond this many are not told.
MAX_ERRORS = 100
Errors = Iterator[FieldError]
_INTEGERS = {"int32": 2**31, "int64": 2**63}


def validate(obj: Any, node: Node, old: Any = ABSENT) -> list[FieldError]:
    """What is wrong with an object; `old` is what it replaces."""
    found: list[FieldError] = []
    for each in _value(obj, node, "", old, True):
        found.append(each)
        if len(found) == MAX_ERRORS:
            break
    return found


def json_type(value: Any) -> str:
    """The JSON type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float():
            return "number"
        case list():
            return "array"
    return "object"


def _value(value: Any, node: Node, path: str, old: Any = ABSENT, top: bool = False) -> Errors:
    if old is not ABSENT and type(old) is type(value) and old == value:
        return
    if value is None and (node.nullable or (node.preserve_unknown and not node.type)):
        return
    wrong = _type_error(value, node, path)
    if wrong is not None:
        yield wrong
        return
    yield from _junctors(value, node, path)
    yield from _scalar(value, node, path)
    if type(value) is dict:
        yield from _map(value, node, path, old, top)
    elif type(value) is list:
        yield from _list(value, node, path, old)


def _type_error(value: Any, node: Node, path: str) -> FieldError | None:
    actual = json_type(value)
    if node.int_or_string:
        if actual in ("integer", "string") or _is_whole(value):
            return None
        return wrong_type(path, actual, f'{path} in body must be of type integer,string: "{actual}"')
    wanted = node.type
    if not wanted or actual == wanted or (wanted == "number" and actual == "integer"):
        return None
    if wanted == "integer" and _is_whole(value):
        return None
    return wrong_type(path or "<nil>", actual, f'{path} in body must be of type {wanted}: "{actual}"'.lstrip())


def _is_whole(value: Any) -> bool:
    return type(value) is float and math.isfinite(value) and value.is_integer()


def _junctors(value: Any, node: Node, path: str) -> Errors:
    name = f'"{path}"'
    if node.all_of:
        found = [list(_value(value, each, path)) for each in node.all_of]
        for errors in found:
            yield from errors
        if any(found):
            yield invalid_value(path or "<nil>", "", f"{name} must validate all the schemas (allOf)")
    if node.any_of:
        attempts = [list(_value(value, each, path)) for each in node.any_of]
        if all(attempts):
            yield invalid_value(path or "<nil>", "", f"{name} must validate at least one schema (anyOf)")
            yield from min(attempts, key=len)
    if node.one_of:
        attempts = [list(_value(value, each, path)) for each in node.one_of]
        valid = sum(1 for each in attempts if not each)
        if valid != 1:
            more = "Found none valid" if not valid else f"Found {valid} valid alternatives"
            yield invalid_value(path or "<nil>", "", f"{name} must validate one and only one schema (oneOf). {more}")
            if not valid:
                yield from min(attempts, key=len)
    if node.not_ is not None and not any(True for _ in _value(value, node.not_, path)):
        yield invalid_value(path or "<nil>", "", f"{name} must not validate the schema (not)")


def _scalar(value: Any, node: Node, path: str) -> Errors:
    if node.enum is not None and not any(_same(value, each) for each in node.enum):
        yield unsupported_value(path or "<nil>", value, node.enum)
    if type(value) is str:
        yield from _string(value, node, path)
    elif type(value) in (int, float):
        yield from _number(value, node, path)


def _same(left: Any, right: Any) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _string(value: str, node: Node, path: str) -> Errors:
    limits = node.limits
    if "maxLength" in limits and len(value) > limits["maxLength"]:
        yield too_long_value(path, int(limits["maxLength"]))
    if "minLength" in limits and len(value) < limits["minLength"]:
        yield invalid_value(path, value, f"{path} in body should be at least {int(limits['minLength'])} chars long")
    if node.pattern is not None and node.pattern.search(value) is None:
        yield invalid_value(path, value, f"{path} in body should match '{node.json['pattern']}'")
    if node.format and not node.int_or_string and not _is_of_format(node.format, value):
        yield invalid_value(path, value, f'{path} in body must be of type {node.format}: "{value}"')


def _is_of_format(name: str, value: str) -> bool:
    # Loaded by the first kind that has formats.
    from kubeling.api.structural import formats

    return formats.matches(name, value)


def _number(value: float, node: Node, path: str) -> Errors:
    limits = node.limits
    bound = _INTEGERS.get(node.format)
    if bound is not None and not -bound <= value < bound and node.type == "integer":
        yield invalid_value(path, value, f"Checked value must be of type integer with format {node.format} in {path}")
        return
    if "maximum" in limits:
        limit = limits["maximum"]
        if value > limit or (node.exclusive_maximum and value == limit):
            words = "less than" if node.exclusive_maximum else "less than or equal to"
            yield invalid_value(path, value, f"{path} in body should be {words} {_plain(limit)}")
    if "minimum" in limits:
        limit = limits["minimum"]
        if value < limit or (node.exclusive_minimum and value == limit):
            words = "greater than" if node.exclusive_minimum else "greater than or equal to"
            yield invalid_value(path, value, f"{path} in body should be {words} {_plain(limit)}")
    if "multipleOf" in limits and not _is_multiple(value, limits["multipleOf"]):
        yield invalid_value(path, value, f"{path} in body should be a multiple of {_plain(limits['multipleOf'])}")


def _is_multiple(value: float, factor: float) -> bool:
    if type(value) is int and type(factor) is int:
        return value % factor == 0
    quotient = value / factor
    return abs(quotient - round(quotient)) < 1e-9


def _plain(limit: float) -> str:
    return str(int(limit)) if float(limit).is_integer() and abs(limit) < 1e21 else repr(limit)


def _map(value: dict[str, Any], node: Node, path: str, old: Any, top: bool) -> Errors:
    limits = node.limits
    if "maxProperties" in limits and len(value) > limits["maxProperties"]:
        yield too_many_values(path or "<nil>", len(value), int(limits["maxProperties"]))
    if "minProperties" in limits and len(value) < limits["minProperties"]:
        least = int(limits["minProperties"])
        yield invalid_value(path or "<nil>", len(value), f"{path} in body should have at least {least} properties".lstrip())
    for name in node.required:
        if name not in value:
            yield required_value(_below(path, name))
    if node.embedded and not top:
        yield from _embedded(value, path)
    before = old if type(old) is dict else {}
    for name, item in value.items():
        inner = node.properties.get(name) or node.additional
        if inner is None or type(item) is inner.plain or (top and name in ("apiVersion", "kind")):
            continue
        if (top or node.embedded) and name == "metadata" and inner.required:
            # Upstream lets schemas limit the name alone, and that is all that is looked at.
            inner = replace(inner, required=tuple(each for each in inner.required if each in ("name", "generateName")))
        yield from _value(item, inner, _below(path, name), before.get(name, ABSENT))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _embedded(value: dict[str, Any], path: str) -> Errors:
    for name in ("apiVersion", "kind"):
        if not value.get(name):
            yield required_value(f"{path}.{name}", "must not be empty")


def _list(value: list[Any], node: Node, path: str, old: Any) -> Errors:
    limits = node.limits
    if "maxItems" in limits and len(value) > limits["maxItems"]:
        yield too_many_values(path, len(value), int(limits["maxItems"]))
    if "minItems" in limits and len(value) < limits["minItems"]:
        yield invalid_value(path, len(value), f"{path} in body should have at least {int(limits['minItems'])} items")
    yield from _duplicates(value, node, path)
    if node.items is None:
        return
    before = by_key(old, node) if type(old) is list and node.list_type == "map" else {}
    plain = node.items.plain
    for index, item in enumerate(value):
        if plain is not None and type(item) is plain:
            continue
        former = before.get(item_key(item, node), ABSENT) if before else ABSENT
        yield from _value(item, node.items, f"{path}[{index}]", former)


def item_key(item: Any, node: Node) -> Any:
    """What tells an item of a list of type map apart from the others, None for what is no object."""
    if not isinstance(item, dict):
        return None
    found = []
    for name in node.list_map_keys:
        inner = node.items.properties.get(name) if node.items is not None else None
        found.append(hashable(item.get(name, inner.default if inner is not None else None)))
    return tuple(found)


def by_key(items: Sequence[Any], node: Node) -> dict[Any, Any]:
    """The items of a list of type map by their keys."""
    return {item_key(each, node): each for each in items}


def _duplicates(value: list[Any], node: Node, path: str) -> Errors:
    if node.list_type == "atomic":
        return
    seen: set[Any] = set()
    for index, item in enumerate(value):
        keyed = node.list_type == "map"
        key = item_key(item, node) if keyed else hashable(item)
        if key in seen:
            shown = {name: item.get(name) for name in node.list_map_keys if name in item} if keyed else item
            yield FieldError(DUPLICATE, f"{path}[{index}]", shown)
        seen.add(key)


def hashable(value: Any) -> Any:
    """The value as something that sets and dicts can hold; booleans are not numbers."""
    if isinstance(value, dict):
        return frozenset((name, hashable(each)) for name, each in value.items())
    if isinstance(value, list):
        return tuple(hashable(each) for each in value)
    return (type(value) is bool, value)
