"""Nodes as the autoscaler sees them: which machine one is, whether it is in use yet, what it has been marked with, and what the next of its group will be like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubeling.api import taints
from kubeling.api.conditions import get_condition, is_true
from kubeling.api.meta import annotations_of, is_deleting, labels_of, name_of, spec_of, status_of
from kubeling.cloud.provider import Machine, NodeGroup, Obj

TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
CANDIDATE = "DeletionCandidateOfClusterAutoscaler"
SCALE_DOWN_DISABLED = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
HOSTNAME = "kubernetes.io/hostname"
#: Taints that come and go with a node's state, or are ours: a new node of the group has none of them.
_PASSING = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
_OURS = (TO_BE_DELETED, CANDIDATE)


def is_passing(taint: Obj) -> bool:
    """Whether it says something of this node and this moment, and nothing of the group."""
    key = str(taint.get("key") or "")
    return key.startswith(_PASSING) or key in _OURS


def is_ready(node: Obj) -> bool:
    """Pods may start there: Ready, and nothing of its beginnings left."""
    beginning = (taints.NOT_READY, "node.cloudprovider.kubernetes.io/uninitialized", taints.NETWORK_UNAVAILABLE)
    held = any(each.get("key") in beginning for each in spec_of(node).get("taints") or ())
    return is_true(node, "Ready") and not held and not is_deleting(node)


def is_silent(node: Obj) -> bool:
    """Nothing was heard of it for too long: the node lifecycle controller says so by this word."""
    return (get_condition(node, "Ready") or {}).get("status") == "Unknown"


def mark_of(node: Obj, key: str) -> float | None:
    """When the node was marked with the taint `key` (seconds of the epoch, which is its value); None where it is not."""
    found = next((each for each in spec_of(node).get("taints") or () if each.get("key") == key), None)
    if found is None:
        return None
    value = str(found.get("value") or "")
    return float(value) if value.isdecimal() else 0.0


def marked(node: Obj, key: str, effect: str, now: float | None) -> list[Obj]:
    """The node's taints with that mark, set `now`, or without it where that is None."""
    rest = [each for each in spec_of(node).get("taints") or () if each.get("key") != key]
    return rest if now is None else [*rest, {"key": key, "value": str(int(now)), "effect": effect}]


def may_go(node: Obj) -> bool:
    """Whether its owner lets it be taken away."""
    return annotations_of(node).get(SCALE_DOWN_DISABLED) != "true"


def node_of(machine: Machine, nodes: Mapping[str, Obj]) -> Obj | None:
    """The Node of a machine, by its provider id; one that has not been told yet goes by its name."""
    found = nodes.get(machine.node)
    if found is None:
        return None
    told = spec_of(found).get("providerID")
    return found if not told or told == machine.provider_id else None


def fresh(node: Obj, name: str = "") -> Obj:
    """The node as it will be when it has just become ready; under another name where one is given."""
    name = name or name_of(node)
    spec = {"taints": [each for each in spec_of(node).get("taints") or () if not is_passing(each)]}
    status = {key: status_of(node)[key] for key in ("allocatable", "capacity") if key in status_of(node)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**labels_of(node), HOSTNAME: name}},
        "spec": spec,
        "status": status,
    }


def template_of(group: NodeGroup, nodes: Mapping[str, Obj]) -> Obj:
    """What the next machine of the group will be: like one that is ready, or as the cloud says."""
    for machine in group.machines:
        node = node_of(machine, nodes)
        if node is not None and is_ready(node):
            return fresh(node, f"template-{group.name}")
    return fresh(group.template, f"template-{group.name}")


def fingerprint(node: Obj) -> object:
    """What of a node the autoscaler looks at: heartbeats make no difference."""
    return (
        labels_of(node),
        annotations_of(node).get(SCALE_DOWN_DISABLED),
        spec_of(node),
        is_ready(node),
        is_silent(node),
        is_deleting(node),
        status_of(node).get("allocatable"),
    )


def groups_by_node(groups: Iterable[NodeGroup], nodes: Mapping[str, Obj]) -> dict[str, tuple[NodeGroup, Machine]]:
    """The nodes that are machines of a group."""
    return {
        machine.node: (group, machine) for group in groups for machine in group.machines if node_of(machine, nodes) is not None
    }
