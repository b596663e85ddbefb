"""Named formats (`format.dns1123Label().validate(text)`), and what the library lacks of two-variable comprehensions.

Functions of ours cannot return an optional. So those that upstream has with one are declared to return something of any type, and the calls are wrapped in `optional.ofNonZeroValue`
once the types have been checked (:func:`edits`): an empty list of faults and a format without a name become none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubeling.api import names
from kubeling.api.cel import wire
from kubeling.api.cel.rewrite import Edit, call_of, calls, renamed
from kubeling.api.cel.values import Function, make
from kubeling.api.structural.formats import matches

Check = Callable[[str], list[str]]


def _prefix(check: Check) -> Check:
    """What a generated name begins with may end in a dash."""
    return lambda text: check(f"{text[:-1]}a" if text.endswith("-") else text)


def _of_format(name: str, fault: str) -> Check:
    return lambda text: [] if matches(name, text) else [fault]


FORMATS: dict[str, Check] = {
    "dns1123Label": names.dns1123_label,
    "dns1123Subdomain": names.dns1123_subdomain,
    "dns1035Label": names.dns1035_label,
    "qualifiedName": names.qualified_name,
    "dns1123LabelPrefix": _prefix(names.dns1123_label),
    "dns1123SubdomainPrefix": _prefix(names.dns1123_subdomain),
    "dns1035LabelPrefix": _prefix(names.dns1035_label),
    "labelValue": names.label_value,
    "uri": _of_format("uri", "invalid URI"),
    "uuid": _of_format("uuid", "does not match the UUID format"),
    "byte": _of_format("byte", "invalid base64"),
    "date": _of_format("date", "invalid date"),
    "datetime": _of_format("date-time", "invalid datetime"),
}


def _named(name: str) -> Any:
    return make("format", name=name if name in FORMATS else "")


def _validate(form: Any, text: str) -> list[str]:
    return FORMATS[form.name](text)


def _constant(name: str) -> Callable[[], Any]:
    return lambda: make("format", name=name)


_MAP_INSERT, _OWN_INSERT = "cel.@mapInsert", "@mapInsert"


def _insert(entries: dict[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
    if key in entries:
        raise ValueError(f"insert failed: key '{key}' already exists")
    return {**entries, key: value}


def _merge(entries: dict[Any, Any], more: dict[Any, Any]) -> dict[Any, Any]:
    for key, value in more.items():
        entries = _insert(entries, key, value)
    return entries


FUNCTIONS: list[Function] = [
    ("format.named", False, ("string",), "dyn", _named),
    ("validate", True, ("format", "string"), "dyn", _validate),
    *((f"format.{name}", False, (), "format", _constant(name)) for name in FORMATS),
    *((_OWN_INSERT, False, ("map", key, "any"), "dyn", _insert) for key in ("string", "int", "uint", "bool")),
    (_OWN_INSERT, False, ("map", "map"), "dyn", _merge),
]


def _optional(call: bytes) -> bytes:
    return call_of("optional.ofNonZeroValue", wire.piece(wire.CALL, call))


def edits(checked: bytes) -> dict[int, Edit]:
    """The calls of a compiled expression that have to be changed. `checked` is a cel.expr.CheckedExpr."""
    found: dict[int, Edit] = {}
    if not any(each in checked for each in (b"validate", b"format.named", _MAP_INSERT.encode())):
        return found
    for number, function, _ in calls(wire.first(checked, wire.EXPRESSION)):
        if function in ("validate", "format.named"):
            found[number] = _optional
        elif function == _MAP_INSERT:
            found[number] = lambda call: renamed(call, _OWN_INSERT)
    return found
