"""The formats of strings that are checked; all others mean nothing."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import urllib.parse
from collections.abc import Callable
from datetime import date

from kubeling.api import quantity, times
from kubeling.api.names import dns1123_label, dns1123_subdomain

_HEX_UUID = re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_RGB = re.compile(r"rgb\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)")
_HOST = re.compile(
    r"[a-zA-Z0-9\u0080-\uffff]([a-zA-Z0-9\u0080-\uffff-]*[a-zA-Z0-9\u0080-\uffff])?(\.[a-zA-Z0-9\u0080-\uffff-]+)*\.?"
)
_MAC = re.compile(r"(?i)[0-9a-f]{2}(([:-])[0-9a-f]{2}(\2[0-9a-f]{2}){4}(\2[0-9a-f]{2}){0,2})|([0-9a-f]{4}\.){2}[0-9a-f]{4}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_CARD = re.compile(r"[0-9 -]{13,23}")
_ISBN = re.compile(r"[0-9X -]+")
_SSN = re.compile(r"\d{3}[- ]?\d{2}[- ]?\d{4}")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)?")
_ID = re.compile(r"[0-9a-fA-F]{24}")


def _quietly(check: Callable[[str], object]) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        try:
            check(text)
        except (ValueError, OverflowError):
            return False
        return True

    return holds


def _uuid(version: str = "") -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        if _HEX_UUID.fullmatch(text) is None:
            return False
        plain = text.replace("-", "").lower()
        return not version or (plain[12] == version and (version == "3" or plain[16] in "89ab"))

    return holds


def _date(text: str) -> bool:
    return len(text) == 10 and _quietly(date.fromisoformat)(text)


def _datetime(text: str) -> bool:
    if _DATETIME.fullmatch(text) is None:
        return False
    return _date(text[:10]) and int(text[11:13]) < 24 and int(text[14:16]) < 60


def _byte(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _uri(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) or text.startswith("/")


def _luhn(text: str) -> bool:
    if _CARD.fullmatch(text) is None:
        return False
    digits = [int(each) for each in reversed(text) if each.isdigit()]
    return len(digits) >= 13 and sum(sum(divmod(each * (1 + at % 2), 10)) for at, each in enumerate(digits)) % 10 == 0


def _isbn10(text: str) -> bool:
    plain = text.replace("-", "").replace(" ", "")
    if _ISBN.fullmatch(text) is None or len(plain) != 10 or "X" in plain[:9]:
        return False
    return sum((10 - at) * (10 if each == "X" else int(each)) for at, each in enumerate(plain)) % 11 == 0


def _isbn13(text: str) -> bool:
    plain = text.replace("-", "").replace(" ", "")
    return len(plain) == 13 and plain.isdigit() and sum(int(each) * (1 + 2 * (at % 2)) for at, each in enumerate(plain)) % 10 == 0


def _rgb(text: str) -> bool:
    found = _RGB.fullmatch(text)
    return found is not None and all(int(each) < 256 for each in found.groups())


def _mac(text: str) -> bool:
    return _MAC.fullmatch(text) is not None


_IPV4, _IPV6 = _quietly(ipaddress.IPv4Address), _quietly(ipaddress.IPv6Address)
FORMATS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": lambda text: _ID.fullmatch(text) is not None,
    "uri": _uri,
    "email": lambda text: _EMAIL.fullmatch(text) is not None,
    "hostname": lambda text: len(text) < 256 and _HOST.fullmatch(text) is not None,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "cidr": lambda text: "/" in text and _quietly(lambda each: ipaddress.ip_network(each, strict=False))(text),
    "mac": _mac,
    "uuid": _uuid(),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4"),
    "uuid5": _uuid("5"),
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _luhn,
    "ssn": lambda text: _SSN.fullmatch(text) is not None,
    "hexcolor": lambda text: _HEX_COLOR.fullmatch(text) is not None,
    "rgbcolor": _rgb,
    "byte": _byte,
    "password": lambda text: True,
    "date": _date,
    "duration": _quietly(times.parse_duration),
    "datetime": _datetime,
    "date-time": _datetime,
    "quantity": _quietly(quantity.parse),
    "k8s-short-name": lambda text: not dns1123_label(text),
    "k8s-long-name": lambda text: not dns1123_subdomain(text),
}


def matches(name: str, text: str) -> bool:
    """Whether the text is of that format; an unknown one takes everything. Dashes in names do not count, as `datetime` and `date-time` show."""
    check = FORMATS.get(name) or FORMATS.get(name.replace("-", ""))
    return check is None or check(text)
