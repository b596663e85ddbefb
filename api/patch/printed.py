"""Values in messages, as Go prints them with `%v`."""

from __future__ import annotations

from typing import Any


def printed(value: Any) -> str:
    """`map[a:1 b:[x y]]`: no quotes, and keys in order."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{printed(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(printed, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)
