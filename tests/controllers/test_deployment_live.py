"""Deployments against a real apiserver, with pods whose status the test writes."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.api.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from kubeling.client.rest import Client

pytestmark = pytest.mark.live
Obj = dict[str, Any]


def deployment(name: str, image: str = "web:1", replicas: int = 3, **spec: Any) -> Obj:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": image}]}},
            **spec,
        },
    }


def condition(obj: Obj, kind: str) -> Obj:
    return next((each for each in obj.get("status", {}).get("conditions", []) if each["type"] == kind), {})


async def settled(client: Client, namespace: str, name: str, replicas: int) -> Obj | None:
    found = await client.get(DEPLOYMENTS, name, namespace)
    status = found.get("status", {})
    done = all(
        status.get(field, 0) == replicas for field in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    )
    return found if done and status.get("observedGeneration") == found["metadata"]["generation"] else None


async def test_rollout_undo_scale_and_history(tools: Any, client: Client, namespace: str, manager: Any, hollow: Any) -> None:
    manager("--controllers=deployment,replicaset,serviceaccount")
    body = deployment("web", revisionHistoryLimit=1)
    await client.create(DEPLOYMENTS, body, namespace)
    found = await tools.until(lambda: settled(client, namespace, "web", 3), "three replicas")
    assert condition(found, "Available")["reason"] == "MinimumReplicasAvailable"
    await tools.until(lambda: reason_is(client, namespace, "web", "NewReplicaSetAvailable"), "progress is reported")
    assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"

    await client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 7}}, namespace)
    await tools.until(lambda: settled(client, namespace, "web", 7), "scaled up")

    fewest = 7

    def up() -> int:
        return sum(is_up(pod) for pod in hollow.informer.store.in_namespace(namespace))

    def watch_pods(change: Any) -> None:
        nonlocal fewest
        fewest = min(fewest, up())

    async def seen() -> bool:
        # Our own watch may be behind the controllers'.
        return up() == 7

    await tools.until(seen, "all seven are seen to be up")

    hollow.informer.add_handler(watch_pods)
    for image in ("web:2", "web:3"):
        template = {"spec": {"containers": [{"name": "c", "image": image}]}}
        await client.patch(DEPLOYMENTS, "web", {"spec": {"template": template}}, namespace)
        await tools.until(lambda: settled(client, namespace, "web", 7), f"rolled to {image}")
    assert fewest >= 6, "25 % of 7 rounded down may be missing, no more"

    async def history() -> bool:
        sets = (await client.list(REPLICA_SETS, namespace))["items"]
        return sorted(each["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for each in sets) == ["2", "3"]

    await tools.until(history, "the history is cut to one old revision")
    old = next(
        each
        for each in (await client.list(REPLICA_SETS, namespace))["items"]
        if each["spec"]["template"]["spec"]["containers"][0]["image"] == "web:2"
    )
    template = old["spec"]["template"]
    template["metadata"]["labels"].pop("pod-template-hash")
    await client.patch(
        DEPLOYMENTS, "web", [{"op": "replace", "path": "/spec/template", "value": template}], namespace, patch_type="json"
    )
    await tools.until(lambda: settled(client, namespace, "web", 7), "rolled back")
    sets = (await client.list(REPLICA_SETS, namespace))["items"]
    back = next(each for each in sets if each["metadata"]["uid"] == old["metadata"]["uid"])
    assert back["spec"]["replicas"] == 7
    assert back["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "4"
    assert back["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "2"

    await client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 0}}, namespace)
    await tools.until(lambda: no_pods(client, namespace), "scaled to nothing")


async def test_pause_recreate_and_deadline(tools: Any, client: Client, namespace: str, manager: Any, hollow: Any) -> None:
    manager("--controllers=deployment,replicaset,serviceaccount")
    await client.create(DEPLOYMENTS, deployment("p", replicas=2, paused=True), namespace)
    await tools.until(lambda: reason_is(client, namespace, "p", "DeploymentPaused"), "it is paused")
    assert (await client.list(REPLICA_SETS, namespace))["items"] == []
    await client.patch(DEPLOYMENTS, "p", {"spec": {"paused": None}}, namespace)
    await tools.until(lambda: settled(client, namespace, "p", 2), "resumed")

    together = 0

    def count(change: Any) -> None:
        nonlocal together
        images = {
            pod["spec"]["containers"][0]["image"] for pod in hollow.informer.store if pod["metadata"]["labels"]["app"] == "r"
        }
        together = max(together, len(images))

    hollow.informer.add_handler(count)
    await client.create(DEPLOYMENTS, deployment("r", replicas=2, strategy={"type": "Recreate"}), namespace)
    await tools.until(lambda: settled(client, namespace, "r", 2), "the first revision")
    template = {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}
    await client.patch(DEPLOYMENTS, "r", {"spec": {"template": template}}, namespace)
    await tools.until(lambda: settled(client, namespace, "r", 2), "the second revision")
    assert together == 1, "with Recreate the two revisions never run together"

    hollow.fate = lambda pod: "Pending" if pod["metadata"]["labels"]["app"] == "late" else "Running"
    await client.create(DEPLOYMENTS, deployment("late", replicas=1, progressDeadlineSeconds=1), namespace)
    found = await tools.until(lambda: reason_is(client, namespace, "late", "ProgressDeadlineExceeded"), "no progress is reported")
    assert condition(found, "Progressing")["status"] == "False"


async def reason_is(client: Client, namespace: str, name: str, reason: str) -> Obj | None:
    found = await client.get(DEPLOYMENTS, name, namespace)
    return found if condition(found, "Progressing").get("reason") == reason else None


async def no_pods(client: Client, namespace: str) -> bool:
    return not (await client.list(PODS, namespace))["items"]


def is_up(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")
