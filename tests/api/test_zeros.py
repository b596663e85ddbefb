"""Zero values that say nothing do not come back, as from Go's encoder; those that count do."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api import builtin
from kubeling.api.zeros import drop_zeros


def kept(api_version: str, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    drop_zeros(builtin.schema_of(api_version, kind), obj)
    return obj


@pytest.mark.parametrize(
    ("api_version", "kind", "status", "shown"),
    [
        (
            "apps/v1",
            "Deployment",
            {"replicas": 0, "updatedReplicas": 0, "readyReplicas": 0, "availableReplicas": 0, "unavailableReplicas": 0},
            {},
        ),
        (
            "apps/v1",
            "ReplicaSet",
            {"replicas": 0, "fullyLabeledReplicas": 0, "readyReplicas": 0, "availableReplicas": 0},
            {"replicas": 0},
        ),
        (
            "apps/v1",
            "StatefulSet",
            {"replicas": 0, "readyReplicas": 0, "currentReplicas": 0, "updatedReplicas": 0, "availableReplicas": 0},
            {"replicas": 0, "availableReplicas": 0},
        ),
        (
            "apps/v1",
            "DaemonSet",
            {
                "currentNumberScheduled": 0,
                "desiredNumberScheduled": 0,
                "numberMisscheduled": 0,
                "numberReady": 0,
                "numberAvailable": 0,
                "numberUnavailable": 0,
                "updatedNumberScheduled": 0,
            },
            {"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0},
        ),
        (
            "batch/v1",
            "Job",
            {"active": 0, "succeeded": 0, "failed": 0, "ready": 0, "terminating": 0},
            {"ready": 0, "terminating": 0},
        ),
        ("autoscaling/v2", "HorizontalPodAutoscaler", {"currentReplicas": 0, "desiredReplicas": 0}, {"desiredReplicas": 0}),
    ],
)
def test_a_counter_at_zero_is_shown_as_upstream_shows_it(
    api_version: str, kind: str, status: dict[str, int], shown: dict[str, int]
) -> None:
    assert kept(api_version, kind, {"status": status}) == {"status": shown}


def test_what_is_nested_is_looked_through() -> None:
    pod = {
        "metadata": {"name": "a", "namespace": "", "annotations": {"empty": ""}, "finalizers": [""]},
        "spec": {
            "hostNetwork": False,
            "automountServiceAccountToken": False,
            "securityContext": {},
            "containers": [{"name": "", "env": [{"name": "A", "value": ""}], "resources": {}, "tty": False}],
            "volumes": [{"name": "v", "emptyDir": {"medium": ""}}],
        },
    }
    assert kept("v1", "Pod", pod) == {
        "metadata": {"name": "a", "annotations": {"empty": ""}, "finalizers": [""]},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {},
            "containers": [{"name": "", "env": [{"name": "A"}], "resources": {}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    }


def test_schemas_in_definitions_are_looked_through_and_what_they_hold_is_not() -> None:
    inner = {"type": "object", "nullable": False, "default": {"a": 0}, "items": {"uniqueItems": False}}
    schema: dict[str, Any] = {"openAPIV3Schema": {"properties": {"a": inner}}}
    definition = {"spec": {"preserveUnknownFields": False, "versions": [{"name": "v1", "served": False, "schema": schema}]}}
    found = kept("apiextensions.k8s.io/v1", "CustomResourceDefinition", definition)
    assert found["spec"] == {"versions": [{"name": "v1", "served": False, "schema": schema}]}
    assert inner == {"type": "object", "default": {"a": 0}, "items": {}}
