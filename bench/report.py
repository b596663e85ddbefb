"""Figures as a table for people and as JSON for later."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; `aim` is what it is built for, in the same unit, empty where there is no aim."""

    name: str
    value: float
    unit: str
    aim: str = ""
    note: str = ""


def show(figures: list[Figure]) -> str:
    """The figures as a table."""
    rows = [("what", "measured", "aim", "")]
    rows += [
        (
            each.name,
            f"{each.value:,.3g} {each.unit}" if each.value < 1000 else f"{each.value:,.0f} {each.unit}",
            each.aim,
            each.note,
        )
        for each in figures
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def write(figures: list[Figure], path: Path) -> None:
    """The figures and the machine they come from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"system": platform.platform(), "processors": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "figures": [asdict(each) for each in figures],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def percentile(values: list[float], part: float) -> float:
    """The value below which `part` (0…1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
