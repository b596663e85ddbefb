"""Environments: which variables there are, what compiles, what an evaluation says.

Errors are put into the words of cel-go, which users know from upstream. The library is loaded when the first environment is made.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from kubeling.api.cel import cost, formats
from kubeling.api.cel.listtypes import Change
from kubeling.api.cel.rewrite import Edit, rewrite

#: Types of variables. DYN is for JSON of any shape.
BOOL, INT, STRING, DYN, MAP, AUTHORIZER = "bool", "int", "string", "dyn", "map", "authorizer"
_RESOURCE_CHECK = "resource_check"
MAX_LENGTH = 64 * 1024
_MAX_PROGRAMS = 4096
_EXTENSIONS = ("optional", "bindings", "math", "encoders", "lists", "sets", "two-var-comprehensions")
_CONFIG = "name: kubernetes\nextensions:\n" + "".join(f"- name: {each}\n" for each in _EXTENSIONS)


class CompileError(ValueError):
    """The expression is no CEL, or does not fit its variables."""


class EvaluationError(ValueError):
    """The expression has no value for these variables."""


class Program:
    """A compiled expression. `result` is the name of its type: `bool`, `string`, `int`, `dyn`, `list`, …"""

    __slots__ = ("_checked", "_compiled", "_env", "_nesting", "result", "source")

    def __init__(self, source: str, compiled: Any, env: Any, edits: Mapping[int, Edit] | None = None) -> None:
        self.source = source
        self.result = _type_name(compiled.return_type())
        self._env = env
        self._checked = compiled
        serialized = compiled.serialize()
        self._nesting = cost.nesting(serialized)
        edits = {**formats.edits(cost.packed(serialized)), **(edits or {})}
        self._compiled = env.deserialize(rewrite(serialized, edits)) if edits else compiled

    @property
    def checked(self) -> bytes:
        """The expression after the type check: a serialized cel.expr.CheckedExpr."""
        return cost.packed(self._checked.serialize())

    def treating(self, changes: Mapping[int, Change]) -> Program:
        """The program with these calls changed; itself where there are none."""
        if not changes:
            return self
        return Program(self.source, self._checked, self._env, {number: each.edit for number, each in changes.items()})

    def run(self, values: Mapping[str, Any]) -> Any:
        """The value, in Python. Raises EvaluationError."""
        cost.check(self._nesting, values)
        try:
            found = self._compiled.eval(data=values)
            if str(found.type()) == "ERROR":
                raise EvaluationError(_evaluation(str(found.value())))
            return found.plain_value()
        except (RuntimeError, TypeError) as error:
            raise EvaluationError(_evaluation(str(error))) from None


def _type_name(kind: Any) -> str:
    """`LIST<INT>` is a `list`."""
    return str(kind).partition("<")[0].lower()


class Environment:
    """Variables by name and type; compiles expressions over them. Made by :func:`environment`."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)
        self._env: Any = None
        self._programs: OrderedDict[str, Program | str] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, source: str) -> Program:
        """The program; kept, as is a failure. Raises CompileError."""
        with self._lock:
            found = self._programs.get(source)
            if found is None:
                found = self._compile(source)
                self._programs[source] = found
                if len(self._programs) > _MAX_PROGRAMS:
                    self._programs.popitem(last=False)
            else:
                self._programs.move_to_end(source)
        if isinstance(found, str):
            raise CompileError(found)
        return found

    def _compile(self, source: str) -> Program | str:
        if len(source) > MAX_LENGTH:
            return f"expression is longer than {MAX_LENGTH} characters"
        if self._env is None:
            from kubeling.api.cel.functions import library

            self._env = library().environment(_CONFIG, self._variables)
        try:
            return Program(source, self._env.compile(source), self._env)
        except RuntimeError as error:
            return f"compilation failed: {_compilation(str(error))}"


@lru_cache(maxsize=64)
def _environment(variables: tuple[tuple[str, str], ...]) -> Environment:
    return Environment(dict(variables))


def environment(**variables: str) -> Environment:
    """The environment with these variables; the same one for the same variables."""
    return _environment(tuple(sorted(variables.items())))


_ABOUT = {
    "object": DYN,
    "oldObject": DYN,
    "request": DYN,
    "authorizer": AUTHORIZER,
    "authorizer.requestResource": _RESOURCE_CHECK,
}
#: Of match conditions, and of all that policies say.
REQUEST = environment(**_ABOUT)
POLICY = environment(**_ABOUT, params=DYN, namespaceObject=DYN, variables=MAP)

# -- words -----------------------------------------------------------------------------------------------------------------------------

_CODE = re.compile(r"^(?:[A-Z_]+): ")
_TAIL = re.compile(r" \[[A-Z_]+\]$")


def _compilation(text: str) -> str:
    return _TAIL.sub("", _CODE.sub("", text))


_REWRITES = (
    (re.compile(r'^Key not found in map : "?(.*?)"?$', re.DOTALL), r"no such key: \1"),
    (re.compile(r"^Key not found in map : (.*)$", re.DOTALL), r"no such key: \1"),
    (re.compile(r"^No matching overloads found.*", re.DOTALL), "no such overload"),
    (re.compile(r"^Applying SELECT to non-message type$"), "no such overload"),
    (re.compile(r"^divide by zero$"), "division by zero"),
    (re.compile(r"^modulus by zero$"), "modulus by zero"),
    (re.compile(r"^Index error: index=(-?\d+).*"), r"index out of bounds: \1"),
)


def _evaluation(text: str) -> str:
    text = _TAIL.sub("", _CODE.sub("", text))
    for pattern, words in _REWRITES:
        if pattern.match(text):
            return pattern.sub(words, text)
    return text
