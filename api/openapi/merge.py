"""The OpenAPI v2 documents of several servers as one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]
_REFERENCE = "#/definitions/"
_MAX_DEPTH = 200


def part(document: Json, prefix: str) -> Json:
    """Of a document, the paths from `prefix` on, and the definitions that they lead to. Raises ValueError where it is no such document."""
    paths, definitions = document.get("paths") or {}, document.get("definitions") or {}
    if not isinstance(paths, dict) or not isinstance(definitions, dict):
        raise ValueError("paths and definitions must be objects")
    taken = {name: item for name, item in paths.items() if name == prefix or name.startswith(f"{prefix}/")}
    needed: Json = {}
    waiting = list(_references(list(taken.values()), 0))
    while waiting:
        name = waiting.pop()
        if name not in needed and name in definitions:
            needed[name] = definitions[name]
            waiting += _references(definitions[name], 0)
    return {"paths": taken, "definitions": needed}


def _references(value: Any, depth: int) -> Iterable[str]:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_REFERENCE):
            yield reference.removeprefix(_REFERENCE)
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _references(each, depth + 1)


def merged(document: Json, others: Iterable[Json]) -> Json:
    """A document with parts of others: of paths that more than one has the first one's stays; definitions of one name that say different things get names of their own."""
    paths, definitions = dict(document["paths"]), dict(document["definitions"])
    for other in others:
        names: dict[str, str] = {}
        for name, body in other["definitions"].items():
            names[name] = _free_name(name, body, definitions)
        renamed = {name: new for name, new in names.items() if name != new}
        for name, body in other["definitions"].items():
            definitions[names[name]] = _renamed(body, renamed) if renamed else body
        for path, item in other["paths"].items():
            paths.setdefault(path, _renamed(item, renamed) if renamed else item)
    return {**document, "paths": dict(sorted(paths.items())), "definitions": dict(sorted(definitions.items()))}


def _free_name(name: str, body: Any, taken: Json) -> str:
    """The name, or `name_v2` and so on where it means something else already."""
    found, number = name, 2
    while found in taken and taken[found] != body:
        found, number = f"{name}_v{number}", number + 1
    return found


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        made = {name: _renamed(each, names) for name, each in value.items()}
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.removeprefix(_REFERENCE) in names:
            made["$ref"] = _REFERENCE + names[reference.removeprefix(_REFERENCE)]
        return made
    return [_renamed(each, names) for each in value] if isinstance(value, list) else value
