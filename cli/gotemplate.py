"""The part of Go's text/template that `-o go-template` is used with: fields, variables, pipelines, `if`, `range`, `with`, and the usual functions.

>>> render('{{range .items}}{{.metadata.name}}{{"\\n"}}{{end}}', {"items": [{"metadata": {"name": "a"}}]})
'a\\n'
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`|:=|[|(),=]|[^\s|(),=":`]+|:')
_MISSING = "<no value>"


class TemplateError(ValueError):
    """The template cannot be read or run; the text says why."""


class _Scope(dict[str, Any]):
    """Variables; `$` is the whole input."""


Node = tuple[str, Any]


def render(template: str, data: Any) -> str:
    """The template filled in with `data`."""
    nodes, at = _parse(list(_tokens(template)), 0, ends=())
    del at
    return "".join(_run(nodes, data, _Scope({"$": data})))


def _tokens(template: str) -> Iterator[tuple[str, str]]:
    at = 0
    trim_next = False
    for found in re.finditer(r"\{\{(-\s)?(.*?)(\s-)?\}\}", template, re.DOTALL):
        text = template[at : found.start()]
        if trim_next:
            text = text.lstrip()
        if found.group(1):
            text = text.rstrip()
        if text:
            yield "text", text
        body = found.group(2).strip()
        if not (body.startswith("/*") and body.endswith("*/")):
            yield "action", body
        trim_next = bool(found.group(3))
        at = found.end()
    rest = template[at:]
    if "{{" in rest:
        raise TemplateError("unclosed action")
    if rest:
        yield "text", rest.lstrip() if trim_next else rest


def _parse(tokens: list[tuple[str, str]], at: int, ends: tuple[str, ...]) -> tuple[list[Node], int]:
    nodes: list[Node] = []
    while at < len(tokens):
        kind, body = tokens[at]
        if kind == "text":
            nodes.append(("text", body))
            at += 1
            continue
        word = body.split(None, 1)[0] if body else ""
        if word in ends:
            return nodes, at
        at += 1
        if word in ("if", "range", "with"):
            branches, otherwise, at = _parse_block(tokens, at, word, body[len(word) :].strip())
            nodes.append((word, (branches, otherwise)))
        elif word in ("end", "else"):
            raise TemplateError(f"unexpected {{{{{body}}}}}")
        else:
            nodes.append(("pipe", body))
    if ends:
        raise TemplateError("unexpected EOF: an {{end}} is missing")
    return nodes, at


def _parse_block(
    tokens: list[tuple[str, str]], at: int, word: str, condition: str
) -> tuple[list[tuple[str, list[Node]]], list[Node], int]:
    branches: list[tuple[str, list[Node]]] = []
    body, at = _parse(tokens, at, ("else", "end"))
    branches.append((condition, body))
    otherwise: list[Node] = []
    while tokens[at][1].split(None, 1)[0] == "else":
        rest = tokens[at][1][4:].strip()
        body, at = _parse(tokens, at + 1, ("else", "end"))
        if rest.startswith(word):
            branches.append((rest[len(word) :].strip(), body))
        else:
            otherwise = body
    return branches, otherwise, at + 1


def _run(nodes: list[Node], dot: Any, scope: _Scope) -> Iterator[str]:
    for kind, value in nodes:
        if kind == "text":
            yield value
        elif kind == "pipe":
            result, silent = _pipeline(value, dot, scope)
            if not silent:
                yield _text(result)
        else:
            yield from _block(kind, value, dot, scope)


def _block(kind: str, value: tuple[list[tuple[str, list[Node]]], list[Node]], dot: Any, scope: _Scope) -> Iterator[str]:
    branches, otherwise = value
    for condition, body in branches:
        inner = _Scope(scope)
        if kind == "range":
            names, expression = _declared(condition)
            found, _ = _pipeline(expression, dot, inner)
            items = sorted(found.items()) if isinstance(found, dict) else list(enumerate(found or []))
            if items:
                for key, item in items:
                    inner.update(zip(names, (key, item) if len(names) == 2 else (item,), strict=False))
                    yield from _run(body, item, inner)
                return
            continue
        names, expression = _declared(condition)
        found, _ = _pipeline(expression, dot, inner)
        if _truth(found):
            inner.update(dict.fromkeys(names, found))
            yield from _run(body, found if kind == "with" else dot, inner)
            return
    yield from _run(otherwise, dot, scope)


def _declared(condition: str) -> tuple[list[str], str]:
    names, has, expression = condition.partition(":=")
    if has and names.strip().startswith("$"):
        return [each.strip() for each in names.split(",")], expression.strip()
    return [], condition


def _pipeline(text: str, dot: Any, scope: _Scope) -> tuple[Any, bool]:
    """The value, and whether it is an assignment (which prints nothing)."""
    found = re.match(r"(\$\w+)\s*:?=\s*(.*)", text, re.DOTALL)
    if found:
        scope[found.group(1)] = _pipeline(found.group(2), dot, scope)[0]
        return None, True
    tokens = _TOKEN.findall(text)
    value, at = _stages(tokens, 0, dot, scope)
    if at < len(tokens):
        raise TemplateError(f"unexpected {tokens[at]!r} in {text!r}")
    return value, False


def _stages(tokens: list[str], at: int, dot: Any, scope: _Scope) -> tuple[Any, int]:
    value: Any = None
    piped = False
    while True:
        value, at = _command(tokens, at, dot, scope, [value] if piped else [])
        if at >= len(tokens) or tokens[at] != "|":
            return value, at
        piped = True
        at += 1


def _command(tokens: list[str], at: int, dot: Any, scope: _Scope, last: list[Any]) -> tuple[Any, int]:
    if at >= len(tokens):
        raise TemplateError("missing value for command")
    head = tokens[at]
    if head in _FUNCTIONS:
        arguments = []
        at += 1
        while at < len(tokens) and tokens[at] not in ("|", ")"):
            argument, at = _operand(tokens, at, dot, scope)
            arguments.append(argument)
        try:
            return _FUNCTIONS[head](*arguments, *last), at
        except TemplateError:
            raise
        except Exception as error:
            raise TemplateError(f"error calling {head}: {error}") from error
    value, at = _operand(tokens, at, dot, scope)
    return value, at


def _operand(tokens: list[str], at: int, dot: Any, scope: _Scope) -> tuple[Any, int]:
    token = tokens[at]
    if token == "(":
        value, at = _stages(tokens, at + 1, dot, scope)
        if at >= len(tokens) or tokens[at] != ")":
            raise TemplateError("unclosed left paren")
        at += 1
        if at < len(tokens) and tokens[at].startswith(".") and len(tokens[at]) > 1:
            value, at = _fields(value, tokens[at][1:]), at + 1
        return value, at
    at += 1
    if token.startswith('"'):
        return json.loads(token.replace("\n", "\\n")), at
    if token.startswith("`"):
        return token[1:-1], at
    if token == ".":
        return dot, at
    if token.startswith("."):
        return _fields(dot, token[1:]), at
    if token.startswith("$"):
        name, _, path = token.partition(".")
        if name not in scope:
            raise TemplateError(f'undefined variable "{name}"')
        return (_fields(scope[name], path) if path else scope[name]), at
    if token in ("true", "false", "nil"):
        return {"true": True, "false": False, "nil": None}[token], at
    try:
        return (int(token, 0) if re.fullmatch(r"-?\w+", token) else float(token)), at
    except ValueError:
        raise TemplateError(f'function "{token}" not defined') from None


def _fields(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            return None
    return value


def _truth(value: Any) -> bool:
    return bool(value)


def _text(value: Any) -> str:
    if value is None:
        return _MISSING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_text(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(_text(item) for item in value) + "]"
    return str(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else value[key] if value is not None else None
    return value


def _printf(form: str, *values: Any) -> str:
    rest = list(values)

    def fill(found: re.Match[str]) -> str:
        if found.group(0) == "%%":
            return "%"
        value = rest.pop(0) if rest else "%!MISSING"
        flags, letter = found.group(1), found.group(2)
        if letter == "q":
            return json.dumps(value)
        if letter in "vs":
            return f"%{flags}s" % _text(value)
        return f"%{flags}{letter}" % value

    return re.sub(r"%%|%([-+ 0#\d.]*)([vsdqfxtg])", fill, form)


def _compare(operator: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    def compare(left: Any, *right: Any) -> bool:
        return any(operator(left, each) for each in right)

    return compare


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": lambda *values: next((each for each in values if not _truth(each)), values[-1]),
    "or": lambda *values: next((each for each in values if _truth(each)), values[-1]),
    "not": lambda value: not _truth(value),
    "len": len,
    "index": _index,
    "print": lambda *values: "".join(_text(each) for each in values),
    "println": lambda *values: " ".join(_text(each) for each in values) + "\n",
    "printf": _printf,
    "eq": _compare(lambda left, right: bool(left == right)),
    "ne": _compare(lambda left, right: bool(left != right)),
    "lt": _compare(lambda left, right: bool(left < right)),
    "le": _compare(lambda left, right: bool(left <= right)),
    "gt": _compare(lambda left, right: bool(left > right)),
    "ge": _compare(lambda left, right: bool(left >= right)),
    "html": lambda value: html.escape(_text(value)),
    "js": lambda value: json.dumps(_text(value))[1:-1],
    "base64decode": lambda value: base64.b64decode(value).decode(errors="replace"),
    "exists": lambda value, *keys: _index(value, *keys) is not None,
}
