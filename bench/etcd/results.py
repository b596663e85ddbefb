"""Figures of several stores side by side, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

OURS, THEIRS = "etcdlite", "etcd"


@dataclass(slots=True)
class Row:
    """One thing measured at each store. `more` says whether more is better."""

    name: str
    unit: str
    more: bool
    aim: str = ""
    values: dict[str, float] = field(default_factory=dict)
    #: How busy the client was, at most: near 1 it is the bottleneck.
    client: dict[str, float] = field(default_factory=dict)

    def ratio(self, ours: str, theirs: str) -> float | None:
        """Ours over theirs."""
        mine, other = self.values.get(ours), self.values.get(theirs)
        return mine / other if mine is not None and other else None


class Results:
    """Rows by name, in the order in which they were first measured."""

    def __init__(self, stores: list[str], conditions: dict[str, object], ours: str = OURS, theirs: str = THEIRS) -> None:
        self.stores = stores
        self._ours, self._theirs = ours, theirs
        self.conditions = conditions
        self._rows: dict[str, Row] = {}

    def add(
        self, store: str, name: str, unit: str, value: float, *, more: bool, aim: str = "", client: float | None = None
    ) -> None:
        """One value. `aim` in words, where there is one."""
        row = self._rows.setdefault(name, Row(name, unit, more, aim))
        row.values[store] = value
        if client is not None:
            row.client[store] = round(client, 3)

    def add_known(self, store: str, name: str, value: float) -> None:
        """A value from elsewhere, if something was measured to compare it with."""
        if name in self._rows:
            self._rows[name].values[store] = value

    def show(self) -> str:
        """The table."""
        rows = [("what", "unit", *self.stores, "ratio", "aim")]
        for row in self._rows.values():
            cells = [_number(row.values[store]) if store in row.values else "-" for store in self.stores]
            found = row.ratio(self._ours, self._theirs)
            ratio = "-" if found is None else f"{found:.2f}x"
            rows.append((row.name, row.unit, *cells, ratio, row.aim))
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if at < 2 else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )

    def write(self, path: Path) -> None:
        """The same as JSON, with the machine and the conditions."""
        path.parent.mkdir(parents=True, exist_ok=True)
        machine = {"system": platform.platform(), "processors": len(os.sched_getaffinity(0)), "python": platform.python_version()}
        document = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine,
            "conditions": self.conditions,
            "stores": self.stores,
            "rows": [asdict(row) | {"ratio": row.ratio(self._ours, self._theirs)} for row in self._rows.values()],
        }
        path.write_text(json.dumps(document, indent=2) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
