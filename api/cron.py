"""Cron schedules, as CronJobs take them: five fields, names of months and days, steps, and `@hourly` and its like."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubeling.api.times import parse_duration

_MONTHS = {
    name: at for at, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1)
}
_DAYS = {name: at for at, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = ((0, 59, {}), (0, 23, {}), (1, 31, {}), (1, 12, _MONTHS), (0, 6, _DAYS))


@dataclass(frozen=True, slots=True)
class Schedule:
    """The allowed values of each field. `any_day` and `any_weekday` say that the field was a star: only then do both have to match."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool
    #: Seconds between runs of an `@every` schedule, 0 for the others.
    every: float = 0


def parse(text: str) -> Schedule:
    """Read a schedule. ValueError with the words of the parser that upstream uses."""
    line = text.strip()
    if not line:
        raise ValueError("empty spec string")
    if line.startswith("@every "):
        return _every(line)
    if line.startswith("@"):
        if line not in _MACROS:
            raise ValueError(f"unrecognized descriptor: {line}")
        line = _MACROS[line]
    fields = line.split()
    if len(fields) != 5:
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    minutes, hours, days, months, weekdays = (_field(each, *limits) for each, limits in zip(fields, _FIELDS, strict=True))
    return Schedule(minutes, hours, days, months, weekdays, fields[2][0] in "*?", fields[4][0] in "*?")


def _every(line: str) -> Schedule:
    try:
        seconds = parse_duration(line.removeprefix("@every ")).total_seconds()
    except ValueError as error:
        raise ValueError(f"failed to parse duration {line}: {error}") from error
    none: frozenset[int] = frozenset()
    return Schedule(none, none, none, none, none, True, True, max(1.0, float(int(seconds))))


def _field(text: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, {}) if slash else 1
        if span in ("*", "?"):
            start, end = low, high
        else:
            first, dash, last = span.partition("-")
            start = _number(first, names)
            end = _number(last, names) if dash else (high if slash else start)
        if step == 0:
            raise ValueError(f"step of range should be a positive number: {part}")
        if start < low:
            raise ValueError(f"beginning of range ({start}) below minimum ({low}): {part}")
        if end > high:
            raise ValueError(f"end of range ({end}) above maximum ({high}): {part}")
        if start > end:
            raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {part}")
        found.update(range(start, end + 1, step))
    return frozenset(found)


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    return int(text)
