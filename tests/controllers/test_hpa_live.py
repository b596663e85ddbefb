"""An autoscaler through the wire."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api.conditions import get_condition
from kubeling.api.resources import DEPLOYMENTS, EVENTS, HORIZONTAL_POD_AUTOSCALERS, PODS, REPLICA_SETS
from kubeling.client.rest import Client

pytestmark = pytest.mark.live


async def test_it_keeps_the_bounds_and_says_what_it_cannot_read(tools: Any, client: Client, namespace: str, manager: Any) -> None:
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": 7, "selector": {"matchLabels": labels}, "template": template}
    await client.create(
        DEPLOYMENTS, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}, namespace
    )
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}
    body = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "x"},
        "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5},
    }
    await client.create(HORIZONTAL_POD_AUTOSCALERS, body, namespace)
    manager("--controllers=horizontalpodautoscaler")

    async def bounded() -> bool:
        return bool((await client.get(DEPLOYMENTS, "x", namespace))["spec"]["replicas"] == 5)

    await tools.until(bounded, "it has shrunk to its maximum")

    async def unknown() -> bool:
        found = await client.get(HORIZONTAL_POD_AUTOSCALERS, "x", namespace)
        active, able = get_condition(found, "ScalingActive"), get_condition(found, "AbleToScale")
        return bool(active and able and active["reason"] == "FailedGetResourceMetric" and able["status"] == "True")

    await tools.until(unknown, "it says that it has no metrics")
    assert (await client.get(DEPLOYMENTS, "x", namespace))["spec"]["replicas"] == 5, "and does not shrink for that"

    async def told() -> bool:
        found = {each["reason"]: each["message"] for each in (await client.list(EVENTS, namespace))["items"]}
        return found.get("SuccessfulRescale") == "New size: 5; reason: Current number of replicas above Spec.MaxReplicas"

    await tools.until(told, "there is an event")


async def test_two_for_the_same_pods_do_nothing(tools: Any, client: Client, namespace: str, manager: Any) -> None:
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    made = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "x"}, "spec": spec}
    await client.create(REPLICA_SETS, made, namespace)
    manager("--controllers=horizontalpodautoscaler,replicaset,serviceaccount")

    async def has_pods() -> bool:
        return len((await client.list(PODS, namespace))["items"]) == 2

    await tools.until(has_pods, "its pods")
    for name in ("a", "b"):
        target = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x"}
        body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}}
        await client.create(HORIZONTAL_POD_AUTOSCALERS, body | {"spec": {"scaleTargetRef": target, "maxReplicas": 9}}, namespace)

    async def told() -> bool:
        found = get_condition(await client.get(HORIZONTAL_POD_AUTOSCALERS, "b", namespace), "ScalingActive")
        return found is not None and found["message"].endswith(f"multiple HPAs: [{namespace}/a {namespace}/b]")

    await tools.until(told, "the second says that there is another")
