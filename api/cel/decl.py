"""What is known of a value before there is one: its type, and how large it can get. The vocabulary of the estimator of costs.

All numbers end at :data:`UNKNOWN`: a size of which nothing is known is as large as can be, and so is what it costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

#: The largest number there is (64 bits without a sign, as upstream counts).
UNKNOWN = 2**64 - 1


def bounded(number: float) -> int:
    """A whole number, rounded up, that is not more than UNKNOWN."""
    return UNKNOWN if number >= UNKNOWN else math.ceil(number)


def scaled(size: int, factor: float) -> int:
    """So much for each unit of a size."""
    return bounded(size * factor)


class Span(NamedTuple):
    """The least and the most of a size: characters, bytes, items or entries."""

    least: int
    most: int

    def plus(self, other: Span) -> Span:
        return Span(bounded(self.least + other.least), bounded(self.most + other.most))

    def times(self, other: Span) -> Span:
        return Span(bounded(self.least * other.least), bounded(self.most * other.most))

    def union(self, other: Span) -> Span:
        return Span(min(self.least, other.least), max(self.most, other.most))


ANYTHING = Span(0, UNKNOWN)
ONE = Span(1, 1)


@dataclass(slots=True, frozen=True)
class Decl:
    """A type with the limits that a schema sets to its values.

    `kind` is a type of CEL: bool, int, uint, double, string, bytes, timestamp, duration, list, map, object, optional, null or dyn. `most` is the most items, entries or
    characters that a value can have (0 of what has none), `least_json` the least bytes of its JSON.
    """

    kind: str
    most: int = 0
    least_json: int = 0
    #: Of an object.
    fields: Mapping[str, Decl] = field(default_factory=dict)
    #: Of lists, maps and optionals: what is in them.
    element: Decl | None = None


DYN = Decl("dyn")
SCALARS = frozenset({"bool", "int", "uint", "double", "timestamp", "duration"})


def is_scalar(decl: Decl) -> bool:
    """Whether all values are of one size."""
    if decl.kind == "optional":
        return decl.element is not None and is_scalar(decl.element)
    return decl.kind in SCALARS
