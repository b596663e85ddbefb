"""Hints in EndpointSlices: for which zones (or nodes) an endpoint is meant, so that traffic stays near (KEP-2433, KEP-3015, KEP-4444). Pure.

`trafficDistribution: PreferClose` means each endpoint for its own zone, whatever the load then is. The annotation `service.kubernetes.io/topology-mode: Auto`
shares endpoints out by the zones' processors: a zone may get up to a fifth more load than its share, and where that cannot be kept, there are no hints at all.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kubeling.api.conditions import is_true
from kubeling.api.meta import labels_of, metadata_of, name_of, spec_of, status_of
from kubeling.api.quantity import milli
from kubeling.controllers.context import Obj
from kubeling.controllers.endpoints_plan import ZONE_LABEL

MODES = ("service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints")
CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
#: How much more than its share a zone may be given.
OVERLOAD = 0.2


@dataclass(frozen=True, slots=True)
class Zones:
    """What hints need to know of the nodes. `shares`: zone → its part of all processors; empty where that is not known of all."""

    of_node: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What of a node hints depend on. `counts`: its processors are there for pods."""

    zone: str
    counts: bool
    millicpu: int


def facts_of(node: Obj) -> NodeFacts:
    """Control-plane nodes, and those that are not ready, count for no share."""
    labels = labels_of(node)
    counts = is_true(node, "Ready") and not any(each in labels for each in CONTROL_PLANE)
    return NodeFacts(labels.get(ZONE_LABEL, ""), counts, milli((status_of(node).get("allocatable") or {}).get("cpu")))


def zones_of(nodes: Iterable[Obj]) -> Zones:
    """From all nodes."""
    of_node: dict[str, str] = {}
    processors: dict[str, int] = defaultdict(int)
    known = True
    for node in nodes:
        facts = facts_of(node)
        if facts.zone:
            of_node[name_of(node)] = facts.zone
        if facts.counts:
            known = known and bool(facts.zone and facts.millicpu)
            processors[facts.zone] += facts.millicpu
    total = sum(processors.values())
    usable = known and len(processors) > 1
    return Zones(of_node, {zone: each / total for zone, each in processors.items()} if usable else {})


def add_hints(service: Obj, endpoints: Sequence[Obj], zones: Zones) -> None:
    """Put hints into the ready endpoints of one family, in place."""
    ready = [each for each in endpoints if (each.get("conditions") or {}).get("ready") is not False]
    distribution = spec_of(service).get("trafficDistribution")
    if distribution in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        for each in ready:
            hints: Obj = {}
            if each.get("zone"):
                hints["forZones"] = [{"name": each["zone"]}]
            if distribution == "PreferSameNode" and each.get("nodeName"):
                hints["forNodes"] = [{"name": each["nodeName"]}]
            if hints:
                each["hints"] = hints
        return
    if wants_auto(service):
        for each, zone in zip(ready, allocate([str(each.get("zone") or "") for each in ready], zones.shares), strict=False):
            each["hints"] = {"forZones": [{"name": zone}]}


def wants_auto(service: Obj) -> bool:
    annotations = metadata_of(service).get("annotations") or {}
    return any((annotations.get(each) or "").lower() == "auto" for each in MODES)


def allocate(zones: Sequence[str], shares: Mapping[str, float]) -> list[str]:
    """For each endpoint (given by the zone that it is in) the zone that it is meant for; empty where the endpoints cannot be shared out well."""
    if not shares or not zones or any(zone not in shares for zone in zones):
        return []
    # A zone is overloaded when its endpoints are fewer than this: its share of the traffic then meets too few of them.
    least = {zone: math.ceil(share * len(zones) / (1 + OVERLOAD)) for zone, share in shares.items()}
    if sum(least.values()) > len(zones):
        return []
    found = list(zones)
    have = Counter(found)
    for poor in sorted(shares, key=lambda zone: have[zone] - least[zone]):
        while have[poor] < least[poor]:
            rich = max(sorted(shares), key=lambda zone: (have[zone] - least[zone], have[zone]))
            place = found.index(rich)
            found[place] = poor
            have[rich] -= 1
            have[poor] += 1
    return found
