"""When a cron schedule fires: the next time after a moment, in a time zone.

A local time that a clock change leaves out does not fire; one that comes twice fires the first time only.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kubeling.api.cron import Schedule

#: A schedule that does not fire within so many days never does (30 February).
_HORIZON_DAYS = 5 * 366
#: From so many missed times on they are not counted any more.
TOO_MANY = 100


def zone_named(name: str | None) -> tzinfo:
    """`spec.timeZone`; UTC where there is none. ValueError for an unknown one."""
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"unknown time zone {name}") from error


def _matches_day(schedule: Schedule, day: date) -> bool:
    if day.month not in schedule.months:
        return False
    by_day, by_weekday = day.day in schedule.days, (day.isoweekday() % 7) in schedule.weekdays
    return by_day and by_weekday if schedule.any_day or schedule.any_weekday else by_day or by_weekday


def next_after(schedule: Schedule, moment: datetime, zone: tzinfo) -> datetime | None:
    """The first time strictly after `moment` (UTC); None where there is none in years."""
    if schedule.every:
        return (moment + timedelta(seconds=schedule.every)).replace(microsecond=0)
    local = moment.astimezone(zone)
    for offset in range(_HORIZON_DAYS):
        day = local.date() + timedelta(days=offset)
        if not _matches_day(schedule, day):
            continue
        for hour in sorted(schedule.hours):
            for minute in sorted(schedule.minutes):
                wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                exact = wall.astimezone(UTC)
                exists = exact.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None)
                if exists and exact > moment:
                    return exact
    return None


def between(schedule: Schedule, after: datetime, until: datetime, zone: tzinfo) -> Iterator[datetime]:
    """The times after `after` up to and with `until`."""
    moment = next_after(schedule, after, zone)
    while moment is not None and moment <= until:
        yield moment
        moment = next_after(schedule, moment, zone)


def most_recent(schedule: Schedule, earliest: datetime, now: datetime, zone: tzinfo) -> tuple[datetime | None, bool]:
    """The last time that was due after `earliest`, and whether too many were missed to go on as if nothing had happened.

    A long outage of a fast schedule is not walked through time by time: the walk begins near its end.
    """
    first = next_after(schedule, earliest, zone)
    if first is None or first > now:
        return None, False
    missed = list(_take(between(schedule, earliest, now, zone), TOO_MANY + 1))
    if len(missed) <= TOO_MANY:
        return missed[-1], False
    for reach in (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=370), now - earliest):
        recent = list(between(schedule, max(earliest, now - reach), now, zone))
        if recent:
            return recent[-1], True
    return missed[-1], True


def _take(times: Iterator[datetime], count: int) -> Iterator[datetime]:
    for _, each in zip(range(count), times, strict=False):
        yield each
