"""Autoscalers between autoscaling/v1 and v2: nothing is lost on the way there and back."""

from __future__ import annotations

import json
from typing import Any

from kubeling.api.autoscalers import to_v1, to_v2

CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
OTHERS: list[dict[str, Any]] = [
    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
    {
        "type": "ContainerResource",
        "containerResource": {"name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 60}},
    },
    {
        "type": "Pods",
        "pods": {
            "metric": {"name": "packets", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "1k"},
        },
    },
    {
        "type": "Object",
        "object": {
            "metric": {"name": "requests"},
            "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"},
            "target": {"type": "Value", "value": "10k"},
        },
    },
    {
        "type": "External",
        "external": {
            "metric": {"name": "queue", "selector": {"matchLabels": {"q": "x"}}},
            "target": {"type": "AverageValue", "averageValue": "30"},
        },
    },
]
STORED: dict[str, Any] = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "x", "annotations": {"mine": "too"}},
    "spec": {
        "maxReplicas": 3,
        "metrics": [*OTHERS, CPU],
        "behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}},
    },
    "status": {
        "desiredReplicas": 2,
        "currentMetrics": [
            {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40, "averageValue": "4m"}}}
        ],
        "conditions": [{"type": "AbleToScale", "status": "True"}],
    },
}


def test_there_and_back() -> None:
    assert to_v2(to_v1(STORED)) == STORED


def test_v1_says_the_rest_in_annotations_of_its_own_shapes() -> None:
    old = to_v1(STORED)
    assert old["spec"] == {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}
    assert old["status"] == {"desiredReplicas": 2, "currentCPUUtilizationPercentage": 40}
    notes = {key.rpartition("/")[2]: value for key, value in old["metadata"]["annotations"].items()}
    assert notes.pop("mine") == "too"
    metrics = json.loads(notes["metrics"])
    assert metrics[0] == {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}}
    assert metrics[3]["object"]["target"] == {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"}
    assert metrics[4]["external"]["metricSelector"] == {"matchLabels": {"q": "x"}}
    behavior = {"ScaleDown": {"Policies": [{"Type": "Pods", "Value": 1, "PeriodSeconds": 60}]}}
    assert json.loads(notes["behavior"]) == behavior
    assert json.loads(notes["conditions"]) == STORED["status"]["conditions"]
    assert json.loads(notes["current-metrics"])[0]["resource"]["currentAverageUtilization"] == 40


def test_annotations_that_are_none_are_dropped() -> None:
    notes = {"metrics": "[", "behavior": "[]", "current-metrics": '[1,{"type":"Odd"}]', "conditions": "{}"}
    annotations = {f"autoscaling.alpha.kubernetes.io/{key}": value for key, value in notes.items()}
    made = {
        "metadata": {"annotations": annotations},
        "spec": {"targetCPUUtilizationPercentage": 80},
        "status": {"currentCPUUtilizationPercentage": 70},
    }
    found = to_v2(made)
    assert found["metadata"] == {}
    assert found["spec"]["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 80}
    assert found["status"]["currentMetrics"][0]["resource"]["current"] == {"averageUtilization": 70}
