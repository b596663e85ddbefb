"""The values whose JSON form is not their form on the wire: times, quantities, int-or-string, bytes, raw JSON."""

from __future__ import annotations

import base64
from collections.abc import Callable, Container
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from kubeling.api import quantity, times

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT32 = 2**31


class Codec(NamedTuple):
    """`load` turns a value of the wire into JSON, `dump` (of a scalar) or `fill` (of a message) the other way; None where there is nothing to do.

    `empty` holds what stands for an absent value.
    """

    load: Callable[[Any], Any] | None = None
    dump: Callable[[Any], Any] | None = None
    fill: Callable[[Any, Any], None] | None = None
    empty: Container[Any] = ("", None)


def _load_time(value: Any) -> str | None:
    moment = _moment(value)
    return None if moment is None else times.format_time(moment)


def _load_micro_time(value: Any) -> str | None:
    moment = _moment(value)
    return None if moment is None else times.format_micro_time(moment)


def _moment(value: Any) -> datetime | None:
    if not value.seconds and not value.nanos:
        return None
    return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def _fill_time(target: Any, value: str) -> None:
    length = times.parse_time(value) - _EPOCH
    target.seconds = length.days * 86400 + length.seconds
    target.nanos = length.microseconds * 1000


def _load_duration(value: Any) -> str:
    return times.format_duration(timedelta(microseconds=value.nanos / 1000))


def _fill_duration(target: Any, value: str) -> None:
    target.nanos = times.parse_duration(value) // timedelta(microseconds=1) * 1000


def _load_quantity(value: Any) -> str:
    return quantity.canonical(value.text) if value.text else "0"


def _fill_quantity(target: Any, value: str | float) -> None:
    target.text = quantity.canonical(value)


def _load_int_or_string(value: Any) -> int | str:
    return str(value.str_value) if value.type else int(value.int_value)


def _fill_int_or_string(target: Any, value: int | str) -> None:
    if isinstance(value, str):
        target.type = 1
        target.str_value = value
    else:
        target.type = 0
        target.int_value = value


def _load_raw(value: Any) -> Any:
    raw: bytes = value.raw
    if not raw:
        return None
    if raw[:4] == b"k8s\x00":
        from kubeling.api.protobuf import decode

        return decode(raw)
    return orjson.loads(raw)


def _fill_raw(target: Any, value: Any) -> None:
    target.raw = orjson.dumps(value)


def _load_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _load_strings(value: Any) -> list[str]:
    return list(value.items)


def _fill_strings(target: Any, value: list[str]) -> None:
    target.items.extend(value)


SCALARS: dict[tuple[str, str], Codec] = {
    ("string", ""): Codec(),
    ("boolean", ""): Codec(),
    ("integer", "int32"): Codec(),
    ("integer", "int64"): Codec(),
    ("number", "double"): Codec(),
    ("string", "byte"): Codec(_load_bytes, dump=base64.b64decode),
    ("string", "date-time"): Codec(_load_time, fill=_fill_time),
    ("string", "micro-time"): Codec(_load_micro_time, fill=_fill_time),
    ("string", "duration"): Codec(_load_duration, fill=_fill_duration),
    ("string", "quantity"): Codec(_load_quantity, fill=_fill_quantity),
    ("any", "int-or-string"): Codec(_load_int_or_string, fill=_fill_int_or_string, empty=(0, "")),
    ("any", "raw"): Codec(_load_raw, fill=_fill_raw, empty=(None,)),
    ("any", "fields-v1"): Codec(_load_raw, fill=_fill_raw, empty=(None,)),
    ("list", "boxed"): Codec(_load_strings, fill=_fill_strings, empty=()),
}
