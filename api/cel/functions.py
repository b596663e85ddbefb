"""The functions that Kubernetes has besides CEL's own, as overloads for the library.

Their values (a quantity, a URL …) are protobuf messages: the one kind of value of our own that the evaluator carries and compares. A parameter of
any type is declared once for each type there is, because the evaluator chooses overloads by the type of the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from kubeling.api.cel import formats, listtypes, network, texts, values
from kubeling.api.cel.values import MESSAGES, messages


class Library:
    """The loaded library with our functions."""

    def __init__(self) -> None:
        from cel_expr_python import cel

        messages()
        self._cel = cel
        kinds = cel.Type
        self._types: dict[str, Any] = {
            "bool": kinds.BOOL,
            "int": kinds.INT,
            "uint": kinds.UINT,
            "double": kinds.DOUBLE,
            "string": kinds.STRING,
            "bytes": kinds.BYTES,
            "dyn": kinds.DYN,
            "null": kinds.NULL,
            "duration": kinds.DURATION,
            "timestamp": kinds.TIMESTAMP,
            "list": kinds.List(kinds.DYN),
            "strings": kinds.List(kinds.STRING),
            "map": kinds.Map(kinds.STRING, kinds.DYN),
            **{name: kinds(f"kubernetes.{message}") for name, message in MESSAGES.items()},
        }
        self._declared = self._declare()

    def environment(self, config: str, variables: Mapping[str, str]) -> Any:
        """An environment of the library."""
        cel = self._cel
        typed = {name: self._types[kind] for name, kind in variables.items()}
        return cel.NewEnv(config=cel.NewEnvConfigFromYaml(config), variables=typed, functions=self._declared)

    def _declare(self) -> list[Any]:
        """The evaluator tells messages apart from other values, but not from one another: overloads that differ in that alone share one function."""
        overloads: dict[str, list[Any]] = {}
        shared: dict[tuple[str, bool, tuple[str, ...]], _Choice] = {}
        for name, member, parameters, result, work in [
            *texts.FUNCTIONS,
            *values.FUNCTIONS,
            *network.FUNCTIONS,
            *listtypes.FUNCTIONS,
            *formats.FUNCTIONS,
        ]:
            found = overloads.setdefault(name, [])
            for types in _spread(parameters):
                kinds = tuple("message" if each in MESSAGES else _KINDS.get(each, each) for each in types)
                choice = shared.get((name, member, kinds))
                is_first = choice is None
                if choice is None:
                    choice = shared[name, member, kinds] = _Choice()
                choice.add(types, work)
                made = self._cel.Overload(
                    id=f"k8s_{name.replace('.', '_').replace('@', 'own_')}_{len(found)}",
                    return_type=self._types[result],
                    parameters=[self._types[each] for each in types],
                    is_member=member,
                    impl=choice if is_first else None,
                )
                found.append(made)
        return [self._cel.FunctionDecl(name, found) for name, found in overloads.items()]


_KINDS = {"strings": "list"}


class _Choice:
    """A function that is chosen by the messages among what it is called with."""

    def __init__(self) -> None:
        self._works: list[tuple[tuple[str, ...], Callable[..., Any]]] = []

    def add(self, types: tuple[str, ...], work: Callable[..., Any]) -> None:
        self._works.append((types, work))

    def __call__(self, *arguments: Any) -> Any:
        if len(self._works) > 1:
            known = messages()
            for types, work in self._works:
                pairs = zip(types, arguments, strict=True)
                if all(kind not in MESSAGES or isinstance(value, known[kind]) for kind, value in pairs):
                    return work(*arguments)
            raise ValueError("no such overload")
        return self._works[0][1](*arguments)


_ANY = ("bool", "int", "uint", "double", "string", "bytes", "duration", "timestamp", "list", "map", "null")


def _spread(parameters: tuple[str, ...]) -> list[tuple[str, ...]]:
    """One list of types for each type that `any` stands for."""
    if "any" not in parameters:
        return [parameters]
    at = parameters.index("any")
    return [(*parameters[:at], each, *parameters[at + 1 :]) for each in _ANY]


@cache
def library() -> Library:
    """The one that all environments share."""
    return Library()
