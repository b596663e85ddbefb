"""Text in elastic columns, as Go's tabwriter lays them out, which is what gives `describe` its look.

A tab ends a cell. Cells that stand above each other in adjoining lines are one column, as wide as the widest of them and two blanks; a line without
that cell ends the column. So each block of lines finds its own widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from kubeling.api.times import age as age_of
from kubeling.api.times import parse_optional

_PADDING = 2
_LONGEST = 140
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
NONE = "<none>"


class Page:
    """Lines with tabs, to be rendered at the end."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def line(self, text: str = "", indent: int = 0) -> None:
        """Add a line, two blanks further in for each `indent`."""
        self._lines.append("  " * indent + text)

    def field(self, title: str, value: object, indent: int = 0) -> None:
        """Add `title: value`."""
        self.line(f"{title}:\t{value}", indent)

    def listed(self, title: str, values: list[str], indent: int = 0) -> None:
        """Add the values under each other, the first behind the title."""
        self.field(title, values[0] if values else NONE, indent)
        for value in values[1:]:
            self.line(f"\t{value}")

    def mapping(self, title: str, values: Mapping[str, str] | None, indent: int = 0) -> None:
        """Labels and the like."""
        self.listed(title, [f"{key}={value}" for key, value in sorted((values or {}).items())], indent)

    def annotations(self, values: Mapping[str, str] | None, indent: int = 0) -> None:
        """Annotations, without the one that only apply reads; long ones below their key."""
        rows: list[str] = []
        for key, value in sorted((values or {}).items()):
            if key == _LAST_APPLIED:
                continue
            if "\n" not in value and len(key) + 1 + len(value) <= _LONGEST:
                rows.append(f"{key}: {value}")
            else:
                rows += [f"{key}:", *(f"  {shortened(part, _LONGEST - 2)}" for part in value.split("\n"))]
        self.listed("Annotations", rows, indent)

    def table(self, headers: list[str], rows: list[list[str]], indent: int = 1) -> None:
        """Headers, a rule below each, and the rows."""
        self.line("\t".join(headers), indent)
        self.line("\t".join("-" * len(header) for header in headers), indent)
        for row in rows:
            self.line("\t".join(row), indent)

    def render(self) -> str:
        """All lines, with their columns aligned."""
        lines = [line.split("\t") for line in self._lines]
        return "\n".join(_aligned(lines, [])) + "\n" if lines else ""


def _aligned(lines: list[list[str]], widths: list[int]) -> list[str]:
    column, done, at = len(widths), [], 0
    while at < len(lines):
        end = at
        while end < len(lines) and column < len(lines[end]) - 1:
            end += 1
        if end == at:
            done.append(_padded(lines[at], widths))
            at += 1
            continue
        width = max(len(line[column]) for line in lines[at:end]) + _PADDING
        done += _aligned(lines[at:end], [*widths, width])
        at = end
    return done


def _padded(cells: list[str], widths: list[int]) -> str:
    return "".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)) + "".join(cells[len(widths) :])


def shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "..."


def moment(stamp: str | None) -> str:
    """A time as people write it: `Sat, 21 Nov 2026 00:00:00 +0000`."""
    found = parse_optional(stamp)
    return found.astimezone().strftime("%a, %d %b %Y %H:%M:%S %z") if found else "<unset>"


def age(stamp: str | None) -> str:
    return age_of(stamp, datetime.now(UTC))


def titled(value: object) -> str:
    """`True` and `False`, as conditions are written."""
    return "True" if value else "False"
