"""A structural schema, compiled once and walked often.

The JSON of `openAPIV3Schema` becomes a tree of :class:`Node`. What the value validations nested in allOf, anyOf, oneOf and not say is compiled to the
same nodes; they only ever validate. Compilation trusts the schema: :mod:`.check` has looked at it before it was stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubeling.api.structural.patterns import compile_pattern

Json = dict[str, Any]
_NOTHING: Mapping[str, Any] = {}
#: The limits of one node that are plain numbers or words, as they are called in JSON.
_LIMITS = (
    "maximum",
    "minimum",
    "maxLength",
    "minLength",
    "maxItems",
    "minItems",
    "maxProperties",
    "minProperties",
    "multipleOf",
)


@dataclass(slots=True)
class Node:
    """One schema. `json` is what it was made of."""

    json: Mapping[str, Any]
    type: str = ""
    nullable: bool = False
    properties: Mapping[str, Node] = field(default_factory=dict)
    #: Schema of the properties that are not named; None where there is none.
    additional: Node | None = None
    #: `additionalProperties: true`.
    additional_any: bool = False
    items: Node | None = None
    preserve_unknown: bool = False
    int_or_string: bool = False
    embedded: bool = False
    list_type: str = "atomic"
    list_map_keys: tuple[str, ...] = ()
    atomic_map: bool = False
    has_default: bool = False
    default: Any = None
    #: Whether there is a default here or below.
    defaults_below: bool = False
    required: tuple[str, ...] = ()
    enum: tuple[Any, ...] | None = None
    format: str = ""
    pattern: Any = None
    limits: Mapping[str, float] = field(default_factory=dict)
    exclusive_maximum: bool = False
    exclusive_minimum: bool = False
    all_of: tuple[Node, ...] = ()
    any_of: tuple[Node, ...] = ()
    one_of: tuple[Node, ...] = ()
    not_: Node | None = None
    rules: tuple[Json, ...] = ()
    #: The rules' expressions, compiled for values of this schema; filled by :mod:`.rules` as they are needed.
    programs: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    #: Whether there are rules in CEL here or below.
    rules_below: bool = False
    #: Whether there are embedded resources here or below.
    embedded_below: bool = False
    #: Of a scalar about which nothing is said but its type: what it is in Python. Such values need no closer look.
    plain: Any = None

    def member(self, name: str) -> Node | None:
        """The schema of a property, None where nothing is said of it."""
        return self.properties.get(name) or self.additional


_PLAIN: dict[str, type] = {"string": str, "integer": int, "boolean": bool}


def compile_schema(json: Mapping[str, Any] | None) -> Node:
    """The tree of a schema; of None, one that keeps everything."""
    if json is None:
        return Node({}, type="object", preserve_unknown=True)
    return _node(json)


def _node(json: Mapping[str, Any]) -> Node:
    additional = json.get("additionalProperties")
    items = json.get("items")
    pattern = json.get("pattern")
    enum = json.get("enum")
    node = Node(
        json,
        type=json.get("type") or "",
        nullable=bool(json.get("nullable")),
        properties={name: _node(each) for name, each in (json.get("properties") or _NOTHING).items()},
        additional=_node(additional) if isinstance(additional, dict) else None,
        additional_any=additional is True,
        items=_node(items) if isinstance(items, dict) else None,
        preserve_unknown=bool(json.get("x-kubernetes-preserve-unknown-fields")),
        int_or_string=bool(json.get("x-kubernetes-int-or-string")),
        embedded=bool(json.get("x-kubernetes-embedded-resource")),
        list_type=json.get("x-kubernetes-list-type") or "atomic",
        list_map_keys=tuple(json.get("x-kubernetes-list-map-keys") or ()),
        atomic_map=json.get("x-kubernetes-map-type") == "atomic",
        has_default=json.get("default") is not None,
        default=json.get("default"),
        required=tuple(json.get("required") or ()),
        enum=tuple(enum) if enum else None,
        format=json.get("format") or "",
        pattern=compile_pattern(pattern) if pattern else None,
        limits={name: json[name] for name in _LIMITS if json.get(name) is not None},
        exclusive_maximum=bool(json.get("exclusiveMaximum")),
        exclusive_minimum=bool(json.get("exclusiveMinimum")),
        all_of=tuple(_node(each) for each in json.get("allOf") or ()),
        any_of=tuple(_node(each) for each in json.get("anyOf") or ()),
        one_of=tuple(_node(each) for each in json.get("oneOf") or ()),
        not_=_node(json["not"]) if isinstance(json.get("not"), dict) else None,
        rules=tuple(json.get("x-kubernetes-validations") or ()),
    )
    limited = node.enum or node.format or pattern or node.limits or node.all_of or node.any_of or node.one_of or node.not_
    if not limited:
        node.plain = _PLAIN.get(node.type)
    below = [*node.properties.values(), *(each for each in (node.additional, node.items) if each is not None)]
    node.defaults_below = node.has_default or any(each.defaults_below for each in below)
    node.embedded_below = node.embedded or any(each.embedded_below for each in below)
    junctors = [*node.all_of, *node.any_of, *node.one_of, *([node.not_] if node.not_ else [])]
    node.rules_below = bool(node.rules) or any(each.rules_below for each in [*below, *junctors])
    return node
