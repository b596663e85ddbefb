"""The shape of a kind, as merge, apply, decoding and OpenAPI need it.

One :class:`Schema` is a node of the tree; a built-in kind's comes from its `TypedDict` (:mod:`kubeling.api.types`), a custom resource's from its
definition. List and map semantics are those of structured merge (KEP-555) and the patch tags those of strategic merge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Type = Literal["object", "map", "list", "string", "integer", "number", "boolean", "any"]
#: Refines `type`: how the value is spelled in JSON and on the protobuf wire.
Format = Literal[
    "",
    "int32",
    "int64",
    "double",
    "byte",
    "date-time",
    "micro-time",
    "duration",
    "quantity",
    "int-or-string",
    "fields-v1",
    "raw",
    #: A list of strings that is a message of its own in protobuf.
    "boxed",
    "schema-or-list",
    "schema-or-bool",
    "schema-or-strings",
]


@dataclass(slots=True)
class Schema:
    """One node. `object` has named `fields`; `map` and `list` have one `element`; `any` is opaque and atomic."""

    type: Type
    format: Format = ""
    #: Of a message: "core.v1.PodSpec"; empty for maps, lists and scalars.
    name: str = ""
    description: str = ""
    fields: Mapping[str, Field] = field(default_factory=dict)
    element: Schema | None = None
    list_type: Literal["atomic", "set", "map"] = "atomic"
    list_map_keys: tuple[str, ...] = ()
    #: Of an object or map: whether it is owned and replaced as one value.
    atomic: bool = False
    #: Of an object: keep keys that no field names (custom resources' x-kubernetes-preserve-unknown-fields).
    preserve_unknown: bool = False
    #: Of an object: the nested messages that JSON shows flat, by their name. Their fields stand in `fields` with `inline_of` set to that name.
    inlines: Mapping[str, Field] = field(default_factory=dict)
    #: What :mod:`kubeling.api.apply` has found out about the members of an object, by their names.
    members: dict[str, Member] | None = field(default=None, repr=False, compare=False)


class Member(NamedTuple):
    """A member of an object, as ownership sees it."""

    #: The element of a field path that stands for it.
    element: str
    #: Its schema and what its value is then; None where it is owned as a whole.
    schema: Schema | None
    kind: type
    #: Whether it is not there until somebody puts it there.
    optional: bool


@dataclass(slots=True)
class Field:
    """A named member of an object. `target` is called for the node behind it, so that recursive types need no special case."""

    name: str
    target: Callable[[], Schema]
    number: int = 0
    required: bool = False
    #: Zero values count: the field is a pointer in the Go type.
    pointer: bool = False
    #: Shown when it is zero, though it is neither a pointer nor required: see :mod:`kubeling.api.zeros`.
    always: bool = False
    #: The default that the type itself declares (as JSON), None for none.
    default: object = None
    patch_strategy: frozenset[str] = frozenset()
    patch_merge_key: str = ""
    description: str = ""
    #: The entry of the parent's `inlines` that carries the field in protobuf; empty for the parent itself.
    inline_of: str = ""

    @property
    def schema(self) -> Schema:
        """The node behind the field."""
        return self.target()


def below(schema: Schema | None, name: str) -> tuple[Field | None, Schema | None]:
    """The field of that name, and the node behind it: of a map there is no field, of what has no such member neither."""
    if schema is None:
        return None, None
    if schema.type == "map":
        return None, schema.element
    found = schema.fields.get(name)
    return found, found.schema if found else None
