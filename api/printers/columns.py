"""The vocabulary of printers: columns, a kind's printer, and how values are spelled in cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubeling.api import labels
from kubeling.api.meta import Object, metadata_of
from kubeling.api.times import age

Cells = list[Any]
NONE = "<none>"
UNSET = "<unset>"
UNKNOWN = "<unknown>"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. With `wide`, or another priority than 0, it is only shown by `-o wide`."""

    name: str
    description: str
    type: str = "string"
    format: str = ""
    wide: bool = False
    priority: int = 0

    def definition(self) -> dict[str, Any]:
        """The entry of `columnDefinitions`."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": 1 if self.wide else self.priority,
        }


@dataclass(frozen=True, slots=True)
class Printer:
    """A kind's columns, and what stands in them for an object at a moment."""

    columns: tuple[Column, ...]
    cells: Callable[[Object, datetime], Cells]


NAME = Column("Name", "Name of the object, unique among its kind in its namespace.", format="name")
AGE = Column("Age", "How long ago the object was created.")
CREATED = Column("Created At", "When the object was created.", "date")


def wide(name: str, description: str, kind: str = "string") -> Column:
    """A column for `-o wide`."""
    return Column(name, description, kind, wide=True)


CONTAINERS = wide("Containers", "Names of the containers in the template.")
IMAGES = wide("Images", "Images of the containers in the template.")
SELECTOR = wide("Selector", "Labels by which the pods are found.")


def name(obj: Object) -> str:
    """The object's name."""
    return metadata_of(obj).get("name") or ""


def since(obj: Object, now: datetime) -> str:
    """The object's age."""
    return age(metadata_of(obj).get("creationTimestamp"), now)


def container_cells(spec: Mapping[str, Any] | None) -> tuple[str, str]:
    """Names and images of a pod spec's containers."""
    found = (spec or {}).get("containers") or ()
    return ",".join(each.get("name") or "" for each in found), ",".join(each.get("image") or "" for each in found)


def template_cells(spec: Mapping[str, Any]) -> tuple[str, str]:
    """Names and images of the containers in a workload's template."""
    return container_cells((spec.get("template") or {}).get("spec"))


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector in text."""
    try:
        return str(labels.from_selector(selector or {})) or NONE
    except ValueError as error:
        return f"<error: {error}>"


def listed(values: Iterable[str], most: int = 3) -> str:
    """A comma-separated list that is cut after `most`, with the number of those that are missing."""
    found = list(values)
    text = ",".join(found[:most])
    return f"{text} + {len(found) - most} more..." if len(found) > most else text


def boolean(value: bool | None) -> str:
    """An optional boolean."""
    return UNSET if value is None else ("True" if value else "False")
