"""Operators and functions held against the types that a schema gives to their operands.

The library's type checker takes values of a schema as being of any type. What is certain to fail for every object is found here instead: text compared with numbers, a list where a
truth value is wanted, functions of text on something else. Where a type is not known nothing is claimed, and numbers of all kinds count as one.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubeling.api.cel.decl import Decl

_GROUPS = {"int": "number", "uint": "number", "double": "number", "object": "map"}
_KNOWN = frozenset({"bool", "number", "string", "bytes", "timestamp", "duration", "list", "map"})
_ORDERED = frozenset({"bool", "number", "string", "bytes", "timestamp", "duration"})
_TIMES = frozenset({"timestamp", "duration"})
_ON_TEXT = frozenset(
    {
        "startsWith", "endsWith", "contains", "matches", "lowerAscii", "upperAscii", "split", "replace", "trim", "charAt", "substring",
        "find", "findAll", "format",
    }
)  # fmt: skip
_SIZELESS = frozenset({"bool", "number", "timestamp", "duration"})


def mismatch(function: str, target: Decl | None, arguments: Sequence[Decl]) -> str:
    """Why a call can have no value, in the words of cel-go; empty where that is not certain."""
    operands = ([] if target is None else [target]) + list(arguments)
    kinds = [_group(each) for each in operands]
    if not _wrong(function, kinds, on_target=target is not None):
        return ""
    shown = [_shown(each) for each in operands]
    applied = f"({', '.join(shown)})" if target is None else f"{shown[0]}.({', '.join(shown[1:])})"
    return f"found no matching overload for '{function}' applied to '{applied}'"


def _group(decl: Decl) -> str:
    found = _GROUPS.get(decl.kind, decl.kind)
    return found if found in _KNOWN else ""


def _wrong(function: str, kinds: Sequence[str], *, on_target: bool) -> bool:
    known = all(kinds)
    match function:
        case "_==_" | "_!=_":
            return known and kinds[0] != kinds[1]
        case "_<_" | "_<=_" | "_>_" | "_>=_":
            return any(each and each not in _ORDERED for each in kinds) or (known and kinds[0] != kinds[1])
        case "_+_":
            return known and kinds[0] != kinds[1] and not _TIMES.issuperset(kinds)
        case "_-_":
            return any(each in ("string", "bytes", "bool", "list", "map") for each in kinds)
        case "_*_" | "_/_" | "_%_":
            return any(each and each != "number" for each in kinds)
        case "_&&_" | "_||_" | "!_":
            return any(each and each != "bool" for each in kinds)
        case "_?_:_":
            return bool(kinds[0]) and kinds[0] != "bool"
        case "@in":
            return kinds[1] in _ORDERED
        case "size":
            return kinds[0] in _SIZELESS
    return on_target and function in _ON_TEXT and bool(kinds[0]) and kinds[0] != "string"


def _shown(decl: Decl) -> str:
    if decl.kind == "list":
        return f"list({_shown(decl.element)})" if decl.element is not None else "list(dyn)"
    if decl.kind == "map":
        return f"map(string, {_shown(decl.element)})" if decl.element is not None else "map(string, dyn)"
    return decl.kind
