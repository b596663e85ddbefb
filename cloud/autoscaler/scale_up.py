"""Which group is to grow, and by how much, so that pods fit that fit nowhere now.

For each group that may grow the scheduler is asked where the waiting pods would go if as many more of its machines were there as it takes. Pods that would go
to what is there, or on its way, need nothing; a group that takes none of the others is no option. The expander chooses among the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kubeling.api.meta import uid_of
from kubeling.cloud.autoscaler.expander import Option, choose
from kubeling.cloud.autoscaler.picture import Picture
from kubeling.cloud.autoscaler.settings import Settings
from kubeling.cloud.autoscaler.simulator import Simulator
from kubeling.cloud.provider import NodeGroup, Obj

MAX_SIZE_REACHED = "max node group size reached"
TOTAL_REACHED = "max total nodes in cluster reached"
BACKED_OFF = "in backoff after failed scale-up"


@dataclass(slots=True)
class ScaleUp:
    """`chosen` is what to do, None for nothing; `hopeless` are the pods that no group helps, each with the reasons and for how many groups they hold;
    `coming` says that pods have only to wait for what is there or on its way."""

    chosen: Option | None = None
    hopeless: list[tuple[Obj, dict[str, int]]] = field(default_factory=list)
    coming: bool = False


def events(option: Option) -> str:
    """The message on the pods that it helps, as upstream words it."""
    group = option.group
    return f"pod triggered scale-up: [{{{group.name} {group.size}->{group.size + option.count} (max: {group.maximum})}}]"


def refusal(reasons: Mapping[str, int]) -> str:
    """The message on a pod that nothing helps."""
    return "pod didn't trigger scale-up: " + ", ".join(f"{count} {text}" for text, count in sorted(reasons.items()))


async def plan(
    picture: Picture,
    pods: Sequence[Obj],
    simulator: Simulator,
    settings: Settings,
    backed_off: Callable[[NodeGroup], bool],
    rand: Callable[[], float],
) -> ScaleUp:
    """Decide for pods of one scheduler."""
    found = ScaleUp()
    if not pods:
        return found
    supposed = picture.supposed(settings)
    as_it_is = await simulator.ask(supposed, pods)
    left = [pod for pod, placement in zip(pods, as_it_is.placements, strict=True) if not placement.node]
    found.coming = len(left) < len(pods)
    why: dict[str, dict[str, int]] = {uid_of(pod): {} for pod in left}
    options: list[Option] = []
    if left:
        for group in picture.groups:
            most, refused = _room(group, picture, settings, backed_off)
            if refused:
                _note(why, left, refused)
                continue
            template, daemons = picture.template(group)
            outcome = await simulator.ask(replace(supposed, grow=(template, daemons, most)), pods)
            helped = []
            for pod, placement in zip(pods, outcome.placements, strict=True):
                if placement.kind == "grown":
                    helped.append(pod)
                elif not placement.node and uid_of(pod) in why:
                    reasons = (MAX_SIZE_REACHED,) if outcome.grown >= most else placement.reasons
                    for text in reasons:
                        why[uid_of(pod)][text] = why[uid_of(pod)].get(text, 0) + 1
            if outcome.grown and helped:
                options.append(Option(group, outcome.grown, tuple(helped), template, tuple(daemons)))
    found.chosen = choose(options, settings.expander, rand, settings.priorities)
    somehow = {uid_of(pod) for option in options for pod in option.pods}
    found.hopeless = [(pod, why[uid_of(pod)]) for pod in left if uid_of(pod) not in somehow]
    return found


def _room(group: NodeGroup, picture: Picture, settings: Settings, backed_off: Callable[[NodeGroup], bool]) -> tuple[int, str]:
    """(by how much it may grow, why not at all)"""
    if group.size >= group.maximum:
        return 0, MAX_SIZE_REACHED
    if backed_off(group):
        return 0, BACKED_OFF
    most = group.maximum - group.size
    if settings.max_nodes_total:
        unborn = sum(each.size for each in picture.groups) - sum(
            1 for each in picture.groups for machine in each.machines if machine.node in picture.nodes
        )
        most = min(most, settings.max_nodes_total - len(picture.nodes) - max(0, unborn))
        if most <= 0:
            return 0, TOTAL_REACHED
    return most, ""


def _note(why: dict[str, dict[str, int]], pods: Sequence[Obj], text: str) -> None:
    for pod in pods:
        reasons = why[uid_of(pod)]
        reasons[text] = reasons.get(text, 0) + 1
