"""The scheduler keeps of a pod's status what scheduling asks for."""

from __future__ import annotations

from kubeling.scheduler.trimming import trimmed


def test_what_is_kept_of_a_status() -> None:
    conditions = [{"type": each, "status": "True"} for each in ("PodScheduled", "Ready", "DisruptionTarget")]
    kept = {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "nominatedNodeName": "n"}
    pod = {"spec": {"a": 1}, "status": {**kept, "podIP": "10.0.0.1", "containerStatuses": [{}], "conditions": conditions}}
    assert trimmed(pod) == {"spec": {"a": 1}, "status": {**kept, "conditions": [conditions[0], conditions[2]]}}
    assert trimmed({"spec": {}}) == {"spec": {}}
