"""Paths into an object, in the part of jq's language that stages are written in.

>>> values({"status": {"phase": "Running"}}, compile_path(".status.phase"))
['Running']

``.a.b``, ``.a["b/c"]``, ``.a[0]``, ``.a[]`` (or ``.a.[]``: each element), and ``| select(.type == "Ready") | .status``. What is not there yields nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Step = Callable[[Any], Iterator[Any]]
Path = tuple[Step, ...]

_NAME = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)")
_KEY = re.compile(r'\.?\[\s*("(?:[^"\\]|\\.)*")\s*\]')
_INDEX = re.compile(r"\.?\[\s*(-?\d+)\s*\]")
_EACH = re.compile(r"\.?\[\s*\]")
_SELECT = re.compile(r"select\((.*?)(==|!=)\s*(\"[^\"]*\"|[A-Za-z0-9.-]+)\s*\)", re.DOTALL)
_MAX_LENGTH = 1024


class BadExpression(ValueError):
    """A path cannot be read; the text says where."""


def compile_path(text: str) -> Path:
    """Read a path. Raises BadExpression."""
    if len(text) > _MAX_LENGTH:
        raise BadExpression(f"a path of more than {_MAX_LENGTH} characters")
    steps: list[Step] = []
    for part in _pipeline(text):
        found = _SELECT.fullmatch(part)
        if found:
            steps.append(_select(compile_path(found[1].strip()), found[2], _literal(found[3])))
        else:
            steps += _walk(part, text)
    return tuple(steps)


def values(obj: Any, path: Sequence[Step]) -> list[Any]:
    """What the path leads to; null counts as absent, as jq's users mean it."""
    found = [obj]
    for step in path:
        if isinstance(step, _Field):
            # Nearly all steps are of this kind, and very many are taken.
            name = step.name
            found = [each[name] for each in found if isinstance(each, dict) and name in each]
        else:
            found = [each for one in found for each in step(one)]
        if not found:
            break
    return [each for each in found if each is not None]


def _pipeline(text: str) -> list[str]:
    parts, quoted, begin = [], False, 0
    for at, letter in enumerate(text):
        if letter == '"' and text[at - 1 : at] != "\\":
            quoted = not quoted
        elif letter == "|" and not quoted:
            parts.append(text[begin:at].strip())
            begin = at + 1
    return [*parts, text[begin:].strip()]


def _walk(part: str, whole: str) -> list[Step]:
    import json

    if not part.startswith("."):
        raise BadExpression(f"{whole!r}: {part!r} does not begin with a dot")
    if part == ".":
        return []
    steps: list[Step] = []
    at = 0
    while at < len(part):
        if found := _NAME.match(part, at):
            steps.append(_Field(found[1]))
        elif found := _KEY.match(part, at):
            steps.append(_Field(json.loads(found[1])))
        elif found := _INDEX.match(part, at):
            steps.append(_element(int(found[1])))
        elif found := _EACH.match(part, at):
            steps.append(_each)
        else:
            raise BadExpression(f"{whole!r}: cannot read {part[at:]!r}")
        at = found.end()
    return steps


def _literal(text: str) -> str:
    return text[1:-1] if text.startswith('"') else text


@dataclass(frozen=True, slots=True)
class _Field:
    """A step to a field of a mapping."""

    name: str

    def __call__(self, value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and self.name in value:
            yield value[self.name]


def _element(index: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _each(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()


def _select(path: Path, operator: str, wanted: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        same = wanted in [as_text(each) for each in values(value, path)]
        if same == (operator == "=="):
            yield value

    return step


def as_text(value: Any) -> str:
    """A value as it is compared with the words of a stage."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
