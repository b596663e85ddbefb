"""From the bytes of a JSON body to Python values.

orjson does the work and refuses what is not JSON (NaN, broken UTF-8, trailing text). It does not tell of keys that stand twice, so where somebody
wants to know, the value is written out again: if that gives the same bytes back, nothing was lost. Nor was it if there are as many keys in the value as there
are places in the text where one could end. Only otherwise the slow parser of the standard library looks for the duplicates.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from kubeling.api.decode.errors import DecodeError

#: Deeper nesting than this is refused: the code behind the door walks objects recursively.
MAX_DEPTH = 256
#: Upstream stops counting there, too.
MAX_PROBLEMS = 100


#: Where a key ends; text may have such a place inside, too, so there are at least as many as keys.
_KEY_END = re.compile(rb'"[ \t\r\n]*:')


def loads_json(body: bytes, *, duplicates: bool = False) -> tuple[Any, list[str]]:
    """The value, and with `duplicates` a finding for every key that stands twice: `duplicate field "spec.replicas"`; the last one wins.

    Raises DecodeError for anything but one JSON value of bearable depth.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DecodeError(f"couldn't get version/kind; json parse error: {_why(body, error)}") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _too_deep(value):
        raise DecodeError("couldn't get version/kind; json parse error: exceeded max depth")
    if not duplicates or orjson.dumps(value) == body.strip() or len(_KEY_END.findall(body)) == _keys_in(value):
        return value, []
    return value, _duplicates(body)


def _why(body: bytes, error: orjson.JSONDecodeError) -> str:
    text = body.decode("utf-8", "replace")
    if error.pos >= len(text.rstrip()) or not text.strip():
        return "unexpected end of JSON input"
    if "ecursion" in error.msg or "depth" in error.msg:
        return "exceeded max depth"
    return f"invalid character {_quoted(text[error.pos])} at offset {error.pos}: {error.msg}"


def _quoted(character: str) -> str:
    return "'\\''" if character == "'" else f"'{character}'"


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        nodes = [node.values() if type(node) is dict else node for node in level if type(node) is dict or type(node) is list]
        if not nodes:
            return False
        level = [child for node in nodes for child in node]
    return True


def _keys_in(value: Any) -> int:
    count = 0
    rest = [value]
    for node in rest:
        if type(node) is dict:
            count += len(node)
            rest.extend([each for each in node.values() if type(each) is dict or type(each) is list])
        elif type(node) is list:
            rest.extend([each for each in node if type(each) is dict or type(each) is list])
    return count


class _Repeated(dict[str, Any]):
    """An object some of whose keys stand twice."""

    __slots__ = ("keys_twice",)
    keys_twice: list[str]


def _duplicates(body: bytes) -> list[str]:
    any_found = False

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal any_found
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        any_found = True
        marked = _Repeated(plain)
        seen: set[str] = set()
        marked.keys_twice = []
        for key, _ in pairs:
            if key in seen and key not in marked.keys_twice:
                marked.keys_twice.append(key)
            seen.add(key)
        return marked

    value = json.loads(body, object_pairs_hook=build)
    problems: list[str] = []
    if any_found:
        _collect(value, "", problems)
    return problems


def _collect(value: Any, path: str, problems: list[str]) -> None:
    if len(problems) >= MAX_PROBLEMS:
        return
    if isinstance(value, dict):
        twice = value.keys_twice if isinstance(value, _Repeated) else []
        for key, child in value.items():
            at = f"{path}.{key}" if path else key
            if key in twice:
                problems.append(f'duplicate field "{at}"')
            _collect(child, at, problems)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            _collect(child, f"{path}[{index}]", problems)


def literal(value: Any) -> str:
    """What Go calls a JSON value when it does not fit: its type, and for a number its text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"
