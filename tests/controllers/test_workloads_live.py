"""DaemonSets, Jobs, StatefulSets and what goes with them against a real apiserver, with pods whose status the test writes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeling.api.resources import (
    CRON_JOBS,
    DAEMON_SETS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    JOBS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
)
from kubeling.api.times import format_time
from kubeling.client.rest import Client

pytestmark = pytest.mark.live
Obj = dict[str, Any]


def daemon_node(pod: Obj) -> str:
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return str(terms[0]["matchFields"][0]["values"][0])


async def test_daemonset_places_and_updates(tools: Any, client: Client, namespace: str, manager: Any, hollow: Any) -> None:
    manager("--controllers=daemonset,serviceaccount")
    names = [f"{namespace}-{each}" for each in "abc"]
    for name in names:
        labels = {"pool": namespace}
        await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    try:
        template = {
            "metadata": {"labels": {"app": "d"}},
            "spec": {"nodeSelector": {"pool": namespace}, "containers": [{"name": "c", "image": "d:1"}]},
        }
        spec = {"selector": {"matchLabels": {"app": "d"}}, "template": template}
        await client.create(
            DAEMON_SETS, {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d"}, "spec": spec}, namespace
        )

        async def settled() -> Obj | None:
            found = await client.get(DAEMON_SETS, "d", namespace)
            status = found.get("status") or {}
            counts = [status.get(each) for each in ("desiredNumberScheduled", "numberAvailable", "updatedNumberScheduled")]
            wanted = len(names)
            return found if counts == [wanted] * 3 and status["observedGeneration"] == found["metadata"]["generation"] else None

        await tools.until(settled, "a pod on each node")
        pods = (await client.list(PODS, namespace))["items"]
        assert Counter(map(daemon_node, pods)) == dict.fromkeys(names, 1)
        keys = {each["key"] for each in pods[0]["spec"]["tolerations"]}
        assert {"node.kubernetes.io/unschedulable", "node.kubernetes.io/disk-pressure"} <= keys

        most_missing = 0

        def watch(change: Any) -> None:
            nonlocal most_missing
            up = [each for each in hollow.informer.store if ready(each)]
            most_missing = max(most_missing, len(names) - len(up))

        hollow.informer.add_handler(watch)
        new = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "d:2"}]}}}}
        await client.patch(DAEMON_SETS, "d", new, namespace)
        await tools.until(settled, "updated one by one")
        assert most_missing == 1
        images = {each["spec"]["containers"][0]["image"] for each in (await client.list(PODS, namespace))["items"]}
        assert images == {"d:2"}

        # A taint that it does not tolerate drives it away; so does a node that goes.
        taint = {"key": "example.com/keep-off", "effect": "NoExecute"}
        await client.patch(NODES, names[0], {"spec": {"taints": [taint]}})
        await client.delete(NODES, names[1])

        async def one_left() -> bool:
            found = (await client.get(DAEMON_SETS, "d", namespace))["status"]
            return bool(found["desiredNumberScheduled"] == 1)

        await tools.until(one_left, "one node is left for it")

        async def off() -> bool:
            return names[0] not in {daemon_node(each) for each in (await client.list(PODS, namespace))["items"]}

        await tools.until(off, "its pod left the tainted node")
    finally:
        await client.delete(DAEMON_SETS, "d", namespace)
        for name in (names[0], names[2]):
            await client.delete(NODES, name)


def ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    up = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return up and not pod["metadata"].get("deletionTimestamp")


def job(name: str, **spec: Any) -> Obj:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template, **spec}}


def conditions(found: Obj) -> dict[str, str]:
    return {
        each["type"]: each.get("reason", "")
        for each in (found.get("status") or {}).get("conditions") or ()
        if each["status"] == "True"
    }


async def test_jobs(tools: Any, client: Client, namespace: str, manager: Any, hollow: Any) -> None:
    manager("--controllers=job,ttl-after-finished,serviceaccount,garbagecollector")
    await tools.until(lambda: client.get(SERVICE_ACCOUNTS, "default", namespace), "the account")
    hollow.fate = lambda pod: {"good": "Succeeded", "bad": "Failed"}.get(pod["spec"]["containers"][0]["image"], "Running")
    most = 0

    def watch(change: Any) -> None:
        nonlocal most
        most = max(
            most, sum(1 for each in hollow.informer.store if (each.get("status") or {}).get("phase") in ("Pending", "Running"))
        )

    hollow.informer.add_handler(watch)
    done = job("done", completions=7, parallelism=2)
    done["spec"]["template"]["spec"]["containers"][0]["image"] = "good"
    await client.create(JOBS, done, namespace)

    async def complete(name: str = "done") -> Obj | None:
        found = await client.get(JOBS, name, namespace)
        return found if "Complete" in conditions(found) else None

    found = await tools.until(complete, "it is complete")
    assert found["status"]["succeeded"] == 7
    assert most <= 2
    assert not (found["status"].get("uncountedTerminatedPods") or {}).get("succeeded")
    pods = (await client.list(PODS, namespace))["items"]
    assert len(pods) == 7
    assert not any(each["metadata"].get("finalizers") for each in pods)

    indexed = job("indexed", completions=3, parallelism=3, completionMode="Indexed", ttlSecondsAfterFinished=0)
    indexed["spec"]["template"]["spec"]["containers"][0]["image"] = "later"
    await client.create(JOBS, indexed, namespace)

    async def running() -> list[Obj]:
        found = (await client.list(PODS, namespace, label_selector="job-name=indexed"))["items"]
        return found if len(found) == 3 and all(each["status"].get("phase") == "Running" for each in found) else []

    pods = await tools.until(running, "three pods run")
    assert sorted(each["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] for each in pods) == ["0", "1", "2"]
    await client.patch(JOBS, "indexed", {"spec": {"suspend": True}}, namespace)

    async def suspended() -> bool:
        found = await client.get(JOBS, "indexed", namespace)
        return (
            "Suspended" in conditions(found)
            and not (await client.list(PODS, namespace, label_selector="job-name=indexed"))["items"]
        )

    await tools.until(suspended, "suspended, and its pods are gone")
    hollow.fate = lambda pod: "Failed" if pod["spec"]["containers"][0]["image"] == "bad" else "Succeeded"
    await client.patch(JOBS, "indexed", {"spec": {"suspend": False}}, namespace)

    async def gone() -> bool:
        return not [each for each in (await client.list(JOBS, namespace))["items"] if each["metadata"]["name"] == "indexed"]

    await tools.until(gone, "resumed, finished and cleaned up after its TTL")

    bad = job("bad", completions=1, backoffLimit=0)
    bad["spec"]["template"]["spec"]["containers"][0]["image"] = "bad"
    await client.create(JOBS, bad, namespace)

    async def failed() -> Obj | None:
        found = await client.get(JOBS, "bad", namespace)
        return found if conditions(found).get("Failed") == "BackoffLimitExceeded" else None

    found = await tools.until(failed, "it has failed")
    assert found["status"]["failed"] == 1

    hollow.fate = lambda pod: "Running"
    await client.create(JOBS, job("slow", activeDeadlineSeconds=1), namespace)

    async def too_slow() -> bool:
        return conditions(await client.get(JOBS, "slow", namespace)).get("Failed") == "DeadlineExceeded"

    await tools.until(too_slow, "its deadline is over")
    # A Job that is deleted at once lets its pods go, though they were never counted.
    await client.create(JOBS, job("short"), namespace)

    async def short_pods() -> list[Obj]:
        return list((await client.list(PODS, namespace, label_selector="job-name=short"))["items"])

    await tools.until(short_pods, "its pod is there")
    await client.delete(JOBS, "short", namespace, propagation_policy="Background")

    async def none_left() -> bool:
        return not await short_pods()

    await tools.until(none_left, "its pod goes")


async def test_statefulset_is_ordered_and_updates_by_partition(
    tools: Any, client: Client, namespace: str, manager: Any, hollow: Any
) -> None:
    manager("--controllers=statefulset,disruption,cronjob,endpointslicemirroring,serviceaccount")
    await tools.until(lambda: client.get(SERVICE_ACCOUNTS, "default", namespace), "the account")
    order: list[str] = []
    early: list[str] = []

    def watch(change: Any) -> None:
        if change.type == "add":
            order.append(change.new["metadata"]["name"])
            number = int(change.new["metadata"]["name"].rpartition("-")[2])
            below = {f"s-{each}" for each in range(number)}
            up = {each["metadata"]["name"] for each in hollow.informer.store if ready(each)}
            if not below <= up:
                early.append(change.new["metadata"]["name"])

    labels = {"app": "s"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "s:1"}]}}
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    spec = {
        "replicas": 3,
        "serviceName": "s",
        "selector": {"matchLabels": labels},
        "template": template,
        "volumeClaimTemplates": [claim],
        "updateStrategy": strategy,
    }
    hollow.informer.add_handler(watch)
    await client.create(
        STATEFUL_SETS, {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}, "spec": spec}, namespace
    )
    budget = {"selector": {"matchLabels": labels}, "maxUnavailable": 1}
    body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": budget}
    await client.create(POD_DISRUPTION_BUDGETS, body, namespace)

    async def available(count: int, updated: int) -> bool:
        found = await client.get(STATEFUL_SETS, "s", namespace)
        status = found["status"]
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        counts = (status.get("replicas"), status.get("availableReplicas"), status.get("updatedReplicas"))
        return current and counts == (count, count, updated)

    await tools.until(lambda: available(3, 3), "three in order")
    assert order[:3] == ["s-0", "s-1", "s-2"]
    assert not early
    claims = [each["metadata"]["name"] for each in (await client.list(PERSISTENT_VOLUME_CLAIMS, namespace))["items"]]
    assert sorted(claims) == ["data-s-0", "data-s-1", "data-s-2"]

    async def budget_says(allowed: int, healthy: int) -> bool:
        status = (await client.get(POD_DISRUPTION_BUDGETS, "b", namespace))["status"]
        return (status.get("disruptionsAllowed"), status.get("currentHealthy"), status.get("expectedPods")) == (
            allowed,
            healthy,
            3,
        )

    await tools.until(lambda: budget_says(1, 3), "one may be evicted")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "s-1", "namespace": namespace}}
    await client.create(PODS, eviction, namespace, name="s-1", subresource="eviction")
    await tools.until(lambda: available(3, 3), "it is back")
    await tools.until(lambda: budget_says(1, 3), "and the budget is whole again")

    new = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "s:2"}]}}}}
    await client.patch(STATEFUL_SETS, "s", new, namespace)
    await tools.until(lambda: available(3, 1), "the canary above the partition")

    async def images() -> list[str]:
        pods = (await client.list(PODS, namespace, label_selector="app=s"))["items"]
        return [each["spec"]["containers"][0]["image"] for each in sorted(pods, key=lambda each: each["metadata"]["name"])]

    assert await images() == ["s:1", "s:1", "s:2"]
    await client.patch(STATEFUL_SETS, "s", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}, namespace)
    await tools.until(lambda: available(3, 3), "all of them")
    assert await images() == ["s:2"] * 3
    await client.patch(STATEFUL_SETS, "s", {"spec": {"replicas": 1}}, namespace)
    await tools.until(lambda: available(1, 1), "only the first is left")
    assert (await client.get(PODS, "s-0", namespace))["metadata"]["name"] == "s-0"

    # While it is up: a CronJob that was due a minute ago starts its Job at once, and Endpoints without a selector are mirrored.
    cron = {"schedule": "* * * * *", "jobTemplate": {"spec": job("x")["spec"]}}
    body = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": cron}
    made = await client.create(CRON_JOBS, body, namespace)
    past = format_time(datetime.now(UTC) - timedelta(seconds=70))
    await client.patch(CRON_JOBS, "c", {"status": {"lastScheduleTime": past}}, namespace, subresource="status")

    async def job_started() -> bool:
        jobs = (await client.list(JOBS, namespace))["items"]
        return any(each["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"] for each in jobs)

    await tools.until(job_started, "a Job for the minute that passed")
    await client.create(
        SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "m"}, "spec": {"ports": [{"port": 80}]}}, namespace
    )
    subset = {"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 8080}]}
    await client.create(
        ENDPOINTS, {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "m"}, "subsets": [subset]}, namespace
    )

    async def mirrored() -> bool:
        found = (await client.list(ENDPOINT_SLICES, namespace, label_selector="kubernetes.io/service-name=m"))["items"]
        return [each["endpoints"][0]["addresses"] for each in found] == [["192.0.2.7"]]

    await tools.until(mirrored, "a slice says the same")
