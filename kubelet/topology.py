"""The topology manager: cpus and devices of one container near to each other. No I/O but reading where the cpus are.

Each provider says with which sets of NUMA nodes it could serve the container, and which of those it would like (the smallest that could ever do). The sets are
crossed; the best crossing is narrow and liked by all. The policy says what becomes of a pod for which there is none that all like: `best-effort` lets it in all the same,
`restricted` does not, and `single-numa-node` wants one node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

from kubeling.api.meta import Object
from kubeling.api.pods import containers_of, init_containers_of

POLICIES = ("none", "best-effort", "restricted", "single-numa-node")
#: With more nodes than this there are too many sets to try, as upstream.
MOST_NODES = 8
REFUSAL = ("TopologyAffinityError", "Resources cannot be allocated with Topology locality")


@dataclass(frozen=True, slots=True)
class Hint:
    """A set of NUMA nodes that would do. `preferred`: no smaller one ever could."""

    nodes: frozenset[int]
    preferred: bool


def hints(near: Mapping[Any, Iterable[int]], free: Iterable[Any], count: int) -> list[Hint] | None:
    """With which nodes `count` of the free things could be had. `near` says of all things, free or not, to which nodes each is near; None: it does not matter."""
    nodes = sorted({node for of in near.values() for node in of})
    if not nodes or len(nodes) > MOST_NODES:
        return None
    available = list(free)
    found: list[frozenset[int]] = []
    smallest = len(nodes) + 1
    for size in range(1, len(nodes) + 1):
        for chosen in map(frozenset, combinations(nodes, size)):
            if sum(bool(set(of) & chosen) for of in near.values()) >= count:
                smallest = min(smallest, size)
            if sum(bool(set(near.get(each, ())) & chosen) for each in available) >= count:
                found.append(chosen)
    return [Hint(each, len(each) == smallest) for each in found]


def merge(policy: str, everyone: Sequence[list[Hint] | None], nodes: frozenset[int]) -> tuple[frozenset[int], bool]:
    """The nodes to allocate from, and whether the pod may come in."""
    if policy == "none" or not nodes or len(nodes) > MOST_NODES:
        return nodes, True
    lists = [[Hint(nodes, True)] if each is None else (each or [Hint(nodes, False)]) for each in everyone]
    if policy == "single-numa-node":
        lists = [
            [each for each in found if (len(each.nodes) == 1 and each.preferred) or (whole is None)]
            for found, whole in zip(lists, everyone, strict=True)
        ]
    best = Hint(nodes, False)
    for crossing in product(*lists):
        shared = nodes.intersection(*(each.nodes for each in crossing))
        if not shared:
            continue
        alike = len({each.nodes for each in crossing if each.nodes != nodes}) <= 1
        one = Hint(shared, all(each.preferred for each in crossing) and alike)
        if (one.preferred, -len(one.nodes), [-each for each in sorted(one.nodes)]) > (
            best.preferred,
            -len(best.nodes),
            [-each for each in sorted(best.nodes)],
        ):
            best = one
    if policy == "single-numa-node":
        asked = any(each is not None for each in everyone)
        return best.nodes, not asked or (best.preferred and (len(best.nodes) == 1))
    return best.nodes, policy == "best-effort" or best.preferred


class TopologyProblem(Exception):
    """There are no NUMA nodes that all would like, and the policy insists on some."""


def affinities(
    policy: str, pod: Object, nodes: frozenset[int], ask: Callable[[dict[str, Any]], list[list[Hint] | None]]
) -> dict[str, frozenset[int]]:
    """The NUMA nodes of each container. `ask` gives what all providers say about one. TopologyProblem where one has none."""
    found: dict[str, frozenset[int]] = {}
    if policy == "none":
        return found
    for container in [*init_containers_of(pod), *containers_of(pod)]:
        chosen, admitted = merge(policy, ask(dict(container)), nodes)
        if not admitted:
            raise TopologyProblem(container["name"])
        found[container["name"]] = chosen
    return found


def cpu_nodes(cpus: Iterable[int], root: Path = Path("/sys/devices/system/node")) -> dict[int, frozenset[int]]:
    """To which NUMA node each cpu is near; empty where the kernel does not say."""
    from kubeling.kubelet.cpus import parse_cpus

    found: dict[int, frozenset[int]] = {}
    if not root.is_dir():
        return found
    for folder in root.glob("node[0-9]*"):
        try:
            inside = parse_cpus((folder / "cpulist").read_text().strip())
        except (OSError, ValueError):
            continue
        for cpu in inside & set(cpus):
            found[cpu] = frozenset({int(folder.name.removeprefix("node"))})
    return found
