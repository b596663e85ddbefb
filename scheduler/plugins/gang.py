"""Coscheduling: pods of one group start together or not at all. Optional: a profile has to enable it.

A group is named by the label `pod-group.scheduling.sigs.k8s.io/name`, and how many of it are needed by `…/min-available`, as the lightweight form of the
scheduler-plugins project has it. Pods that find a node wait at *permit*, holding their room, until enough of their group have found one. If that takes
too long, or one of them fails, all give their room back, so that two half-placed groups cannot block each other for ever.
"""

from __future__ import annotations

from typing import Any

from kubeling.api import pods
from kubeling.api.meta import labels_of, uid_of
from kubeling.scheduler.handle import Handle, WaitingPod
from kubeling.scheduler.nodeinfo import Obj, PodInfo
from kubeling.scheduler.plugin import Plugin
from kubeling.scheduler.queue import QueuedPod
from kubeling.scheduler.types import ClusterChange, Cycle, Rejection, Skip

NAME = "pod-group.scheduling.sigs.k8s.io/name"
MIN_AVAILABLE = "pod-group.scheduling.sigs.k8s.io/min-available"


class Coscheduling(Plugin):
    name = "Coscheduling"
    cured_by = frozenset({"pods"})

    def __init__(self, handle: Handle, seconds: float) -> None:
        self._handle, self._seconds = handle, seconds

    def sort_key(self, queued: QueuedPod) -> Any:
        """By priority, then all of a group one after the other: by the age of its oldest pod, then its name."""
        group = labels_of(queued.pod).get(NAME, "")
        if not group:
            return (-queued.priority, queued.created, "", queued.since)
        namespace = queued.pod["metadata"].get("namespace", "")
        oldest = min(
            (each["metadata"].get("creationTimestamp") or "" for each in self._members(namespace, group)), default=queued.created
        )
        return (-queued.priority, oldest, group, queued.since)

    def pre_filter(self, cycle: Cycle) -> Rejection | Skip | None:
        group, needed = _group(cycle.pod)
        there = len(self._members(cycle.pod.namespace, group)) if group else 0
        if group and there < needed:
            return Rejection.of(f"pod group {group} has {there} of the {needed} pods that it needs", unresolvable=True)
        return None

    def permit(self, cycle: Cycle, node: str) -> Rejection | float | None:
        group, needed = _group(cycle.pod)
        if not group:
            return None
        placed = sum(
            1
            for each in self._members(cycle.pod.namespace, group)
            if uid_of(each) == cycle.pod.uid or pods.node_of(each) or self._handle.is_placed(uid_of(each))
        )
        if placed < needed:
            return self._seconds
        for waiting in self._waiting(cycle.pod.namespace, group):
            waiting.allow(self.name)
        return None

    def unreserve(self, cycle: Cycle, node: str) -> None:
        group, needed = _group(cycle.pod)
        if group:
            for waiting in self._waiting(cycle.pod.namespace, group):
                if waiting.pod.uid != cycle.pod.uid:
                    waiting.reject(f"pod group {group} did not get room for {needed} pods in time")

    def hint(self, change: ClusterChange, pod: Obj) -> bool:
        mine = labels_of(pod).get(NAME)
        return bool(mine) and change.new is not None and labels_of(change.new).get(NAME) == mine

    def _members(self, namespace: str, group: str) -> list[Obj]:
        return [
            each
            for each in self._handle.pods(namespace)
            if labels_of(each).get(NAME) == group and not pods.is_terminal(each) and not each["metadata"].get("deletionTimestamp")
        ]

    def _waiting(self, namespace: str, group: str) -> list[WaitingPod]:
        return [
            each
            for each in list(self._handle.waiting.values())
            if each.pod.namespace == namespace and each.pod.labels.get(NAME) == group
        ]


def _group(pod: PodInfo) -> tuple[str, int]:
    """(name, how many are needed); no name for a pod of no group."""
    group, needed = pod.labels.get(NAME, ""), pod.labels.get(MIN_AVAILABLE, "")
    return (group, int(needed)) if group and needed.isdigit() and int(needed) > 1 else ("", 0)
