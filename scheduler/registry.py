"""Plugins by name: upstream's own, the optional ones, and those of other packages by the entry point group `kubeling.scheduler.plugins`.

An entry point names a factory that takes the plugin's `args` from the configuration (a dict) and the :class:`Handle`, and returns the plugin.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

from kubeling.scheduler.handle import Handle
from kubeling.scheduler.plugin import Plugin
from kubeling.scheduler.plugins.binder import DefaultBinder
from kubeling.scheduler.plugins.disks import NodeVolumeLimits, VolumeRestrictions, VolumeZone
from kubeling.scheduler.plugins.gang import Coscheduling
from kubeling.scheduler.plugins.images import ImageLocality
from kubeling.scheduler.plugins.interpod import InterPodAffinity
from kubeling.scheduler.plugins.node import NodeAffinity, NodeName, NodePorts, NodeUnschedulable, TaintToleration
from kubeling.scheduler.plugins.preemption import DefaultPreemption
from kubeling.scheduler.plugins.queueing import PrioritySort, SchedulingGates
from kubeling.scheduler.plugins.resources import CPU_AND_MEMORY, NodeResourcesBalancedAllocation, NodeResourcesFit
from kubeling.scheduler.plugins.spread import SYSTEM_DEFAULTS, PodTopologySpread
from kubeling.scheduler.plugins.volumes import VolumeBinding

Args = dict[str, Any]
Factory = Callable[[Args, Handle], Plugin]
GROUP = "kubeling.scheduler.plugins"


class ConfigError(Exception):
    """A configuration that cannot be meant; the text names the field."""


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `100ms`, `5s`, `1m30s`. ConfigError where it is none."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(f"{text!r} is not a duration such as 5s")
    return sum(float(number) * units[unit] for number, unit in parts)


def _resources(args: Args) -> tuple[tuple[str, int], ...]:
    found = args.get("resources")
    return tuple((each["name"], int(each.get("weight") or 1)) for each in found) if found else CPU_AND_MEMORY


def _fit(args: Args, _handle: Handle) -> Plugin:
    strategy = args.get("scoringStrategy") or {}
    kind: Any = strategy.get("type") or "LeastAllocated"
    if kind not in ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"):
        raise ConfigError(
            f"NodeResourcesFit: scoringStrategy.type: {kind!r} is none of LeastAllocated, MostAllocated, RequestedToCapacityRatio"
        )
    points = ((strategy.get("requestedToCapacityRatio") or {}).get("shape")) or []
    shape = tuple((int(each.get("utilization") or 0), int(each.get("score") or 0)) for each in points)
    if kind == "RequestedToCapacityRatio":
        if not shape:
            raise ConfigError("NodeResourcesFit: scoringStrategy.requestedToCapacityRatio.shape: at least one point is required")
        if any(not 0 <= at <= 100 or not 0 <= score <= 10 for at, score in shape):
            raise ConfigError(
                "NodeResourcesFit: scoringStrategy.requestedToCapacityRatio.shape: utilization is 0 to 100, score 0 to 10"
            )
        if any(left[0] >= right[0] for left, right in itertools.pairwise(shape)):
            raise ConfigError("NodeResourcesFit: scoringStrategy.requestedToCapacityRatio.shape: utilization must rise")
    ignored = frozenset(args.get("ignoredResources") or ())
    return NodeResourcesFit(kind, _resources(strategy), shape, ignored, frozenset(args.get("ignoredResourceGroups") or ()))


def _spread(args: Args, handle: Handle) -> Plugin:
    kind = args.get("defaultingType") or "System"
    if kind not in ("System", "List"):
        raise ConfigError(f"PodTopologySpread: defaultingType: {kind!r} is neither System nor List")
    own = args.get("defaultConstraints") or []
    if kind == "System" and own:
        raise ConfigError("PodTopologySpread: defaultConstraints: must be empty where defaultingType is System")
    if any(each.get("labelSelector") for each in own):
        raise ConfigError("PodTopologySpread: defaultConstraints: a default constraint has no labelSelector of its own")
    return PodTopologySpread(handle.default_selector, SYSTEM_DEFAULTS if kind == "System" else own, kind == "System")


def _interpod(args: Args, handle: Handle) -> Plugin:
    weight = args.get("hardPodAffinityWeight")
    return InterPodAffinity(
        handle.namespace_labels, 1 if weight is None else int(weight), bool(args.get("ignorePreferredTermsOfExistingPods"))
    )


def _preemption(args: Args, handle: Handle) -> Plugin:
    percent, least = args.get("minCandidateNodesPercentage"), args.get("minCandidateNodesAbsolute")
    return DefaultPreemption(
        handle.budgets, handle.rand, 10 if percent is None else int(percent), 100 if least is None else int(least)
    )


IN_TREE: dict[str, Factory] = {
    "SchedulingGates": lambda _args, _handle: SchedulingGates(),
    "PrioritySort": lambda _args, _handle: PrioritySort(),
    "NodeUnschedulable": lambda _args, _handle: NodeUnschedulable(),
    "NodeName": lambda _args, _handle: NodeName(),
    "TaintToleration": lambda _args, _handle: TaintToleration(),
    "NodeAffinity": lambda args, _handle: NodeAffinity(args.get("addedAffinity")),
    "NodePorts": lambda _args, _handle: NodePorts(),
    "NodeResourcesFit": _fit,
    "VolumeRestrictions": lambda _args, handle: VolumeRestrictions(handle),
    "NodeVolumeLimits": lambda _args, handle: NodeVolumeLimits(handle),
    "VolumeBinding": lambda args, handle: VolumeBinding(handle, float(args.get("bindTimeoutSeconds") or 600)),
    "VolumeZone": lambda _args, handle: VolumeZone(handle),
    "PodTopologySpread": _spread,
    "InterPodAffinity": _interpod,
    "DefaultPreemption": _preemption,
    "NodeResourcesBalancedAllocation": lambda args, _handle: NodeResourcesBalancedAllocation(_resources(args)),
    "ImageLocality": lambda _args, _handle: ImageLocality(),
    "DefaultBinder": lambda _args, handle: DefaultBinder(handle),
    "Coscheduling": lambda args, handle: Coscheduling(handle, float(args.get("permitWaitingTimeSeconds") or 60)),
}

#: What a profile runs where its configuration says nothing, in order, with weights in scoring.
DEFAULTS: tuple[tuple[str, int], ...] = (
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0),
    ("NodeVolumeLimits", 0),
    ("VolumeBinding", 0),
    ("VolumeZone", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
)


def make(name: str, args: Args, handle: Handle) -> Plugin:
    """The plugin of that name. ConfigError where there is none, or its arguments are wrong."""
    factory = IN_TREE.get(name) or _out_of_tree(name)
    plugin = factory(args, handle)
    if plugin.name != name:
        raise ConfigError(f"the plugin that is registered as {name} calls itself {plugin.name!r}")
    return plugin


def _out_of_tree(name: str) -> Factory:
    from importlib.metadata import entry_points

    for each in entry_points(group=GROUP, name=name):
        factory: Factory = each.load()
        return factory
    known = sorted({*IN_TREE, *(each.name for each in entry_points(group=GROUP))})
    raise ConfigError(
        f"there is no scheduler plugin {name!r}; known are {', '.join(known)}. Others are found by the entry point group {GROUP!r}"
    )
