"""From objects to field sets: what an object has, and where two differ.

Only what the schema calls granular is gone into; atomic lists and maps, scalars and what no schema knows are leaves.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from kubeling.api.apply.fieldset import EMPTY, SELF, FieldSet
from kubeling.api.schema import Member, Schema

#: Members of metadata that nobody owns: the server sets them, or they say which object it is.
UNOWNED_METADATA = frozenset(
    {
        "name",
        "namespace",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    }
)
_UNOWNED_TOP = frozenset({"apiVersion", "kind"})


def granular(schema: Schema | None) -> bool:
    """Whether it can be owned in parts."""
    if schema is None or schema.atomic:
        return False
    return schema.type in ("object", "map") or (schema.type == "list" and schema.list_type != "atomic")


def divisible(value: Any, schema: Schema | None) -> bool:
    """Whether this value can be owned in parts. What no schema describes passes for a map, whatever it is."""
    if not granular(schema):
        return False
    return isinstance(value, list) if schema is not None and schema.type == "list" else isinstance(value, dict)


def member_schema(schema: Schema, name: str) -> Schema | None:
    """The schema of a member of an object or map."""
    if schema.type == "map":
        return schema.element
    found = schema.fields.get(name)
    # Of a custom resource's object, `element` is the schema of the members that have no name of their own.
    return found.target() if found is not None else schema.element


def element_key(schema: Schema, item: Any) -> str | None:
    """What makes a list element the one it is; None where a key is missing that has no default."""
    if schema.list_type == "set":
        return "v:" + _text(item)
    if not isinstance(item, dict):
        return None
    keys = schema.list_map_keys
    if len(keys) == 1:
        value = item.get(keys[0])
        if isinstance(value, str) and value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
            return f'k:{{"{keys[0]}":"{value}"}}'
    found = {}
    for name in keys:
        value = item.get(name)
        if value is None and schema.element is not None and name in schema.element.fields:
            value = schema.element.fields[name].default
        if value is None:
            return None
        found[name] = value
    return "k:" + _text(found)


def elements_of(path: str, value: Any, schema: Schema | None) -> list[str]:
    """The field path of what the decoder calls `spec.containers[0].foo`: elements of keyed lists are named by their keys."""
    found: list[str] = []
    while path:
        if path.startswith("[") and isinstance(value, list):
            index, _, path = path[1:].partition("]")
            value = value[int(index)]
            keyed = schema is not None and schema.list_type in ("map", "set")
            found.append((element_key(schema, value) if schema is not None and keyed else None) or f"i:{index}")
            schema = schema.element if schema is not None else None
        else:
            names = value if isinstance(value, dict) else ()
            fitting = (each for each in names if path == each or path.startswith((f"{each}.", f"{each}[")))
            name = max(fitting, key=len, default=path)
            found.append(f"f:{name}")
            path = path[len(name) :]
            value = value.get(name) if isinstance(value, dict) else None
            schema = member_schema(schema, name) if schema is not None else None
        path = path.removeprefix(".")
    return found


def _text(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError:
        # Numbers of more than 64 bits, half characters.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def fields_of(obj: Any, schema: Schema | None, containers: bool = False) -> FieldSet:
    """The set of an object's fields (nulls left out). With `containers` the optional objects, maps and lists on the way are in it themselves, as
    they are for one who made them by create or update; list elements always are.
    """
    if schema is None or not divisible(obj, schema):
        return EMPTY
    return _fields(obj, schema, containers, False)


def _fields(obj: Any, schema: Schema, containers: bool, itself: bool) -> FieldSet:
    """As :func:`fields_of`, of what is known to be divisible. `itself`: with the way to it, if there is anything in it.

    This is what every create and much of every update goes through, so what the schema says of a member is looked up once.
    """
    node: FieldSet = {SELF: EMPTY} if itself else {}
    if schema.type == "list":
        for item in obj:
            key = element_key(schema, item)
            if key is not None:
                inside = schema.element
                node[key] = _fields(item, inside, containers, True) if inside is not None and divisible(item, inside) else EMPTY
    elif schema.type == "map":
        element = schema.element
        for name, value in obj.items():
            if value and element is not None and divisible(value, element):
                node["f:" + name] = _fields(value, element, containers, containers)
            elif value is not None:
                node["f:" + name] = EMPTY
    else:
        members = schema.members if schema.members is not None else {}
        for name, value in obj.items():
            if value is None:
                continue
            element_, inner, kind, optional = members.get(name) or _member(schema, name)
            if value and inner is not None and isinstance(value, kind):
                node[element_] = _fields(value, inner, containers, containers and optional)
            else:
                node[element_] = EMPTY
    return EMPTY if itself and len(node) == 1 else node


def _member(schema: Schema, name: str) -> Member:
    """What there is to know of a member of an object. Of those that the schema names, it is remembered."""
    inner = member_schema(schema, name)
    kind = list if inner is not None and inner.type == "list" else dict
    found = Member("f:" + name, inner if granular(inner) else None, kind, _optional(schema, name, inner))
    if name in schema.fields:
        if schema.members is None:
            schema.members = {}
        schema.members[name] = found
    return found


def _optional(schema: Schema, name: str, inner: Schema | None) -> bool:
    """Whether the member is not there until somebody puts it there."""
    if schema.type == "map":
        return True
    found = schema.fields.get(name)
    if found is None or inner is None:
        return True
    return found.pointer if inner.type == "object" else not found.required


def owned_view(obj: dict[str, Any], ignored: FieldSet) -> dict[str, Any]:
    """The object without what nobody owns: identity, what the server sets, and the `ignored` top-level fields."""
    view = {name: value for name, value in obj.items() if name not in _UNOWNED_TOP and ignored.get("f:" + name, True) != EMPTY}
    metadata = view.get("metadata")
    if metadata:
        kept = {name: value for name, value in metadata.items() if name not in UNOWNED_METADATA}
        if kept:
            view["metadata"] = kept
        else:
            del view["metadata"]
    return view


def diff(old: Any, new: Any, schema: Schema | None) -> tuple[FieldSet, FieldSet]:
    """(what `new` adds or changes, what it lacks). A leaf of the second stands for everything below it."""
    changed: FieldSet = {}
    removed: FieldSet = {}
    if schema is not None and divisible(new, schema):
        _diff(old, new, schema, changed, removed)
    return changed, removed


def _diff(old: Any, new: Any, schema: Schema, changed: FieldSet, removed: FieldSet) -> None:
    if isinstance(new, dict) and isinstance(old, dict):
        for name, value in new.items():
            before = old.get(name)
            if value is None or (value == before and type(value) is type(before)):
                continue
            inner = member_schema(schema, name)
            optional = before is None and _optional(schema, name, inner)
            _diff_one("f:" + name, before, value, inner, optional, changed, removed)
        for name, before in old.items():
            if before is not None and new.get(name) is None:
                removed["f:" + name] = EMPTY
    elif isinstance(new, list) and isinstance(old, list):
        mine, theirs = _by_key(schema, new), _by_key(schema, old)
        for key, value in mine.items():
            if key not in theirs or value != theirs[key]:
                _diff_one(key, theirs.get(key), value, schema.element, key not in theirs, changed, removed)
        for key in theirs:
            if key not in mine:
                removed[key] = EMPTY


def _by_key(schema: Schema, items: list[Any]) -> dict[str, Any]:
    found = {element_key(schema, item): item for item in items}
    found.pop(None, None)
    return found  # type: ignore[return-value]


def _diff_one(
    element: str, before: Any, value: Any, schema: Schema | None, optional: bool, changed: FieldSet, removed: FieldSet
) -> None:
    if before is None or type(before) is not type(value) or schema is None or not divisible(value, schema) or not value:
        child = fields_of(value, schema, True)
        changed[element] = {SELF: EMPTY, **child} if child and optional else child
        return
    more, fewer = diff(before, value, schema)
    if more:
        changed[element] = more
    if fewer:
        removed[element] = fewer
