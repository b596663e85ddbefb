"""Label selectors, in both their forms: the text of a query parameter and the LabelSelector of a spec.

`!=` and `notin` also match objects without the label. An empty selector matches everything; an absent LabelSelector matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from kubeling.api.names import label_value, qualified_name

Operator = Literal["=", "!=", "in", "notin", "exists", "!", "gt", "lt"]

_TOKEN = re.compile(r"\s*(==|!=|[=!<>(),]|[^\s=!<>(),]+)")
#: Selectors up to this length are kept parsed; a client cannot fill the memory with long ones.
_REMEMBERED = 512
_WORDS: dict[str, Operator] = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
_SPECIAL = frozenset("=!<>(),") | {"==", "!="}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it."""
        value = labels.get(self.key)
        match self.operator:
            case "=" | "in":
                return value is not None and value in self.values
            case "!=" | "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
            case _:
                return _compares(value, self.operator, self.values[0])

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
            case "gt":
                return f"{self.key}>{self.values[0]}"
            case "lt":
                return f"{self.key}<{self.values[0]}"
            case _:
                return f"{self.key}{self.operator}{self.values[0]}"


def _compares(value: str | None, operator: str, bound: str) -> bool:
    try:
        number = int(value) if value is not None else None
    except ValueError:
        return False
    if number is None:
        return False
    return number > int(bound) if operator == "gt" else number < int(bound)


@dataclass(frozen=True, slots=True)
class Selector:
    """All of its requirements, or nothing at all. `str()` is the text form, in the keys' order."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether an object with these labels is selected."""
        if self.nothing:
            return False
        found = labels or {}
        return all(each.matches(found) for each in self.requirements)

    @property
    def everything(self) -> bool:
        """Whether it selects every object."""
        return not self.nothing and not self.requirements

    def exact(self) -> dict[str, str]:
        """The labels that it pins to one value, for an index."""
        return {each.key: each.values[0] for each in self.requirements if each.operator in ("=", "in") and len(each.values) == 1}

    def __str__(self) -> str:
        return ",".join(str(each) for each in self.requirements)


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


def parse(text: str) -> Selector:
    """The text form, such as `app=web,tier in (a,b),!legacy,size>3`. ValueError with upstream's words."""
    return _remembered(text) if len(text) <= _REMEMBERED else _parse(text)


@lru_cache(maxsize=512)
def _remembered(text: str) -> Selector:
    return _parse(text)


def _parse(text: str) -> Selector:
    tokens = _TOKEN.findall(text)
    if not tokens:
        return EVERYTHING
    reader = _Reader([*tokens, ""])
    found: list[Requirement] = []
    while True:
        found.append(reader.requirement())
        token = reader.take()
        if token == "":
            return Selector(tuple(sorted(found, key=lambda each: each.key)))
        if token != ",":
            raise ValueError(f"found '{token}', expected: ',' or 'end of string'")
        if reader.peek() in ("", ","):
            raise ValueError(f"found '{reader.peek()}', expected: identifier after ','")


class _Reader:
    """The tokens of one selector, ended by an empty one."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> str:
        return self._tokens[self._at]

    def take(self) -> str:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def requirement(self) -> Requirement:
        absent = self.peek() == "!"
        if absent:
            self.take()
        key = self.take()
        if not key or key in _SPECIAL:
            raise ValueError(f"found '{key}', expected: !, identifier, or 'end of string'")
        _check_key(key)
        if absent:
            if self.peek() not in ("", ","):
                raise ValueError(f"found '{self.peek()}', expected: ',' or 'end of string'")
            return Requirement(key, "!")
        if self.peek() in ("", ","):
            return Requirement(key, "exists")
        return self._operation(key, self.take())

    def _operation(self, key: str, operator: str) -> Requirement:
        match operator:
            case "=" | "==":
                return Requirement(key, "=", (_checked(key, self._value()),))
            case "!=":
                return Requirement(key, "!=", (_checked(key, self._value()),))
            case "in" | "notin":
                values = tuple(_checked(key, each) for each in self._values())
                return Requirement(key, "in" if operator == "in" else "notin", values)
            case ">" | "<":
                bound = self._value()
                if not re.fullmatch(r"[+-]?[0-9]{1,18}", bound):
                    raise ValueError(
                        f"values[0][{key}]: Invalid value: \"{bound}\": for 'Gt', 'Lt' operators, the value must be an integer"
                    )
                return Requirement(key, "gt" if operator == ">" else "lt", (bound,))
        raise ValueError(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")

    def _value(self) -> str:
        if self.peek() in ("", ","):
            return ""
        token = self.take()
        if token in _SPECIAL:
            raise ValueError(f"found '{token}', expected: identifier")
        return token

    def _values(self) -> list[str]:
        if self.peek() != "(":
            raise ValueError(f"found '{self.peek()}' expected: '('")
        self.take()
        values = [""]
        while True:
            token = self.take()
            if token == ")":
                return sorted(set(values))
            if token == ",":
                values.append("")
            elif token and token not in _SPECIAL and values[-1] == "":
                values[-1] = token
            else:
                raise ValueError(f"found '{token}', expected: ',' or ')'")


def _check_key(key: str) -> None:
    wrong = qualified_name(key)
    if wrong:
        raise ValueError(f'key: Invalid value: "{key}": {"; ".join(wrong)}')


def _checked(key: str, value: str) -> str:
    wrong = label_value(value)
    if wrong:
        raise ValueError(f'values[0][{key}]: Invalid value: "{value}": {"; ".join(wrong)}')
    return value


def from_labels(labels: Mapping[str, str] | None) -> Selector:
    """Each of these labels, as in a Service's selector; empty selects everything."""
    return Selector(tuple(Requirement(key, "=", (value,)) for key, value in sorted((labels or {}).items())))


def from_selector(selector: Mapping[str, Any] | None) -> Selector:
    """A metav1.LabelSelector: None selects nothing, an empty one everything. ValueError for an unknown operator."""
    if selector is None:
        return NOTHING
    found = [Requirement(key, "=", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or ():
        operator = _WORDS.get(each.get("operator", ""))
        if operator is None:
            raise ValueError(f'"{each.get("operator", "")}" is not a valid label selector operator')
        found.append(Requirement(each.get("key", ""), operator, tuple(each.get("values") or ())))
    return Selector(tuple(sorted(found, key=lambda each: each.key)))


def format_labels(labels: Mapping[str, str] | None) -> str:
    """`a=b,c=d`, or `<none>`, as tables show it."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"
