"""int-or-string: a number, or a share of something else such as "25%"."""

from __future__ import annotations

import re

_PERCENT = re.compile(r"\d{1,9}%", re.ASCII)


def is_percent(value: object) -> bool:
    """Whether it is a string like "25%"."""
    return isinstance(value, str) and _PERCENT.fullmatch(value) is not None


def scaled(value: int | str | None, total: int, *, round_up: bool, default: int = 0) -> int:
    """The number meant: itself, or the share of `total`, rounded as asked; `default` where absent. ValueError for any other string."""
    if value is None:
        return default
    if isinstance(value, int):
        return value
    if not is_percent(value):
        raise ValueError(f'invalid value for IntOrString: invalid type: string is not a percentage: "{value}"')
    product = int(value[:-1]) * total
    return -(-product // 100) if round_up else product // 100
