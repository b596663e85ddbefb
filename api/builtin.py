"""The built-in kinds as schemas.

The `TypedDict`s of :mod:`kubeling.api.types` are read here, one message at a time and only when asked for: a component that never meets an Ingress
never builds one. A field's target is looked up through its message's name, so recursive types cost nothing.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import typing
from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Annotated, Any, get_args, get_origin

from kubeling.api.schema import Field, Format, Schema, Type
from kubeling.api.types import GROUP_VERSIONS, OLDER_VERSIONS, PACKAGES
from kubeling.api.types.declare import Facts, Scalar, inlines, is_atomic

_PLAIN: dict[Any, Scalar] = {
    str: Scalar("string"),
    bool: Scalar("boolean"),
    int: Scalar("integer", "int64"),
    float: Scalar("number", "double"),
    Any: Scalar("any", "raw"),
}
#: The message of schemas in CustomResourceDefinitions, which stands within itself in places that are no messages.
SCHEMA_MESSAGE = "apiextensions.v1.JSONSchemaProps"
#: Names come from clients, too: what is remembered of them is bounded.
_NAMES = 4096
_MODULE_PACKAGES = {f"kubeling.api.types.{module}": package for package, modules in PACKAGES.items() for module in modules}


@lru_cache(maxsize=_NAMES)
def schema_of(api_version: str, kind: str) -> Schema:
    """The schema of a built-in kind, such as ("apps/v1", "Deployment"). Options and Status are found under every apiVersion.

    Raises KeyError where there is none.
    """
    for package in (GROUP_VERSIONS.get(api_version) or OLDER_VERSIONS.get(api_version), "meta.v1"):
        found = _find(package, kind) if package else None
        if found is not None and is_kind(schema := _message(found)):
            return schema
    raise KeyError(f"no kind {kind} in {api_version}")


def is_kind(schema: Schema) -> bool:
    """Whether the message is sent on its own, with apiVersion and kind at its top."""
    field = schema.fields.get("apiVersion")
    return field is not None and not field.number


def message(name: str) -> Schema:
    """The schema of a message by its name, such as "core.v1.PodSpec". Raises KeyError where there is none."""
    package, _, short = name.rpartition(".")
    found = _find(package, short) if package in PACKAGES else None
    if found is None:
        raise KeyError(f"no message {name}")
    return _message(found)


def messages(package: str) -> list[str]:
    """The names of a package's messages, such as "core.v1.PodSpec" for "core.v1"."""
    return [
        f"{package}.{name}"
        for module in _modules(package)
        for name, value in vars(module).items()
        if typing.is_typeddict(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


@cache
def _modules(package: str) -> list[Any]:
    return [importlib.import_module(f"kubeling.api.types.{module}") for module in PACKAGES[package]]


@lru_cache(maxsize=_NAMES)
def _find(package: str, name: str) -> Any:
    for module in _modules(package):
        found = vars(module).get(name)
        if found is not None and typing.is_typeddict(found) and found.__module__ == module.__name__:
            return found
    return None


@cache
def _message(declared: Any) -> Schema:
    fields: dict[str, Field] = {}
    for name, hint in typing.get_type_hints(declared, include_extras=True).items():
        fields[name] = _field(name, hint)
    nested: dict[str, Field] = {}
    for part in inlines(declared):
        target = partial(_message, part.type)
        nested[part.name] = Field(part.name, target, part.number)
        for name in target().fields:
            fields[name] = dataclasses.replace(fields[name], inline_of=part.name)
    return Schema(
        "object",
        name=f"{_MODULE_PACKAGES[declared.__module__]}.{declared.__name__}",
        description=inspect.cleandoc(declared.__doc__ or ""),
        fields=fields,
        atomic=is_atomic(declared),
        inlines=nested,
    )


def _field(name: str, hint: Any) -> Field:
    hint, extras, required = _unwrap(hint)
    facts = next(extra for extra in extras if isinstance(extra, Facts))
    return Field(
        name,
        _target(hint, extras, facts),
        facts.number,
        required,
        facts.pointer,
        facts.always,
        facts.default,
        facts.strategy,
        facts.merge_key,
        facts.description,
    )


def _unwrap(hint: Any) -> tuple[Any, list[Any], bool]:
    """Take Annotated and Required off, in whatever order they were put on."""
    extras: list[Any] = []
    required = False
    while (origin := get_origin(hint)) in (Annotated, typing.Required, typing.NotRequired):
        if origin is Annotated:
            extras += hint.__metadata__
            hint = hint.__origin__
        else:
            required = required or origin is typing.Required
            hint = get_args(hint)[0]
    return hint, extras, required


def _target(hint: Any, extras: list[Any], facts: Facts | None = None) -> Callable[[], Schema]:
    scalar = next((extra for extra in extras if isinstance(extra, Scalar)), None)
    if scalar is None and get_origin(hint) in (list, dict):
        return cache(partial(_container, hint, facts))
    if scalar is None and typing.is_typeddict(hint):
        return partial(_granular if facts is not None and facts.granular else _message, hint)
    return partial(_scalar, scalar or _PLAIN[hint])


def _container(hint: Any, facts: Facts | None) -> Schema:
    inner, extras, _ = _unwrap(get_args(hint)[-1])
    element = _target(inner, extras)()
    if get_origin(hint) is dict:
        return Schema("map", element=element, atomic=facts is not None and facts.atomic)
    if facts is None:
        return Schema("list", element=element)
    return Schema("list", element=element, list_type=facts.list_type or "atomic", list_map_keys=facts.keys)


@cache
def _granular(declared: Any) -> Schema:
    return dataclasses.replace(_message(declared), atomic=False)


@cache
def _scalar(scalar: Scalar) -> Schema:
    if scalar.format == "boxed":
        return Schema("list", "boxed", element=_scalar(Scalar("string")))
    return Schema(typing.cast(Type, scalar.type), typing.cast(Format, scalar.format))
