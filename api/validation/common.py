"""What the validators share: checks that turn a name check or a range into field errors, selectors, int-or-percent, resource lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kubeling.api import intstr, labels, names, quantity
from kubeling.api.errors import FieldError, duplicate_value, invalid_value, required_value, unsupported_value
from kubeling.api.names import Check

Map = dict[str, Any]
Errors = Iterator[FieldError]

IMMUTABLE = "field is immutable"
NOT_NEGATIVE = "must be greater than or equal to 0"
#: What a ResourceQuota counts by a name of its own.
QUOTA_COUNTS = frozenset(
    {
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    }
)


def checked(path: str, value: Any, check: Check) -> Errors:
    """Each message of a name check as an error at the path."""
    for message in check(value):
        yield invalid_value(path, value, message)


def required_name(path: str, value: Any, check: Check | None = None) -> Errors:
    """The value is there, and of that form."""
    if not value:
        yield required_value(path)
    elif check:
        yield from checked(path, value, check)


def not_negative(path: str, value: Any) -> Errors:
    """Absent, or 0 and more."""
    if value is not None and value < 0:
        yield invalid_value(path, value, NOT_NEGATIVE)


def one_of(path: str, value: Any, allowed: Iterable[str], *, required: bool = True) -> Errors:
    """One of an enumeration."""
    if not value:
        if required:
            yield required_value(path)
    elif value not in allowed:
        yield unsupported_value(path, value, allowed)


def in_range(path: str, value: Any, low: int, high: int) -> Errors:
    """Absent, or within both ends."""
    if value is not None and not low <= value <= high:
        yield invalid_value(path, value, f"must be between {low} and {high}, inclusive")


def port(path: str, value: Any) -> Errors:
    """A port by number or by name."""
    if isinstance(value, int):
        yield from in_range(path, value, 1, 65535)
    else:
        yield from checked(path, value or "", names.port_name)


def unchanged(path: str, new: Any, old: Any) -> Errors:
    """The field is what it was."""
    if new != old:
        yield invalid_value(path, new, IMMUTABLE)


def label_map(path: str, found: Mapping[str, str] | None) -> Errors:
    """Labels, or a selector that is a plain map."""
    for key, value in (found or {}).items():
        yield from checked(path, key, names.qualified_name)
        yield from checked(path, value, names.label_value)


def label_selector(path: str, selector: Map | None) -> Errors:
    """A metav1.LabelSelector."""
    if selector is None:
        return
    yield from label_map(f"{path}.matchLabels", selector.get("matchLabels"))
    for at, each in enumerate(selector.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{at}]"
        operator, values = each.get("operator"), each.get("values") or ()
        if operator in ("In", "NotIn"):
            if not values:
                yield required_value(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                yield FieldError("FieldValueForbidden", f"{where}.values", "", detail)
        else:
            yield invalid_value(f"{where}.operator", operator or "", "not a valid selector operator")
        yield from checked(f"{where}.key", each.get("key") or "", names.qualified_name)
        for index, value in enumerate(values):
            yield from checked(f"{where}.values[{index}]", value, names.label_value)


def selects(selector: Map | None, found: Mapping[str, str] | None) -> bool:
    """Whether a LabelSelector that may be malformed selects these labels."""
    try:
        return labels.from_selector(selector).matches(found)
    except ValueError:
        return False


def count_or_percent(path: str, value: Any) -> Errors:
    """A number that is not negative, or a percentage."""
    if value is None:
        return
    if isinstance(value, int):
        yield from not_negative(path, value)
    elif not intstr.is_percent(value):
        message = "a valid percent string must be a numeric string followed by an ending '%'"
        yield invalid_value(path, value, names.pattern_message(message, "[0-9]+%", "1%", "93%"))


def at_most_whole(path: str, value: Any) -> Errors:
    """A percentage of no more than 100."""
    if intstr.is_percent(value) and int(value[:-1]) > 100:
        yield invalid_value(path, value, "must not be greater than 100%")


def is_zero(value: Any) -> bool:
    """0 or 0%."""
    return value in (0, "0%")


def amount(path: str, value: Any) -> Errors:
    """A quantity that is not negative."""
    try:
        parsed = quantity.parse(value)
    except ValueError as error:
        yield invalid_value(path, value, str(error))
        return
    if parsed.nanos < 0:
        yield invalid_value(path, str(parsed), NOT_NEGATIVE)


def positive_amount(path: str, value: Any) -> Errors:
    """A quantity of more than nothing."""
    if quantity.is_quantity(value) and quantity.parse(value).nanos <= 0:
        yield invalid_value(path, str(quantity.parse(value)), "must be greater than zero")
    else:
        yield from amount(path, value)


_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")


def domain_prefixed_path(path: str, value: str) -> Errors:
    """`acme.io/foo`."""
    domain, slash, rest = value.partition("/")
    if not value:
        yield required_value(path)
    elif not slash or not domain or not rest:
        yield invalid_value(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")')
    else:
        for message in names.dns1123_subdomain(domain):
            yield invalid_value(path, domain, message)
        if not _PATH.fullmatch(rest):
            yield invalid_value(path, rest, names.pattern_message("Invalid path", _PATH.pattern))


def unique(path: str, values: Iterable[tuple[str, Any]]) -> Errors:
    """(path, value) pairs of which none comes twice."""
    seen: set[Any] = set()
    for where, value in values:
        if value in seen:
            yield duplicate_value(f"{path}{where}", value)
        seen.add(value)


def present(found: Map, fields: Iterable[str]) -> list[str]:
    """Which members of a union are set."""
    return [name for name in fields if found.get(name) is not None]
