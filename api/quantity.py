"""Quantities: `250m` of a core, `64Mi` of memory. Exact, in nano-units, with the spelling family they were written in.

The canonical form has no fraction, the largest suffix that allows it, and the family's suffixes: binary (`Ki`), decimal (`k`) or exponent (`e3`).
Anything finer than a nano-unit is rounded up, as upstream does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Family = Literal["binary", "decimal", "exponent"]
_NANO = 10**9
_LIMIT = (2**63 - 1) * _NANO
_SHAPE = re.compile(r"([+-]?)(\d+)?(?:\.(\d*))?(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,9}))?", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
#: No sensible quantity is longer; the cache shall not keep what is.
_LONGEST = 128
WRONG = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact amount. Compares, adds and subtracts; `str()` is the canonical form."""

    nanos: int
    family: Family = "decimal"

    def __post_init__(self) -> None:
        if not -_LIMIT <= self.nanos <= _LIMIT:
            object.__setattr__(self, "nanos", max(-_LIMIT, min(_LIMIT, self.nanos)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __lt__(self, other: Quantity) -> bool:
        return self.nanos < other.nanos

    def __le__(self, other: Quantity) -> bool:
        return self.nanos <= other.nanos

    def __gt__(self, other: Quantity) -> bool:
        return self.nanos > other.nanos

    def __ge__(self, other: Quantity) -> bool:
        return self.nanos >= other.nanos

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos + other.nanos, self.family if self.nanos or not other.nanos else other.family)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos - other.nanos, self.family if self.nanos or not other.nanos else other.family)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nanos, self.family)

    def __bool__(self) -> bool:
        return self.nanos != 0

    @property
    def value(self) -> int:
        """In whole units, rounded up."""
        return -(-self.nanos // _NANO)

    @property
    def milli(self) -> int:
        """In thousandths, rounded up: cores as millicores."""
        return -(-self.nanos // 10**6)

    def __str__(self) -> str:
        if self.family == "binary" and abs(self.nanos) >= 1024 * _NANO and self.nanos % _NANO == 0:
            return self._binary()
        mantissa, power = self.nanos, -9
        if mantissa == 0:
            return "0"
        while mantissa % 1000 == 0 and (power < 18 or self.family == "exponent"):
            mantissa, power = mantissa // 1000, power + 3
        if self.family == "exponent":
            return f"{mantissa}e{power}" if power else str(mantissa)
        return f"{mantissa}{_DECIMAL_SUFFIX[power]}"

    def _binary(self) -> str:
        amount, suffix = self.nanos // _NANO, ""
        for each in _BINARY:
            if amount % 1024:
                break
            amount, suffix = amount // 1024, each
        return f"{amount}{suffix}"


ZERO = Quantity(0)


@lru_cache(maxsize=8192)
def _parse(text: str) -> Quantity:
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise ValueError(WRONG)
    sign, whole, fraction, suffix, exponent = found.groups()
    if not whole and not fraction:
        raise ValueError(WRONG)
    digits = int((whole or "0") + (fraction or ""))
    down = len(fraction or "")
    family: Family = "decimal"
    scale = 1
    if exponent is not None:
        family, power = "exponent", int(exponent)
    elif suffix in _BINARY:
        family, power, scale = "binary", 0, 1 << _BINARY[suffix]
    else:
        power = _DECIMAL[suffix or ""]
    power = power + 9 - down
    if power > 60:  # far over the limit, whatever the digits
        nanos = _LIMIT if digits else 0
    elif power >= 0:
        nanos = digits * scale * 10**power
    else:
        nanos = -(-digits * scale // 10 ** min(-power, len(str(digits)) + 25))
    return Quantity(-nanos if sign == "-" else nanos, family)


def parse(value: str | float | Quantity) -> Quantity:
    """Read `250m`, `1.5Gi`, `12e6`, or a bare JSON number. ValueError with upstream's words for anything else."""
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _LONGEST:
            raise ValueError(WRONG)
        return _parse(text)
    if isinstance(value, Quantity):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(WRONG)
    return _parse(repr(value))


def is_quantity(value: object) -> bool:
    """Whether :func:`parse` would take it."""
    try:
        parse(value)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


def canonical(value: str | float) -> str:
    """The spelling that the API gives back: `1000m` → `1`, `0.5` → `500m`, `1024Mi` → `1Gi`."""
    return str(parse(value))


def milli(value: str | float | None) -> int:
    """Thousandths of a unit, rounded up; 0 where absent."""
    return 0 if value is None else parse(value).milli


def units(value: str | float | None) -> int:
    """Whole units, rounded up; 0 where absent."""
    return 0 if value is None else parse(value).value


def compare(left: str | float, right: str | float) -> int:
    """-1, 0 or 1."""
    first, second = parse(left).nanos, parse(right).nanos
    return (first > second) - (first < second)


def total(*values: str | float | Quantity) -> Quantity:
    """The sum, in the family of the first that is not zero."""
    result = ZERO
    for each in values:
        result = result + parse(each)
    return result
