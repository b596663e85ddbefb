"""Functions on strings, lists and regular expressions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from kubeling.api.cel.values import Function
from kubeling.api.structural.patterns import compile_pattern

_WHITE = (
    " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
MAX_TEXT = 4 * 1024 * 1024


def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise ValueError(f"index out of range: {at}")
    return text[at : at + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if not 0 <= start <= len(text):
        raise ValueError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, end: int | None = None) -> int:
    if end is None:
        return text.rfind(part)
    if not 0 <= end <= len(text):
        raise ValueError(f"index out of range: {end}")
    return text.rfind(part, 0, end + len(part))


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    places = text.count(old) if count < 0 else min(count, text.count(old))
    if len(text) + places * len(new) > MAX_TEXT:
        raise ValueError("the replaced text is too long")
    return text.replace(old, new, count)


def _split(text: str, by: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if not by:
        parts = list(text)
        return parts if limit < 0 or limit >= len(parts) else [*parts[: limit - 1], "".join(parts[limit - 1 :])]
    return text.split(by, limit - 1 if limit > 0 else -1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= len(text):
        raise ValueError(f"index out of range: {start}")
    if not 0 <= end <= len(text):
        raise ValueError(f"index out of range: {end}")
    if start > end:
        raise ValueError(f"invalid substring range. start: {start}, end: {end}")
    return text[start:end]


def _ascii(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "".join(change(each) if each.isascii() else each for each in text)


def _quote(text: str) -> str:
    plain = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\", '"': '\\"'}
    return '"' + "".join(plain.get(each, each) for each in text) + '"'


def _join(parts: list[Any], by: str = "") -> str:
    if not all(isinstance(each, str) for each in parts):
        raise ValueError("no such overload")
    return by.join(parts)


_NUMBERS: dict[str, Callable[[Any, int], str]] = {
    "d": lambda value, _: str(int(value)),
    "f": lambda value, precision: f"{float(value):.{precision}f}",
    "e": lambda value, precision: f"{float(value):.{precision}e}",
    "b": lambda value, _: f"{int(value):b}",
    "o": lambda value, _: f"{int(value):o}",
}


def _format(pattern: str, values: list[Any]) -> str:
    """`%s %d %f %e %b %x %X %o %%`, with a precision as in `%.3f`."""
    made: list[str] = []
    left = list(values)
    at = 0
    while at < len(pattern):
        here = pattern.find("%", at)
        if here < 0:
            made.append(pattern[at:])
            break
        made.append(pattern[at:here])
        at = here + 1
        precision = 6
        if pattern[at : at + 1] == ".":
            digits = at + 1
            while digits < len(pattern) and pattern[digits].isdigit():
                digits += 1
            precision, at = min(int(pattern[at + 1 : digits] or 0), 100), digits
        verb = pattern[at : at + 1]
        at += 1
        if verb == "%":
            made.append("%")
            continue
        if not left:
            raise ValueError(f"index {len(values)} out of range")
        made.append(_verb(verb, left.pop(0), precision))
    text = "".join(made)
    if len(text) > MAX_TEXT:
        raise ValueError("the formatted text is too long")
    return text


def _verb(verb: str, value: Any, precision: int) -> str:
    if verb == "s":
        return _shown(value)
    if verb in ("x", "X"):
        found = (
            value.encode().hex()
            if isinstance(value, str)
            else bytes(value).hex()
            if isinstance(value, bytes | bytearray)
            else f"{value:x}"
        )
        return found.upper() if verb == "X" else found
    if verb not in _NUMBERS:
        raise ValueError(f'unrecognized formatting clause "{verb}"')
    if isinstance(value, bool) and verb != "b":
        raise ValueError(f"{verb} clause can only be used on numbers, was given bool")
    if not isinstance(value, int | float):
        raise ValueError(f"{verb} clause can only be used on numbers, was given {type(value).__name__}")
    return _NUMBERS[verb](value, precision)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_shown(key)}: {_shown(each)}" for key, each in sorted(value.items(), key=str)) + "}"
    return str(value)


# -- lists -----------------------------------------------------------------------------------------------------------------------------


def _comparable(items: list[Any]) -> list[Any]:
    if items and not all(type(each) is type(items[0]) for each in items):
        raise ValueError("no such overload")
    return items


def _is_sorted(items: list[Any]) -> bool:
    items = _comparable(items)
    return all(left <= right for left, right in pairwise(items))


def _sum(items: list[Any]) -> Any:
    items = _comparable(items)
    if not items:
        return 0
    total = items[0]
    for each in items[1:]:
        total += each
    return total


def _least(items: list[Any]) -> Any:
    if not items:
        raise ValueError("min called on empty list")
    return min(_comparable(items))


def _greatest(items: list[Any]) -> Any:
    if not items:
        raise ValueError("max called on empty list")
    return max(_comparable(items))


def _place(items: list[Any], wanted: Any) -> int:
    return next((at for at, each in enumerate(items) if _same(each, wanted)), -1)


def _last_place(items: list[Any], wanted: Any) -> int:
    return next((at for at in range(len(items) - 1, -1, -1) if _same(items[at], wanted)), -1)


def _same(left: Any, right: Any) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


# -- regular expressions ---------------------------------------------------------------------------------------------------------------


def _find(text: str, pattern: str) -> str:
    found = compile_pattern(pattern).search(text)
    return str(found.group(0)) if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    made: list[str] = []
    for found in compile_pattern(pattern).finditer(text):
        if 0 <= limit <= len(made):
            break
        made.append(str(found.group(0)))
    return made


FUNCTIONS: list[Function] = [
    ("charAt", True, ("string", "int"), "string", _char_at),
    ("indexOf", True, ("string", "string"), "int", _index_of),
    ("indexOf", True, ("string", "string", "int"), "int", _index_of),
    ("lastIndexOf", True, ("string", "string"), "int", _last_index_of),
    ("lastIndexOf", True, ("string", "string", "int"), "int", _last_index_of),
    ("lowerAscii", True, ("string",), "string", _ascii(str.lower)),
    ("upperAscii", True, ("string",), "string", _ascii(str.upper)),
    ("replace", True, ("string", "string", "string"), "string", _replace),
    ("replace", True, ("string", "string", "string", "int"), "string", _replace),
    ("split", True, ("string", "string"), "strings", _split),
    ("split", True, ("string", "string", "int"), "strings", _split),
    ("substring", True, ("string", "int"), "string", _substring),
    ("substring", True, ("string", "int", "int"), "string", _substring),
    ("trim", True, ("string",), "string", lambda text: text.strip(_WHITE)),
    ("join", True, ("strings",), "string", _join),
    ("join", True, ("strings", "string"), "string", _join),
    ("format", True, ("string", "list"), "string", _format),
    ("strings.quote", False, ("string",), "string", _quote),
    ("isSorted", True, ("list",), "bool", _is_sorted),
    ("sum", True, ("list",), "dyn", _sum),
    ("min", True, ("list",), "dyn", _least),
    ("max", True, ("list",), "dyn", _greatest),
    ("indexOf", True, ("list", "any"), "int", _place),
    ("lastIndexOf", True, ("list", "any"), "int", _last_place),
    ("find", True, ("string", "string"), "string", _find),
    ("findAll", True, ("string", "string"), "strings", _find_all),
    ("findAll", True, ("string", "string", "int"), "strings", _find_all),
]
