"""YAML as Kubernetes reads it: the JSON subset of values, keys that are text, and no aliases that blow up."""

from __future__ import annotations

from typing import Any

import yaml

from kubeling.api import errors

_MAX_EVENTS = 100_000
_MAX_DEPTH = 200
#: libyaml's parser is ten times as fast as the one in Python; the server does nothing else meanwhile.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Dates stay text."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Keys become text before they meet, or `1` and `true` would be one key."""
        return {_key(self.construct_object(key, True)): self.construct_object(value, True) for key, value in node.value}


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(raw: bytes) -> Any:
    """The value of the first document. Raises 400."""
    try:
        _check(raw)
        return _json(yaml.load(raw, Loader=_Loader))
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        # The parser's own constructors trip over what their tags promise and the text does not keep: `!!bool maybe`.
        first = str(error).replace("\n", " ")[:300]
        raise errors.bad_request(f"error converting YAML to JSON: yaml: {first}") from None


def _check(raw: bytes) -> None:
    """Refuse what would cost too much, before it does: both parsers take quadratic time over depth, and the C stack is not endless.

    An alias is refused too: it has no use in an object and makes bombs possible.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(raw, Loader=_Base)):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError("exceeded max depth")
        if count > _MAX_EVENTS:
            raise yaml.YAMLError("too many values")


def _json(value: Any, depth: int = 0) -> Any:
    if depth > 256:
        raise ValueError("exceeded max depth")
    if isinstance(value, dict):
        return {key: _json(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_json(each, depth + 1) for each in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ValueError(f"a value of type {type(value).__name__} has no form in JSON")


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, str | int | float):
        return str(key)
    raise ValueError("a key must be text")
