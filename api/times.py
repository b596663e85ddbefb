"""Times as the API writes them (RFC 3339 in whole seconds, or in microseconds) and durations as Go and kubectl print them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,18}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_NANOS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def format_time(moment: datetime) -> str:
    """`2026-11-20T23:55:13Z`: metav1.Time, which drops what is below a second."""
    return f"{moment.astimezone(UTC).isoformat(timespec='seconds')[:19]}Z"


def format_micro_time(moment: datetime) -> str:
    """`2026-11-20T23:55:13.123456Z`: metav1.MicroTime."""
    return f"{moment.astimezone(UTC).isoformat(timespec='microseconds')[:26]}Z"


@lru_cache(maxsize=4096)
def parse_time(text: str) -> datetime:
    """Either form, with `Z` or an offset, as a datetime in UTC. Digits below a microsecond are dropped. ValueError where it is neither."""
    found = _STAMP.fullmatch(text)
    if found is None:
        raise ValueError(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}"')
    day, clock, fraction, zone = found.groups()
    micros = (fraction or "")[:6].ljust(6, "0")
    return datetime.fromisoformat(f"{day}T{clock}.{micros}{'+00:00' if zone in 'Zz' else zone}").astimezone(UTC)


def parse_optional(text: str | None) -> datetime | None:
    """The time, or None where the field is absent or empty."""
    return parse_time(text) if text else None


def parse_duration(text: str) -> timedelta:
    """Go's `1h30m`, `250ms`, `-2s`, `0`, down to microseconds. ValueError for anything else."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return timedelta(0)
    nanos = 0.0
    at = 0
    while at < len(body):
        found = _PART.match(body, at)
        if found is None:
            break
        nanos += float(found[1]) * _NANOS[found[2]]
        at = found.end()
    if not body or at != len(body):
        raise ValueError(f'time: invalid duration "{text}"')
    return timedelta(microseconds=(-nanos if text.startswith("-") else nanos) / 1000)


def format_duration(length: timedelta) -> str:
    """A duration as metav1.Duration spells it: `5m0s`, `1h0m0s`, `1.5s`, `250ms`, `0s`."""
    micros = length // timedelta(microseconds=1)
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    if micros == 0:
        return "0s"
    if micros < 10**6:
        return f"{sign}{_trim(micros, 1000)}ms" if micros >= 1000 else f"{sign}{micros}µs"
    minutes, rest = divmod(micros, 60 * 10**6)
    seconds = f"{_trim(rest, 10**6)}s"
    if minutes == 0:
        return sign + seconds
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}h{minutes}m{seconds}" if hours else f"{sign}{minutes}m{seconds}"


def _trim(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    return f"{whole}.{str(rest).rjust(len(str(unit)) - 1, '0').rstrip('0')}" if rest else str(whole)


def human_duration(length: timedelta) -> str:
    """An age as tables show it: at most two units, the second only while it still matters (`5m3s`, `3h12m`, `2d`, `1y20d`)."""
    seconds = int(length.total_seconds())
    if seconds < -1:
        return "<invalid>"
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    minutes = seconds // 60
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit}{second}{smaller}" if second else f"{first}{unit}"


def age(stamp: str | None, now: datetime) -> str:
    """How long ago an RFC 3339 stamp was; `<unknown>` where there is none."""
    return human_duration(now - parse_time(stamp)) if stamp else "<unknown>"


def seconds_between(earlier: str | None, now: datetime) -> float:
    """Seconds from a stamp to `now`; infinite where there is no stamp."""
    return (now - parse_time(earlier)).total_seconds() if earlier else float("inf")
