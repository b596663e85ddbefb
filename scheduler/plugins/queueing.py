"""Plugins of the queue: whose turn it is, and who may not enter at all."""

from __future__ import annotations

from typing import Any

from kubeling.scheduler.nodeinfo import Obj
from kubeling.scheduler.plugin import Plugin
from kubeling.scheduler.queue import QueuedPod
from kubeling.scheduler.types import Rejection


class PrioritySort(Plugin):
    """The higher priority first, then the one that waits longer."""

    name = "PrioritySort"

    def sort_key(self, queued: QueuedPod) -> Any:
        return (-queued.priority, queued.since)


class SchedulingGates(Plugin):
    """A pod with scheduling gates is not tried (KEP-3521)."""

    name = "SchedulingGates"
    cured_by = frozenset()

    def pre_enqueue(self, pod: Obj) -> Rejection | None:
        gates = [gate.get("name", "") for gate in (pod.get("spec") or {}).get("schedulingGates") or []]
        return Rejection.of(f"waiting for scheduling gates: [{' '.join(gates)}]") if gates else None
