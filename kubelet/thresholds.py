"""When the node is short of something: signals, thresholds, and what follows from them. No I/O and no clock.

A signal is how much of something is left. A hard threshold acts at once, a soft one when it has been crossed for its grace period. A threshold that was
crossed stays so until its minimum reclaim is free as well, and a node condition is shown until it was not observed for the transition period, so that neither
swings to and fro. The rules are those of upstream's eviction manager.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kubeling.api import quantity

MEMORY, PIDS = "memory.available", "pid.available"
NODE_BYTES, NODE_INODES = "nodefs.available", "nodefs.inodesFree"
IMAGE_BYTES, IMAGE_INODES = "imagefs.available", "imagefs.inodesFree"

#: Signal → the condition of the node, and the name of the resource in messages.
SIGNALS: dict[str, tuple[str, str]] = {
    MEMORY: ("MemoryPressure", "memory"),
    NODE_BYTES: ("DiskPressure", "ephemeral-storage"),
    NODE_INODES: ("DiskPressure", "inodes"),
    IMAGE_BYTES: ("DiskPressure", "ephemeral-storage"),
    IMAGE_INODES: ("DiskPressure", "inodes"),
    PIDS: ("PIDPressure", "pids"),
}
DEFAULT_HARD = {MEMORY: "100Mi", NODE_BYTES: "10%", NODE_INODES: "5%", IMAGE_BYTES: "15%", IMAGE_INODES: "5%"}
DISK_SIGNALS = frozenset((NODE_BYTES, NODE_INODES, IMAGE_BYTES, IMAGE_INODES))


@dataclass(frozen=True, slots=True)
class Amount:
    """A quantity, or a share of the capacity."""

    text: str
    value: int = 0
    share: float | None = None

    def of(self, capacity: int) -> int:
        return self.value if self.share is None else int(capacity * self.share)


def amount(text: str) -> Amount:
    """`100Mi` or `10%`. ValueError where it is neither."""
    if text.endswith("%"):
        share = float(text[:-1]) / 100
        if not 0 <= share <= 1:
            raise ValueError(f"{text} is not between 0% and 100%")
        return Amount(text, share=share)
    value = quantity.units(text)
    if value < 0:
        raise ValueError(f"{text} is negative")
    return Amount(text, value)


@dataclass(frozen=True, slots=True)
class Threshold:
    """`grace` is in seconds, 0 for a hard one."""

    signal: str
    below: Amount
    grace: float = 0.0
    reclaim: Amount = Amount("0")


def parse(
    hard: Mapping[str, str], soft: Mapping[str, str], graces: Mapping[str, float], reclaim: Mapping[str, str]
) -> tuple[Threshold, ...]:
    """All thresholds, memory's first, as they are to be acted on. ValueError where one makes no sense; 0 and 0% mean none, 100% is one as well."""
    found = []
    for kind, thresholds in (("hard", hard), ("soft", soft)):
        for signal, text in thresholds.items():
            if signal not in SIGNALS:
                raise ValueError(f"{signal} is no signal: there are {', '.join(SIGNALS)}")
            below = amount(text)
            if not below.value and not below.share:
                continue
            if kind == "soft" and signal not in graces:
                raise ValueError(f"the soft threshold {signal} has no grace period")
            grace = graces[signal] if kind == "soft" else 0.0
            found.append(Threshold(signal, below, grace, amount(reclaim.get(signal, "0"))))
    return tuple(sorted(found, key=lambda each: list(SIGNALS).index(each.signal)))


@dataclass(frozen=True, slots=True)
class Observation:
    """How much is left, of how much."""

    available: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Pressure:
    """What is remembered from one look to the next. Times are monotonic seconds."""

    met: tuple[Threshold, ...] = ()
    first_observed: Mapping[Threshold, float] = field(default_factory=dict)
    last_seen: Mapping[str, float] = field(default_factory=dict)
    #: The conditions that the node shows.
    conditions: frozenset[str] = frozenset()
    #: The thresholds that demand something now.
    acting: tuple[Threshold, ...] = ()


def crossed(threshold: Threshold, observed: Mapping[str, Observation], *, with_reclaim: bool = False) -> bool:
    """Whether less is left than the threshold says (and the minimum reclaim on top of it)."""
    seen = observed.get(threshold.signal)
    if seen is None:
        return False
    limit = threshold.below.of(seen.capacity)
    if with_reclaim:
        limit += threshold.reclaim.of(seen.capacity)
    return seen.available < limit


def look(
    before: Pressure, thresholds: tuple[Threshold, ...], observed: Mapping[str, Observation], now: float, transition: float
) -> Pressure:
    """What is so now, after what was so before."""
    unresolved = {each for each in before.met if crossed(each, observed, with_reclaim=True)}
    met = tuple(each for each in thresholds if each in unresolved or crossed(each, observed))
    first = {each: before.first_observed.get(each, now) for each in met}
    last = {**before.last_seen, **{SIGNALS[each.signal][0]: now for each in met}}
    shown = frozenset(kind for kind, at in last.items() if at == now or now - at < transition)
    acting = tuple(each for each in met if now - first[each] >= each.grace)
    return replace(before, met=met, first_observed=first, last_seen=last, conditions=shown, acting=acting)
