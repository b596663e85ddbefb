"""Taints and tolerations: which pods a node keeps away, and for how long a pod stays on a node that has turned bad."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Taint = dict[str, Any]
Toleration = dict[str, Any]

NO_SCHEDULE = "NoSchedule"
PREFER_NO_SCHEDULE = "PreferNoSchedule"
NO_EXECUTE = "NoExecute"

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
MEMORY_PRESSURE = "node.kubernetes.io/memory-pressure"
DISK_PRESSURE = "node.kubernetes.io/disk-pressure"
PID_PRESSURE = "node.kubernetes.io/pid-pressure"
NETWORK_UNAVAILABLE = "node.kubernetes.io/network-unavailable"


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether this toleration covers the taint. Without a key it covers all; without an effect, every effect."""
    effect = toleration.get("effect")
    if effect and effect != taint.get("effect"):
        return False
    key = toleration.get("key")
    if key and key != taint.get("key"):
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == (taint.get("value") or "")


def is_tolerated(tolerations: Iterable[Toleration] | None, taint: Taint) -> bool:
    """Whether any of the tolerations covers the taint."""
    return any(tolerates(each, taint) for each in tolerations or ())


def untolerated(
    taints: Iterable[Taint] | None, tolerations: Iterable[Toleration] | None, effects: Iterable[str] = (NO_SCHEDULE, NO_EXECUTE)
) -> Taint | None:
    """The first taint of these effects that nothing covers; None where all are covered."""
    wanted, held = frozenset(effects), tuple(tolerations or ())
    return next((each for each in taints or () if each.get("effect") in wanted and not is_tolerated(held, each)), None)


def toleration_seconds(taints: Iterable[Taint], tolerations: Iterable[Toleration] | None) -> float | None:
    """How long a pod may stay on a node with these NoExecute taints: 0 not at all, None for ever.

    The shortest limit among the tolerations that cover any of the taints.
    """
    held = tuple(tolerations or ())
    limits: list[float] = []
    for taint in taints:
        if taint.get("effect") != NO_EXECUTE:
            continue
        covering = [each for each in held if tolerates(each, taint)]
        if not covering:
            return 0
        limits += [max(0, each["tolerationSeconds"]) for each in covering if each.get("tolerationSeconds") is not None]
    return min(limits, default=None)


def same_taint(left: Taint, right: Taint) -> bool:
    """Key and effect make a taint what it is."""
    return left.get("key") == right.get("key") and left.get("effect") == right.get("effect")


def find_taint(taints: Iterable[Taint] | None, key: str, effect: str) -> Taint | None:
    """The taint of that key and effect."""
    return next((each for each in taints or () if each.get("key") == key and each.get("effect") == effect), None)
