"""Which nodes are not needed: hardly used, free to go by what runs there, and all that runs there would fit elsewhere, also with those gone that were found
before.

A node that is not ready is of no use at all. Empty nodes are looked at first, then the least used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kubeling.api.meta import is_deleting
from kubeling.cloud.autoscaler import nodes, removable
from kubeling.cloud.autoscaler.picture import Picture
from kubeling.cloud.autoscaler.settings import Settings
from kubeling.cloud.autoscaler.simulator import Simulator, Supposed, scheduler_of
from kubeling.cloud.provider import Machine, NodeGroup, Obj

#: Nodes with pods that are looked at in one look (upstream's --scale-down-non-empty-candidates-count).
MAX_OCCUPIED = 30


@dataclass(frozen=True, slots=True)
class Unneeded:
    """A node that may go; `movable` are its pods that must go elsewhere before."""

    node: Obj
    group: NodeGroup
    machine: Machine
    movable: tuple[Obj, ...] = ()
    ready: bool = True

    @property
    def name(self) -> str:
        return str(self.node["metadata"]["name"])


@dataclass(slots=True)
class ScaleDown:
    """`unneeded` in the order in which they should go; `needed`: why the others have to stay."""

    unneeded: list[Unneeded] = field(default_factory=list)
    needed: dict[str, str] = field(default_factory=dict)


async def plan(picture: Picture, simulator: Simulator, settings: Settings, going: frozenset[str]) -> ScaleDown:
    """Judge every node of every group but those that are `going` already."""
    found = ScaleDown()
    members = nodes.groups_by_node(picture.groups, picture.nodes)
    spare = {group.name: group.size - group.minimum for group in picture.groups}
    for name in going:
        if name in members:
            spare[members[name][0].name] -= 1
    upcoming = {machine.provider_id for _, machine in picture.upcoming(settings)}
    ranked: list[tuple[bool, float, str, Unneeded]] = []
    for name, (group, machine) in members.items():
        node = picture.nodes[name]
        if name in going or is_deleting(node):
            continue
        ready = nodes.is_ready(node)
        used = removable.utilization(node, picture.pods_on(name), settings) if ready else 0.0
        verdict = removable.verdict(picture.pods_on(name), picture.budgets_of, settings)
        if machine.provider_id in upcoming:
            found.needed[name] = "NotReadyYet"
        elif not nodes.may_go(node):
            found.needed[name] = "ScaleDownDisabledAnnotation"
        elif used >= settings.threshold and ready:
            found.needed[name] = "NotUnderutilized"
        elif verdict.blocked:
            found.needed[name] = verdict.blocked
        else:
            ranked.append((bool(verdict.movable), used, name, Unneeded(node, group, machine, verdict.movable, ready)))
    gone: list[Unneeded] = []
    occupied = 0
    for has_pods, _, name, each in sorted(ranked, key=lambda entry: entry[:3]):
        if spare[each.group.name] <= 0:
            found.needed[name] = "NodeGroupMinSizeReached"
            continue
        if has_pods:
            occupied += 1
            if occupied > MAX_OCCUPIED:
                found.needed[name] = "UnremovableNodeRecently"
                continue
            if not await fits(picture, simulator, settings, [*gone, each], going):
                found.needed[name] = "NoPlaceToMovePods"
                continue
        spare[each.group.name] -= 1
        gone.append(each)
    found.unneeded = gone
    return found


async def fits(
    picture: Picture, simulator: Simulator, settings: Settings, leaving: Sequence[Unneeded], going: frozenset[str]
) -> bool:
    """Whether all that runs on the nodes that leave finds a place on those that stay. What is on its way elsewhere is no place: it may never come."""
    pods = [pod for each in leaving for pod in removable.needs_place(each.movable, settings)]
    if not pods:
        return True
    if len({scheduler_of(pod) for pod in pods}) > 1:
        return False  # No one scheduler can say.
    outcome = await simulator.ask(Supposed(remove=sorted({*going, *(each.name for each in leaving)})), pods)
    return all(each.node for each in outcome.placements)
