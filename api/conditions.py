"""Status conditions. The transition time moves only when the status does, so that it says since when something has been so."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubeling.api.meta import Object, status_of
from kubeling.api.times import format_time

Condition = dict[str, Any]


def get_condition(obj: Object, kind: str) -> Condition | None:
    """The condition of that type in `status.conditions`."""
    return find_condition(status_of(obj).get("conditions"), kind)


def find_condition(conditions: list[Condition] | None, kind: str) -> Condition | None:
    """The condition of that type in a list."""
    return next((each for each in conditions or () if each.get("type") == kind), None)


def is_true(obj: Object, kind: str) -> bool:
    """Whether the condition is there and `True`."""
    found = get_condition(obj, kind)
    return found is not None and found.get("status") == "True"


def set_condition(
    conditions: list[Condition], kind: str, status: str, now: datetime, *, reason: str = "", message: str = "", **more: Any
) -> bool:
    """Set a condition in place, in its old position; `status` is "True", "False" or "Unknown".

    `more` are further fields (`lastUpdateTime`, `observedGeneration`). Returns whether anything but those changed.
    """
    found = find_condition(conditions, kind)
    wanted = {"type": kind, "status": status, "reason": reason, "message": message}
    wanted = {key: value for key, value in wanted.items() if value}
    if found is None:
        conditions.append({**wanted, "lastTransitionTime": format_time(now), **more})
        return True
    changed = any((found.get(key) or "") != wanted.get(key, "") for key in ("status", "reason", "message"))
    if found.get("status") != status or "lastTransitionTime" not in found:
        found["lastTransitionTime"] = format_time(now)
    for key in ("reason", "message"):
        if key not in wanted:
            found.pop(key, None)
    found.update(wanted)
    if changed or "observedGeneration" in more:
        found.update(more)
    return changed


def remove_condition(conditions: list[Condition], kind: str) -> bool:
    """Remove in place; whether it was there."""
    kept = [each for each in conditions if each.get("type") != kind]
    removed = len(kept) != len(conditions)
    conditions[:] = kept
    return removed
