"""The picture of one look: the groups as the cloud shows them, and nodes, pods, budgets and DaemonSets as the informers do. Pure from here on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kubeling.api import pods as podlib
from kubeling.api.conditions import get_condition
from kubeling.api.meta import creation_of, is_deleting, name_of, spec_of, status_of
from kubeling.cloud.autoscaler import daemons, nodes
from kubeling.cloud.autoscaler.settings import Settings
from kubeling.cloud.autoscaler.simulator import Supposed
from kubeling.cloud.provider import Machine, NodeGroup, Obj

#: How long a new node is described to the scheduler by us (seconds): it may see a little later than we do that the node is ready.
FRESH_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that a decision rests on. `now` in seconds of the epoch; `by_node`: the pods of each node."""

    now: float
    groups: tuple[NodeGroup, ...]
    nodes: Mapping[str, Obj]
    by_node: Mapping[str, list[Obj]] = field(default_factory=dict)
    waiting: tuple[Obj, ...] = ()
    budgets: Mapping[str, list[Obj]] = field(default_factory=dict)
    daemon_sets: tuple[Obj, ...] = ()

    def pods_on(self, node: str) -> list[Obj]:
        return self.by_node.get(node, [])

    def budgets_of(self, namespace: str) -> list[Obj]:
        return self.budgets.get(namespace, [])

    def template(self, group: NodeGroup) -> tuple[Obj, list[Obj]]:
        """The next node of the group, and what it runs anyway."""
        node = nodes.template_of(group, self.nodes)
        return node, daemons.daemon_pods(node, self.daemon_sets)

    def upcoming(self, settings: Settings) -> list[tuple[NodeGroup, Machine]]:
        """The machines that are on their way: made not too long ago, and not ready yet."""
        return [
            (group, machine)
            for group in self.groups
            for machine in group.machines
            if self.now - machine.created < settings.max_node_provision and self._starts(machine)
        ]

    def lost(self, settings: Settings) -> list[tuple[NodeGroup, Machine]]:
        """The machines that never became nodes, and had their time."""
        return [
            (group, machine)
            for group in self.groups
            for machine in group.machines
            if self.now - machine.created >= settings.max_node_provision and nodes.node_of(machine, self.nodes) is None
        ]

    def _starts(self, machine: Machine) -> bool:
        """Not ready, but not fallen silent either."""
        node = nodes.node_of(machine, self.nodes)
        return node is None or not (nodes.is_ready(node) or nodes.is_silent(node))

    def supposed(self, settings: Settings) -> Supposed:
        """The cluster as it will be when what is on its way has come. Nodes that have just come are described too."""
        found = Supposed()
        for group, machine in self.upcoming(settings):
            template, there = self.template(group)
            node = nodes.fresh(template, machine.node or machine.provider_id)
            found.add.append((node, _on(there, name_of(node))))
            found.remove.append(name_of(node))
        for group in self.groups:
            for machine in group.machines:
                node_now = nodes.node_of(machine, self.nodes)
                young = self.now - machine.created < FRESH_SECONDS
                if (
                    young
                    and node_now is not None
                    and nodes.is_ready(node_now)
                    and nodes.mark_of(node_now, nodes.TO_BE_DELETED) is None
                ):
                    there = [each for each in self.pods_on(machine.node) if not podlib.is_terminal(each)]
                    found.add.append((nodes.fresh(node_now), there or _on(self.template(group)[1], machine.node)))
                    found.remove.append(machine.node)
        return found


def _on(pods: Iterable[Obj], node: str) -> list[Obj]:
    """Pods that are the same everywhere, each with an identity of its own."""
    return [{**each, "metadata": {**each["metadata"], "uid": f"{node}/{each['metadata']['uid']}"}} for each in pods]


def is_waiting(pod: Obj, settings: Settings) -> bool:
    """Whether a pod waits for a node that is not there: the scheduler has said so, nobody makes room for it, and it is worth a machine."""
    if podlib.node_of(pod) or is_deleting(pod) or podlib.is_terminal(pod) or daemons.is_daemon(pod):
        return False
    said = get_condition(pod, "PodScheduled") or {}
    if said.get("status") != "False" or said.get("reason") != "Unschedulable":
        return False
    return not status_of(pod).get("nominatedNodeName") and int(spec_of(pod).get("priority") or 0) >= settings.expendable_priority


def age(pod: Obj, now: float) -> float:
    """Seconds since it was made."""
    made = creation_of(pod)
    return now - made.timestamp() if made is not None else float("inf")
