"""YAML and JSON as kubectl reads and writes them, so that its files and ours do not differ.

Read: version 1.1, so a bare `on` or `y` is a boolean, also as a key; but a date stays text, and keys are always text (a boolean key becomes "true").
Written: keys in order, text of several lines as a block, text that would be read back as something else in double quotes. JSON escapes what HTML would.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_BOOL = "tag:yaml.org,2002:bool"
_STR = "tag:yaml.org,2002:str"
#: JSON has no times, and a plain `=` or `<<` as a value is text.
_NOT_RESOLVED = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", "tag:yaml.org,2002:merge")

_WORDS = frozenset(
    form
    for word in ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "", "~", ".nan", ".inf", "-.inf", "+.inf")
    for form in (word, word.capitalize(), word.upper())
) | {".NaN", ".Inf", "-.Inf", "+.Inf"}
_AMBIGUOUS = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)"
    r"|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?"
)


#: Numbers that version 1.1 takes for text: an exponent without a point or a sign.
_EXPONENT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


class Reader(_Loader):  # type: ignore[misc]
    """The loader of version 1.1, with keys as text."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        self.flatten_mapping(node)
        return {_key(self.construct_object(key, deep=True)): self.construct_object(value, deep=deep) for key, value in node.value}


class _Writer(_Dumper):  # type: ignore[misc]
    """The dumper with kubectl's choice of styles."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _without(resolvers: dict[str, list[Any]], tags: tuple[str, ...]) -> dict[str, list[Any]]:
    return {letter: [(tag, form) for tag, form in pairs if tag not in tags] for letter, pairs in resolvers.items()}


Reader.yaml_implicit_resolvers = _without(yaml.SafeLoader.yaml_implicit_resolvers, _NOT_RESOLVED[:2])
Reader.add_implicit_resolver(_BOOL, re.compile(r"^[yYnN]$"), list("yYnN"))
Reader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
Reader.bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}
_Writer.yaml_implicit_resolvers = _without(yaml.SafeDumper.yaml_implicit_resolvers, _NOT_RESOLVED)


def _text(writer: Any, text: str) -> Any:
    style = "|" if "\n" in text else '"' if text in _WORDS or _AMBIGUOUS.fullmatch(text) else None
    return writer.represent_scalar(_STR, text, style=style)


_Writer.add_representer(str, _text)


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)


def read_yaml(text: str) -> Iterator[Any]:
    """The documents of `text`. Raises yaml.YAMLError."""
    yield from yaml.load_all(text, Loader=Reader)


def write_yaml(value: Any) -> str:
    """One document, as `kubectl get -o yaml` has it."""
    text = str(yaml.dump(value, Dumper=_Writer, sort_keys=True, allow_unicode=True, default_flow_style=False))
    return text.removesuffix("...\n")  # The end of a document that ends in an open block; a lone one needs none.


def write_json(value: Any, *, indent: int | None = 4) -> str:
    """As Go's encoder does: keys in order, and `<`, `>`, `&` escaped; `indent` None puts all on one line."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, indent=indent, separators=separators, sort_keys=True, ensure_ascii=False)
    for letter in "<>&\u2028\u2029":
        # None of them is JSON's own syntax, so each stands inside a string.
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text
