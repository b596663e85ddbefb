"""Claims of the default storage class, end to end: scheduler, binder, provisioner and kubelet of the shared cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.resources import (
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    SERVICES,
    STATEFUL_SETS,
    STORAGE_CLASSES,
    Resource,
)

from .conftest import FOREVER, Obj, Pods, shell


async def gone(pods: Pods, resource: Resource, name: str, namespace: str | None = None, seconds: float = 30) -> None:
    async def check() -> bool:
        try:
            await pods.client.get(resource, name, namespace)
        except ApiError as error:
            return error.code == 404
        return False

    await until(check, f"{resource.plural} {name} is gone", seconds)


async def until(check: Callable[[], Awaitable[Any]], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if await check():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"not within {seconds} s: {what}")


def directory(volume: Obj) -> Path:
    return Path(volume["spec"]["local"]["path"])


async def volume_of(pods: Pods, claim: str) -> Obj:
    found = await pods.client.get(PERSISTENT_VOLUME_CLAIMS, claim, pods.namespace)
    return await pods.client.get(PERSISTENT_VOLUMES, found["spec"]["volumeName"])


async def test_a_plain_claim_outlives_its_pods_and_takes_its_files_with_it(pods: Pods) -> None:
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await pods.make(PERSISTENT_VOLUME_CLAIMS, "data", spec=asked)
    volumes = [
        {"name": "v", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": asked}}},
    ]
    mounts = [{"name": "v", "mountPath": "/data"}, {"name": "e", "mountPath": "/scratch"}]
    security = {"runAsUser": 1000, "fsGroup": 2000}
    write = shell("date > /data/day && date > /scratch/day && stat -c %g /data > /data/group", volumeMounts=mounts)
    await pods.run("writer", write, volumes=volumes, restartPolicy="Never", securityContext=security)
    await pods.phase("writer", "Succeeded", 60)
    volume, scratch = await volume_of(pods, "data"), await volume_of(pods, "writer-e")
    assert directory(volume).joinpath("group").read_text() == "2000\n"
    await pods.delete("writer")
    # The ephemeral one went with its pod.
    await gone(pods, PERSISTENT_VOLUME_CLAIMS, "writer-e", pods.namespace)
    await gone(pods, PERSISTENT_VOLUMES, scratch["metadata"]["name"], seconds=60)
    assert not directory(scratch).exists()
    read = shell("cat /data/group", volumeMounts=mounts[:1])
    await pods.run("reader", read, volumes=volumes[:1], restartPolicy="Never")
    found = await pods.phase("reader", "Succeeded", 60)
    hosts = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]
    assert hosts == [found["spec"]["nodeName"]]
    assert await pods.log("reader") == "2000\n"
    await pods.delete("reader")
    await pods.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", pods.namespace)
    await gone(pods, PERSISTENT_VOLUMES, volume["metadata"]["name"], seconds=60)
    assert not directory(volume).exists()


async def test_each_pod_of_a_stateful_set_finds_its_own_files_again(pods: Pods) -> None:
    mount = [{"name": "v", "mountPath": "/data"}]
    template = {
        "metadata": {"labels": {"app": "db"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [shell(f"hostname >> /data/names; {FOREVER}", volumeMounts=mount)],
        },
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}
    await pods.make(SERVICES, "db", spec={"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 80}]})
    await pods.make(
        STATEFUL_SETS,
        "db",
        spec={
            "replicas": 2,
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": template,
            "volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": claim}],
        },
    )
    for name in ("db-0", "db-1"):
        await pods.until(name, lambda pod: pod["status"].get("phase") == "Running", 60, missing=True)
    first = await pods.get("db-0")
    await pods.delete("db-0")
    uid = first["metadata"]["uid"]
    await pods.until(
        "db-0", lambda pod: pod["metadata"]["uid"] != uid and pod["status"].get("phase") == "Running", 60, missing=True
    )
    written = directory(await volume_of(pods, "v-db-0")) / "names"

    async def twice() -> bool:
        return written.read_text() == "db-0\ndb-0\n"

    await until(twice, "the second pod has written where the first did")
    assert (directory(await volume_of(pods, "v-db-1")) / "names").read_text() == "db-1\n"


async def test_a_local_volume_takes_its_pod_to_its_node(pods: Pods, tmp_path: Path) -> None:
    """Made by hand, as administrators do: a class without a provisioner, a volume with a node affinity, and no claim that names it."""
    name = pods.namespace
    waits = {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}
    await pods.client.create(STORAGE_CLASSES, {"metadata": {"name": name}, **waits})
    node = sorted(each["metadata"]["name"] for each in (await pods.client.list(NODES))["items"])[-1]
    folder = tmp_path / "disk"
    folder.mkdir()
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    volume = {
        "capacity": {"storage": "5Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": name,
        "persistentVolumeReclaimPolicy": "Retain",
        "local": {"path": str(folder)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
    }
    await pods.client.create(PERSISTENT_VOLUMES, {"metadata": {"name": name}, "spec": volume})
    asked = {"accessModes": ["ReadWriteOnce"], "storageClassName": name, "resources": {"requests": {"storage": "1Gi"}}}
    await pods.make(PERSISTENT_VOLUME_CLAIMS, "c", spec=asked)
    mounts = [
        {"name": "v", "mountPath": "/data", "subPathExpr": "of-$(WHO)"},
        {"name": "v", "mountPath": "/all", "readOnly": True},
    ]
    who = [{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    script = "echo here > /data/file; cat /all/of-me/file; touch /all/no 2>/dev/null || echo refused"
    claim = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    await pods.run("me", shell(script, volumeMounts=mounts, env=who), volumes=claim, restartPolicy="Never")
    found = await pods.phase("me", "Succeeded", 60)
    assert found["spec"]["nodeName"] == node
    assert (folder / "of-me" / "file").read_text() == "here\n"
    assert (await pods.log("me")).endswith("refused\n")
    await pods.delete("me")
    await pods.client.delete(PERSISTENT_VOLUME_CLAIMS, "c", pods.namespace)

    async def released() -> bool:
        return (await pods.client.get(PERSISTENT_VOLUMES, name))["status"]["phase"] == "Released"

    await until(released, "the volume is released")
    assert (folder / "of-me" / "file").exists()
    await pods.client.delete(PERSISTENT_VOLUMES, name)
    await pods.client.delete(STORAGE_CLASSES, name)


async def test_mounts_go_where_their_propagation_says(pods: Pods, tmp_path: Path) -> None:
    """One pod mounts below a folder of the node; who asked for it sees that, and the node does where it was asked for."""
    (tmp_path / "below").mkdir()
    volumes = [{"name": "v", "hostPath": {"path": str(tmp_path)}}]

    def mount(propagation: str) -> list[Obj]:
        return [{"name": "v", "mountPath": "/shared", "mountPropagation": propagation}]

    node = sorted(each["metadata"]["name"] for each in (await pods.client.list(NODES))["items"])[0]
    listener = f"until grep -q ' /shared/below ' /proc/mounts; do sleep 0.1; done; echo seen; {FOREVER}"
    deaf = f"while true; do grep ' /shared/below ' /proc/mounts && echo seen; sleep 0.1; done; {FOREVER}"
    await pods.run("hears", shell(listener, volumeMounts=mount("HostToContainer")), volumes=volumes, nodeName=node)
    await pods.run("deaf", shell(deaf, volumeMounts=mount("None")), volumes=volumes, nodeName=node)
    for name in ("hears", "deaf"):
        await pods.ready(name, 60)
    script = f"mount -t tmpfs none /shared/below && echo mounted; trap 'umount /shared/below; exit 0' TERM; while true; do sleep 0.1; done; {FOREVER}"
    privileged = {"privileged": True}
    await pods.run(
        "mounts", shell(script, volumeMounts=mount("Bidirectional"), securityContext=privileged), volumes=volumes, nodeName=node
    )
    await pods.logged("mounts", "mounted", 60)
    await pods.logged("hears", "seen", 60)
    assert await pods.log("deaf") == ""
    await pods.delete("mounts")
    await pods.gone("mounts", 60)
