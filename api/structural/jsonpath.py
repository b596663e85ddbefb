"""Simple JSON paths, as printer columns, scale and selectable fields have them: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`.

A path is compiled to steps; each step turns the values found so far into the next ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

_NAME = re.compile(r"(?:[^.\[\]{}\\'\"\s]|\\.)+")
_INDEX = re.compile(r"\[(-?\d+)\]")
_SLICE = re.compile(r"\[(-?\d*):(-?\d*)\]")
_QUOTED = re.compile(r"\[(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\]")
_FILTER = re.compile(r"""\[\?\(\s*@((?:\.(?:[\w-]|\\.)+)+)\s*(?:(==|!=|<=|>=|<|>)\s*(?:'([^']*)'|"([^"]*)"|([^\s)]+))\s*)?\)\]""")
Step = Callable[[Any], Iterator[Any]]


class JsonPath(NamedTuple):
    """A compiled path. `names` are its steps where all of them are plain members, else None."""

    text: str
    steps: tuple[Step, ...]
    names: tuple[str, ...] | None

    def find(self, obj: Any) -> list[Any]:
        """All values at the path; none where it leads nowhere."""
        values = [obj]
        for step in self.steps:
            values = [found for value in values for found in step(value)]
        return values

    def first(self, obj: Any) -> Any:
        """The first value, None where there is none."""
        found = self.find(obj)
        return found[0] if found else None


@lru_cache(maxsize=1024)
def parse(text: str) -> JsonPath:
    """Compile a path that begins with a dot or a bracket; braces around it are allowed. ValueError for what is none."""
    body = text[1:-1].strip() if text.startswith("{") and text.endswith("}") else text
    body = body.removeprefix("$")
    steps: list[Step] = []
    names: list[str] | None = []
    at = 0
    while at < len(body):
        step, name, at = _step(body, at, text)
        if step is not None:
            steps.append(step)
            if names is not None and name is not None:
                names.append(name)
            elif name is None:
                names = None
    if not body:
        raise ValueError(f"{text!r} is not a JSON path")
    return JsonPath(text, tuple(steps), tuple(names) if names is not None else None)


def _step(body: str, at: int, text: str) -> tuple[Step | None, str | None, int]:
    if body[at] == ".":
        if at + 1 == len(body) or body[at + 1] == "[":
            return None, None, at + 1
        if body[at + 1] == ".":
            raise ValueError(f"unexpected recursive descent in {text!r}")
        if body[at + 1] == "*":
            return _every, None, at + 2
        found = _NAME.match(body, at + 1)
        if found is None:
            raise ValueError(f"unrecognized character in {text!r}")
        name = re.sub(r"\\(.)", r"\1", found.group())
        return _member(name), name, found.end()
    if body.startswith("[*]", at):
        return _every, None, at + 3
    for expression, build in ((_INDEX, _index), (_QUOTED, _quoted), (_SLICE, _slice), (_FILTER, _filter)):
        found = expression.match(body, at)
        if found is not None:
            quoted = next((group for group in found.groups() if group is not None), "") if build is _quoted else None
            return build(found), quoted, found.end()
    raise ValueError(f"unrecognized character in {text!r}")


def _member(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _quoted(found: re.Match[str]) -> Step:
    raw = found.group(1) if found.group(1) is not None else found.group(2)
    return _member(re.sub(r"\\(.)", r"\1", raw))


def _index(found: re.Match[str]) -> Step:
    index = int(found.group(1))

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _slice(found: re.Match[str]) -> Step:
    low = int(found.group(1)) if found.group(1) else None
    high = int(found.group(2)) if found.group(2) else None

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[low:high]

    return step


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: bool(left == right),
    "!=": lambda left, right: bool(left != right),
    "<": lambda left, right: bool(left < right),
    "<=": lambda left, right: bool(left <= right),
    ">": lambda left, right: bool(left > right),
    ">=": lambda left, right: bool(left >= right),
}


def _filter(found: re.Match[str]) -> Step:
    path = parse(found.group(1))
    operator = found.group(2)
    text = next((group for group in found.groups()[2:4] if group is not None), None)
    wanted: Any = text if text is not None else _literal(found.group(5) or "")

    def holds(item: Any) -> bool:
        values = path.find(item)
        if operator is None:
            return bool(values)
        try:
            return any(_COMPARE[operator](value, wanted) for value in values)
        except TypeError:
            return False

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from (item for item in value if holds(item))

    return step


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
