"""Which group grows, where several could: each strategy leaves the best by its own measure, and chance decides among what is left after the last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kubeling.api.meta import status_of
from kubeling.api.pods import amount_of, requests_of
from kubeling.cloud.provider import NodeGroup, Obj


@dataclass(frozen=True, slots=True)
class Option:
    """So many more machines of a group would take these pods. `template` is what each is like, `daemons` what each runs anyway."""

    group: NodeGroup
    count: int
    pods: tuple[Obj, ...]
    template: Obj
    daemons: tuple[Obj, ...] = ()


def waste(option: Option) -> float:
    """The share of cpu plus the share of memory that would be left unused, from 0 to 2."""
    allocatable = status_of(option.template).get("allocatable") or {}
    total = 0.0
    for name in ("cpu", "memory"):
        there = amount_of(name, allocatable.get(name, 0)) * option.count
        used = sum(requests_of(pod).get(name, 0) for pod in option.pods)
        used += option.count * sum(requests_of(pod).get(name, 0) for pod in option.daemons)
        total += (there - used) / there if there else 0.0
    return total


def choose(
    options: Sequence[Option], strategies: Sequence[str], rand: Callable[[], float], priorities: Mapping[str, int]
) -> Option | None:
    """The option that wins; None where there is none."""
    left = list(options)
    for strategy in strategies:
        if len(left) > 1:
            left = _best(left, _MEASURES[strategy](priorities))
    return left[int(rand() * len(left)) % len(left)] if left else None


def _best(options: list[Option], cost: Callable[[Option], float]) -> list[Option]:
    lowest = min(cost(each) for each in options)
    return [each for each in options if cost(each) == lowest]


#: Strategy → (priorities → cost); the lowest cost wins.
_MEASURES: dict[str, Callable[[Mapping[str, int]], Callable[[Option], float]]] = {
    "random": lambda _: lambda _option: 0,
    "least-waste": lambda _: waste,
    "most-pods": lambda _: lambda option: -len(option.pods),
    "least-nodes": lambda _: lambda option: option.count,
    "priority": lambda priorities: lambda option: -priorities.get(option.group.name, -(2**31)),
}
