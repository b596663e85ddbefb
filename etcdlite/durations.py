"""Durations as etcd's flags take them."""

from __future__ import annotations

import argparse
import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """For ``type=``: seconds, of a duration as etcd's flags take it: ``5s``, ``1h30m``, ``100ms``."""
    found = re.findall(r"([0-9.]+)(ms|s|m|h)", text)
    if "".join(number + unit for number, unit in found) != text and text != "0":
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration like 5s, 2h or 100ms")
    try:
        return sum(float(number) * _UNITS[unit] for number, unit in found)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration like 5s, 2h or 100ms") from None
