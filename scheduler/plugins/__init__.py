"""The default plugins, with upstream's semantics, names and weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from kubeling.api.labels import Selector
from kubeling.scheduler.nodeinfo import Obj
from kubeling.scheduler.plugin import Plugin
from kubeling.scheduler.plugins.images import ImageLocality
from kubeling.scheduler.plugins.interpod import InterPodAffinity
from kubeling.scheduler.plugins.node import NodeAffinity, NodeName, NodePorts, NodeUnschedulable, TaintToleration
from kubeling.scheduler.plugins.preemption import DefaultPreemption
from kubeling.scheduler.plugins.resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from kubeling.scheduler.plugins.spread import PodTopologySpread
from kubeling.scheduler.plugins.volumes import SchedulingGates, VolumeBinding

NamespaceLabels = Callable[[], Mapping[str, Mapping[str, str]]]


def default_plugins(
    *,
    namespace_labels: NamespaceLabels,
    default_selector: Callable[[Obj], Selector | None],
    get_claim: Callable[[str, str], Obj | None],
    get_volume: Callable[[str], Obj | None],
    get_class: Callable[[str], Obj | None],
    budgets: Callable[[str], Iterable[Obj]],
    rand: Callable[[], float] = random.random,
) -> list[tuple[Plugin, int]]:
    """(plugin, weight in scoring) of the default profile, cheapest filters first.

    The functions read informers: labels of all namespaces, the selector of the Services and the controller that select a pod, claims by namespace and
    name, volumes and storage classes by name, disruption budgets of a namespace.
    """
    return [
        (SchedulingGates(), 0),
        (NodeUnschedulable(), 0),
        (NodeName(), 0),
        (TaintToleration(), 3),
        (NodeAffinity(), 2),
        (NodePorts(), 0),
        (NodeResourcesFit(), 1),
        (VolumeBinding(get_claim, get_volume, get_class), 0),
        (PodTopologySpread(default_selector), 2),
        (InterPodAffinity(namespace_labels), 2),
        (DefaultPreemption(budgets, rand), 0),
        (NodeResourcesBalancedAllocation(), 1),
        (ImageLocality(), 1),
    ]
