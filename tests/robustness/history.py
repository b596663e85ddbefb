"""What happened, in the order in which it became known: operations, watches, and notes of what was done to the cluster."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from .operations import Operation, Watching, from_json, to_json


class History:
    """Everything that the checker is given, and for people the faults between."""

    def __init__(self) -> None:
        self._began = time.monotonic_ns()
        self.operations: list[Operation] = []
        self.watches: list[Watching] = []
        self.notes: list[dict[str, Any]] = []

    def now(self) -> int:
        """Nanoseconds since the run began."""
        return time.monotonic_ns() - self._began

    def note(self, what: str, **more: Any) -> None:
        """Something that was done to the cluster."""
        self.notes.append({"note": what, "at": self.now(), **more})

    def save(self, path: Path) -> None:
        """One JSON object a line, by time."""
        lines: list[tuple[int, Any]] = [(op.called, to_json(op)) for op in self.operations]
        lines += [(watch.opened, to_json(watch)) for watch in self.watches]
        lines += [(note["at"], note) for note in self.notes]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            for _, line in sorted(lines, key=lambda one: one[0]):
                file.write(json.dumps(line, separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path) -> History:
        """What `save` has kept."""
        history = cls()
        with path.open() as file:
            for line in file:
                data = json.loads(line)
                if "note" in data:
                    history.notes.append(data)
                    continue
                thing = from_json(data)
                (history.operations if isinstance(thing, Operation) else history.watches).append(thing)
        return history
