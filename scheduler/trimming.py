"""What the scheduler keeps of a pod: all of its spec, and of its status what scheduling asks for. How containers do, and at which addresses, is none of its business."""

from __future__ import annotations

from typing import Any

_DROPPED = (
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
    "podIP",
    "podIPs",
    "hostIP",
    "hostIPs",
)
#: The conditions that are asked for: why a pod was not placed, and whether it makes way for another.
_CONDITIONS = frozenset({"PodScheduled", "DisruptionTarget"})


def trimmed(pod: dict[str, Any]) -> dict[str, Any]:
    """The same pod, without the rest."""
    status = pod.get("status")
    if status:
        for each in _DROPPED:
            status.pop(each, None)
        if conditions := status.get("conditions"):
            status["conditions"] = [each for each in conditions if each.get("type") in _CONDITIONS]
    return pod
