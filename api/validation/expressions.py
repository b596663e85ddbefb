"""CEL expressions in objects: that they compile, to what they are for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from kubeling.api import cel
from kubeling.api.errors import invalid_value, required_value
from kubeling.api.validation.common import Errors, Map

_TEXT = r"""'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_LITERAL = re.compile(_TEXT, re.DOTALL)
_VARIABLE = re.compile(r"(?<![\w.])variables\.([_a-zA-Z][_a-zA-Z0-9]*)")


def expression(
    path: str, source: Any, env: cel.Environment, results: Iterable[str] = (), known: Iterable[str] | None = None
) -> Errors:
    """An expression that compiles, to one of these types. `known` are the variables that it may use."""
    text = str(source or "").strip()
    if not text:
        yield required_value(path, "expression is not specified")
        return
    try:
        program = env.compile(text)
    except cel.CompileError as error:
        yield invalid_value(path, text, str(error))
        return
    wanted = tuple(results)
    if wanted and program.result not in wanted:
        yield invalid_value(path, text, f"must evaluate to {' or '.join(wanted)}")
    if known is not None:
        for name in dict.fromkeys(_VARIABLE.findall(_LITERAL.sub("''", text))):
            if name not in known:
                yield invalid_value(path, text, f"compilation failed: ERROR: <input>:1:1: undefined field '{name}'")


def conditions_compile(path: str, conditions: Iterable[Map], env: cel.Environment) -> Errors:
    """That the expressions of match conditions are conditions; the rest is :func:`.webhooks.match_conditions`'."""
    for at, each in enumerate(conditions):
        if (each.get("expression") or "").strip():
            yield from expression(f"{path}[{at}].expression", each["expression"], env, ("bool",))
