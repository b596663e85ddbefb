"""From what the metrics want to what is done: stabilisation over past wishes, limits on the rate of change, minimum and maximum.

An autoscaler remembers its wishes for the length of its windows, and what it did for the length of its policies' periods. With `behavior` both directions have rules of their own; without, it
grows to twice its size (or four) at a time and shrinks to the highest wish of the last five minutes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

DOWNSCALE_STABILIZATION = 300.0
#: More than an autoscaler that looks every 15 s can have in the longest window.
_MAX_REMEMBERED = 1000

Rules = Mapping[str, Any]


class Condition(NamedTuple):
    """What an autoscaler says of a decision."""

    kind: str
    status: str
    reason: str
    message: str


@dataclass(slots=True)
class Memory:
    """Of one autoscaler: (moment, wish), and (moment, how many) of what was added and removed. Moments are of the monotonic clock."""

    wishes: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_MAX_REMEMBERED))
    added: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_MAX_REMEMBERED))
    removed: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_MAX_REMEMBERED))

    def changed(self, now: float, before: int, after: int) -> None:
        """Remember what was done."""
        (self.added if after > before else self.removed).append((now, abs(after - before)))


def _since(entries: deque[tuple[float, int]], moment: float) -> list[int]:
    return [number for at, number in entries if at > moment]


def limit(
    memory: Memory, behavior: Rules | None, now: float, current: int, wish: int, lowest: int, highest: int
) -> tuple[int, list[Condition]]:
    """The number of pods to have now, and why."""
    if behavior is None:
        stable, able = _stabilized(memory, now, wish)
        done, limited = _bounded(current, stable, lowest, highest)
    else:
        stable, able = _stabilized_by_rules(memory, behavior, now, current, wish)
        done, limited = _bounded_by_rules(memory, behavior, now, current, stable, lowest, highest)
    return done, [able, limited]


_READY = Condition("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size")
_HIGHER = "recent recommendations were higher than current one, applying the highest recent recommendation"
_LOWER = "recent recommendations were lower than current one, applying the lowest recent recommendation"
_IN_RANGE = Condition("ScalingLimited", "False", "DesiredWithinRange", "the desired count is within the acceptable range")


def _limited(reason: str, words: str) -> Condition:
    return Condition("ScalingLimited", "True", reason, f"the desired replica count is {words}")


_TOO_FEW = _limited("TooFewReplicas", "less than the minimum replica count")
_TOO_MANY = _limited("TooManyReplicas", "more than the maximum replica count")
_UP_FAST = _limited("ScaleUpLimit", "increasing faster than the maximum scale rate")
_DOWN_FAST = _limited("ScaleDownLimit", "decreasing faster than the maximum scale rate")


def _stabilized(memory: Memory, now: float, wish: int) -> tuple[int, Condition]:
    highest = max([wish, *_since(memory.wishes, now - DOWNSCALE_STABILIZATION)])
    memory.wishes.append((now, wish))
    if highest != wish:
        return highest, Condition("AbleToScale", "True", "ScaleDownStabilized", _HIGHER)
    return wish, _READY


def _bounded(current: int, wish: int, lowest: int, highest: int) -> tuple[int, Condition]:
    fastest = max(2 * current, 4)
    if wish < lowest:
        return lowest, _TOO_FEW
    if wish > min(fastest, highest):
        return min(fastest, highest), _UP_FAST if fastest < highest else _TOO_MANY
    return wish, _IN_RANGE


def _window(rules: Rules, default: float) -> float:
    found = rules.get("stabilizationWindowSeconds")
    return default if found is None else float(found)


def _stabilized_by_rules(memory: Memory, behavior: Rules, now: float, current: int, wish: int) -> tuple[int, Condition]:
    up, down = behavior.get("scaleUp") or {}, behavior.get("scaleDown") or {}
    floor = min([wish, *_since(memory.wishes, now - _window(up, 0.0))])
    ceiling = max([wish, *_since(memory.wishes, now - _window(down, DOWNSCALE_STABILIZATION))])
    memory.wishes.append((now, wish))
    stable = min(max(current, floor), ceiling)
    if stable == wish:
        return stable, _READY
    if wish >= current:
        return stable, Condition("AbleToScale", "True", "ScaleUpStabilized", _LOWER)
    return stable, Condition("AbleToScale", "True", "ScaleDownStabilized", _HIGHER)


def _bounded_by_rules(
    memory: Memory, behavior: Rules, now: float, current: int, wish: int, lowest: int, highest: int
) -> tuple[int, Condition]:
    if wish > current:
        fastest = max(current, _reach(memory, behavior.get("scaleUp") or {}, now, current, up=True))
        most = min(fastest, highest)
        if wish > most:
            return most, _UP_FAST if fastest < highest else _TOO_MANY
    elif wish < current:
        fastest = min(current, _reach(memory, behavior.get("scaleDown") or {}, now, current, up=False))
        least = max(fastest, lowest)
        if wish < least:
            return least, _DOWN_FAST if fastest > lowest else _TOO_FEW
    return wish, _IN_RANGE


def _reach(memory: Memory, rules: Rules, now: float, current: int, *, up: bool) -> int:
    """How far one may go now by the rules of a direction."""
    how = rules.get("selectPolicy") or "Max"
    if how == "Disabled":
        return current
    found = []
    for policy in rules.get("policies") or ():
        since = now - float(policy.get("periodSeconds") or 0)
        start = current - sum(_since(memory.added, since)) + sum(_since(memory.removed, since))
        value = int(policy.get("value") or 0)
        if policy.get("type") == "Pods":
            found.append(start + value if up else start - value)
        elif up:
            # As exact as whole numbers are: 1.1 is not, as a float.
            found.append(math.ceil(start * (100 + value) / 100))
        else:
            found.append(int(start * (100 - value) / 100))
    if not found:
        return current
    # Going down, the largest change leads to the smallest number.
    return max(found) if (how == "Max") == up else min(found)
