"""The JSONPath dialect of kubectl: text with `{…}` parts, `range`/`end`, filters, slices, unions, recursive descent.

>>> render("{.items[*].metadata.name}", {"items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]})
'a b'
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubeling.cli.dialect import write_json

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_OPERATORS = ("==", "!=", "<=", ">=", "=~", "<", ">")


Node = tuple[str, Any]


class JsonPathError(ValueError):
    """The template cannot be read; the text says where."""


@dataclass(frozen=True, slots=True)
class Template:
    """A template that was read."""

    nodes: list[Node]

    def render(self, data: Any) -> str:
        """The template filled in; what is not there is empty. Raises JsonPathError."""
        return "".join(_render(self.nodes, data, data))


def parse(template: str) -> Template:
    """Read a template. A bare expression such as `.metadata.name` is taken as if in braces. Raises JsonPathError."""
    if "{" not in template:
        template = "{" + (template if template.startswith((".", "$", "[", "@")) else "." + template) + "}"
    return Template(_parse_template(_split(template), 0, inside_range=False)[0])


def render(template: str, data: Any) -> str:
    """The template filled in with `data`."""
    return parse(template).render(data)


def find(expression: str, data: Any) -> list[Any]:
    """All values that an expression (without braces) yields."""
    return _evaluate(expression, data, data)


def _split(template: str) -> list[tuple[str, str]]:
    """("text", …) and ("expr", …) parts."""
    parts: list[tuple[str, str]] = []
    at = 0
    while at < len(template):
        if template[at] != "{":
            end = template.find("{", at)
            end = len(template) if end < 0 else end
            parts.append(("text", _unescape(template[at:end])))
            at = end
            continue
        depth, quote, end = 0, "", at
        while end < len(template):
            letter = template[end]
            if quote:
                if letter == "\\":
                    end += 1
                elif letter == quote:
                    quote = ""
            elif letter in "\"'":
                quote = letter
            elif letter == "{":
                depth += 1
            elif letter == "}":
                depth -= 1
                if depth == 0:
                    break
            end += 1
        if depth:
            raise JsonPathError("unclosed action")
        parts.append(("expr", template[at + 1 : end].strip()))
        at = end + 1
    return parts


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found.group(1), found.group(0)), text)


def _parse_template(parts: list[tuple[str, str]], at: int, *, inside_range: bool) -> tuple[list[Node], int]:
    nodes: list[Node] = []
    while at < len(parts):
        kind, value = parts[at]
        at += 1
        if kind == "text":
            nodes.append(("text", value))
        elif value.startswith("range"):
            body, at = _parse_template(parts, at, inside_range=True)
            nodes.append(("range", (value.removeprefix("range").strip(), body)))
        elif value == "end":
            if not inside_range:
                raise JsonPathError("not in range, nothing to end")
            return nodes, at
        else:
            nodes.append(("expr", value))
    if inside_range:
        raise JsonPathError("unterminated range")
    return nodes, at


def _render(nodes: list[Node], data: Any, root: Any) -> Iterator[str]:
    for kind, value in nodes:
        if kind == "text":
            yield value
        elif kind == "range":
            for item in _evaluate(value[0], data, root):
                yield from _render(value[1], item, root)
        elif value[:1] in ("'", '"'):
            yield _unescape(value[1:-1])
        else:
            yield " ".join(text_of(each) for each in _evaluate(value, data, root))


def text_of(value: Any) -> str:
    """A value as kubectl prints it: text as it is, all else as JSON on one line."""
    return value if isinstance(value, str) else "" if value is None else write_json(value, indent=None)


def _evaluate(expression: str, data: Any, root: Any) -> list[Any]:
    found: list[Any] = []
    for part in _top_level(expression, " "):
        if part:
            found += _walk(part, data, root)
    return found


def _outside(text: str) -> Iterator[int]:
    """The places in `text` where no bracket or quote is open; those that open and close are not among them."""
    depth, quote = 0, ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[(":
            depth += 1
        elif letter in "])":
            depth -= 1
        elif depth == 0:
            yield at


def _top_level(text: str, separator: str) -> list[str]:
    """Split where no bracket or quote is open."""
    cuts = [at for at in _outside(text) if text[at] == separator]
    return [text[start:end] for start, end in zip([0, *(at + 1 for at in cuts)], [*cuts, len(text)], strict=True)]


_NAME = re.compile(r"(?:[^.\[\]\\]|\\.)+")


def _walk(path: str, data: Any, root: Any) -> list[Any]:
    current = [data]
    at = 0
    if path.startswith("$"):
        current, at = [root], 1
    elif path.startswith("@"):
        at = 1
    while at < len(path):
        if path.startswith("..", at):
            current = [below for each in current for below in _descend(each)]
            at += 2
            if at < len(path) and path[at] != "[":
                name, at = _name(path, at)
                current = [value for each in current for value in _children(each, name)]
        elif path[at] == ".":
            at += 1
            if at < len(path) and path[at] not in ".[":
                name, at = _name(path, at)
                current = [value for each in current for value in _children(each, name)]
        elif path[at] == "[":
            end = _closing(path, at)
            current = [value for each in current for value in _select(each, path[at + 1 : end].strip(), root)]
            at = end + 1
        else:
            name, at = _name(path, at)
            current = [value for each in current for value in _children(each, name)]
    return current


def _name(path: str, at: int) -> tuple[str, int]:
    found = _NAME.match(path, at)
    if found is None:
        raise JsonPathError(f"unexpected {path[at]!r} in {path}")
    return re.sub(r"\\(.)", r"\1", found.group(0)), found.end()


def _closing(path: str, at: int) -> int:
    depth, quote = 0, ""
    for position in range(at, len(path)):
        letter = path[position]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
            if depth == 0:
                return position
    raise JsonPathError(f"unterminated array in {path}")


def _children(value: Any, name: str) -> list[Any]:
    if name == "*":
        return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
    if isinstance(value, dict) and name in value:
        return [value[name]]
    return []


def _descend(value: Any) -> Iterator[Any]:
    yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _descend(child)


def _select(value: Any, inside: str, root: Any) -> list[Any]:
    if inside.startswith("?("):
        items = value if isinstance(value, list) else []
        return [item for item in items if _filter(inside[2:-1], item, root)]
    found: list[Any] = []
    for part in _top_level(inside, ","):
        word = part.strip()
        if word == "*":
            found += _children(value, "*")
        elif word[:1] in ("'", '"'):
            found += _children(value, word[1:-1])
        elif isinstance(value, list):
            found += _slice(value, word)
    return found


def _slice(value: list[Any], word: str) -> list[Any]:
    try:
        if ":" not in word:
            return [value[int(word)]]
        bounds = [int(each) if each else None for each in word.split(":")]
    except IndexError:
        raise JsonPathError(f"Error executing template: array index out of bounds: index {word}, length {len(value)}.") from None
    except ValueError:
        raise JsonPathError(f"invalid array index {word}") from None
    return value[slice(*bounds)]


def _filter(condition: str, item: Any, root: Any) -> bool:
    for operator in _OPERATORS:
        parts = _split_operator(condition, operator)
        if parts:
            left, right = (_operand(each.strip(), item, root) for each in parts)
            return _compare(left, operator, right)
    return bool(_walk(condition.strip(), item, root))


def _split_operator(condition: str, operator: str) -> tuple[str, str] | None:
    for at in _outside(condition):
        if condition.startswith(operator, at):
            return condition[:at], condition[at + len(operator) :]
    return None


def _operand(word: str, item: Any, root: Any) -> Any:
    if word[:1] in ("'", '"'):
        return word[1:-1]
    if word[:1] in ("@", "$", "."):
        found = _walk(word, item, root)
        return found[0] if found else None
    try:
        return json.loads(word)
    except ValueError:
        return word


def _compare(left: Any, operator: str, right: Any) -> bool:
    if operator == "==":
        return bool(left == right)
    if operator == "!=":
        return bool(left != right)
    if operator == "=~":
        return isinstance(left, str) and re.search(str(right), left) is not None
    if (isinstance(left, int | float) and isinstance(right, int | float)) or (isinstance(left, str) and isinstance(right, str)):
        return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]  # type: ignore[operator]
    return False
