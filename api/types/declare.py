"""The words in which a kind is declared.

A kind is a `TypedDict` whose fields are `Annotated` with :func:`f`. From that one declaration come the static types, the check at the apiserver's
door, the merge semantics, OpenAPI and the protobuf codec (:mod:`kubeling.api.builtin` reads it). Fields whose Go type is an embedded struct are
inherited, since JSON shows them flat, and :func:`inline` says under which number protobuf nests them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a field besides its type; see :func:`f`."""

    number: int
    description: str
    pointer: bool = False
    always: bool = False
    default: object = None
    strategy: frozenset[str] = frozenset()
    merge_key: str = ""
    list_type: Literal["", "atomic", "set", "map"] = ""
    keys: tuple[str, ...] = ()
    atomic: bool = False
    granular: bool = False
    wire: str = ""


def f(
    number: int,
    description: str,
    *,
    pointer: bool = False,
    always: bool = False,
    default: object = None,
    strategy: str = "",
    merge_key: str = "",
    list_type: Literal["", "atomic", "set"] = "",
    keys: str = "",
    atomic: bool = False,
    granular: bool = False,
    wire: str = "",
) -> Facts:
    """Declare a field.

    `number`: of the field in protobuf; 0 where protobuf does not carry it. `pointer`: a pointer in the Go type, so that zero values count.
    `always`: not required, and yet shown when it is zero. `default`: what the type itself declares. `strategy`, `merge_key`: for strategic
    merge patch; `merge` is meant where only a key is given.
    `list_type` and `keys` (names, separated by blanks, of a list of type map), `atomic` (of a map) and `granular` (of a message that is
    declared atomic): for server-side apply. `wire`: the name in the proto files where it differs.
    """
    return Facts(
        number,
        description,
        pointer,
        always,
        default,
        frozenset(filter(None, strategy.split(","))) or frozenset({"merge"} if merge_key else ()),
        merge_key,
        "map" if keys else list_type,
        tuple(keys.split()),
        atomic,
        granular,
        wire,
    )


class Scalar(NamedTuple):
    """Refines a Python type: the `type` and `format` of :class:`kubeling.api.schema.Schema`."""

    type: str
    format: str = ""


class Inline(NamedTuple):
    """A message that JSON shows flat: the `TypedDict` that is inherited, and where protobuf nests it."""

    name: str
    number: int
    type: Any


_INLINES: dict[Any, list[Inline]] = {}
_ATOMIC: set[Any] = set()


def inline(owner: Any, part: Any, name: str, number: int) -> None:
    """Say that the fields which `owner` inherits from `part` are nested in protobuf, as field `number`, called `name`."""
    _INLINES.setdefault(owner, []).append(Inline(name, number, part))


def atomic(owner: Any) -> None:
    """Say that objects of this type are owned and replaced as one value."""
    _ATOMIC.add(owner)


def inlines(owner: Any) -> list[Inline]:
    """What :func:`inline` said of a type."""
    return _INLINES.get(owner, [])


def is_atomic(owner: Any) -> bool:
    """Whether :func:`atomic` was said of a type."""
    return owner in _ATOMIC
