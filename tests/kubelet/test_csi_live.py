"""CSI, end to end: the driver of deploy/csi-hostpath as pods of the shared cluster, called by our kubelet, our controllers and its sidecars."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeling.api.errors import ApiError
from kubeling.api.pods import is_ready
from kubeling.api.resources import (
    CSI_NODES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTACHMENTS,
    Resource,
)
from kubeling.client.rest import Client
from kubeling.cluster.pytest_plugin import ClusterHandle

from .conftest import FOREVER, Obj, Pods, shell

DRIVER = "hostpath.csi.kubeling.dev"
SNAPSHOTS = Resource("snapshot.storage.k8s.io", "v1", "volumesnapshots", "VolumeSnapshot")
CONTENTS = Resource("snapshot.storage.k8s.io", "v1", "volumesnapshotcontents", "VolumeSnapshotContent", namespaced=False)
HERE = Path(__file__).resolve().parents[2] / "deploy" / "csi-hostpath"
# One kills kubelets, and those of the shared cluster are what other tests of the group look at.
pytestmark = pytest.mark.xdist_group("cluster")


async def until(check: Callable[[], Awaitable[Any]], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    found: Any = None
    while time.monotonic() < deadline:
        try:
            found = await check()
        except ApiError as error:
            if error.code != 404:
                raise
            found = None
        if found:
            return found
        await asyncio.sleep(0.1)
    return pytest.fail(f"not within {seconds} s: {what}")


async def gone(client: Client, resource: Resource, name: str, namespace: str | None = None) -> None:
    async def check() -> bool:
        try:
            await client.get(resource, name, namespace)
        except ApiError as error:
            return error.code == 404
        return False

    await until(check, f"{resource.plural} {name} is gone")


@pytest.fixture(scope="module")
def manifest(kubeling_cluster: ClusterHandle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver, deployed by its one manifest. It stays: the cluster ends with the run."""
    environment = {**os.environ, "KUBELING_HOME": str(kubeling_cluster.home)}
    made = subprocess.run(
        [sys.executable, str(HERE / "manifest.py"), "--cluster", kubeling_cluster.name],
        env=environment,
        capture_output=True,
        check=True,
    )
    path = tmp_path_factory.mktemp("csi") / "manifest.yaml"
    path.write_bytes(made.stdout)
    kubeling_cluster.kubectl("apply", "-f", str(path))
    return path


@pytest.fixture
async def driver(manifest: Path, pods: Pods) -> Client:
    nodes = [each["metadata"]["name"] for each in (await pods.client.list(NODES))["items"]]

    async def everywhere() -> bool:
        for node in nodes:
            found = await pods.client.get(CSI_NODES, node)
            if DRIVER not in [each["name"] for each in found["spec"].get("drivers") or ()]:
                return False
        return True

    await until(everywhere, "every node has the driver", 120)
    return pods.client


async def claim(pods: Pods, name: str, size: str = "10Mi", storage_class: str = "csi-hostpath", **more: Any) -> None:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": size}},
        **more,
    }
    await pods.make(PERSISTENT_VOLUME_CLAIMS, name, spec=spec)


async def volume_of(pods: Pods, name: str) -> Obj:
    found = await pods.client.get(PERSISTENT_VOLUME_CLAIMS, name, pods.namespace)
    return await pods.client.get(PERSISTENT_VOLUMES, found["spec"]["volumeName"])


def using(name: str) -> dict[str, Any]:
    return {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]}


MOUNT = [{"name": "v", "mountPath": "/data"}]


def disk(pods: Pods, node: str, kind: str, handle: str) -> Path:
    """Where the driver keeps a volume, or a snapshot."""
    return pods.cluster.root / "nodes" / node / "csi-hostpath" / kind / handle


async def test_a_volume_is_made_attached_grown_measured_and_taken_back(pods: Pods, driver: Client) -> None:
    await claim(pods, "data")
    script = f"date > /data/day; stat -c %g /data > /data/group; {FOREVER}"
    security = {"runAsUser": 1000, "fsGroup": 2000}
    await pods.run("writer", shell(script, volumeMounts=MOUNT), securityContext=security, **using("data"))
    pod = await pods.ready("writer", 120)
    node, uid = pod["spec"]["nodeName"], pod["metadata"]["uid"]
    volume = await volume_of(pods, "data")
    handle = volume["spec"]["csi"]["volumeHandle"]
    kept = disk(pods, node, "volumes", handle)

    async def written() -> bool:
        return kept.joinpath("group").exists() and kept.joinpath("group").read_text() == "2000\n"

    await until(written, "the pod has written as its group", 20)
    attached = [each["name"] for each in (await driver.get(NODES, node))["status"].get("volumesAttached") or ()]
    assert attached == [f"kubernetes.io/csi/{DRIVER}^{handle}"]

    # The kubelet is killed: the pod goes on, and the volume is taken back by the next one.
    pods.cluster.faults.kill(node, "kubelet")
    await driver.patch(
        PERSISTENT_VOLUME_CLAIMS, "data", {"spec": {"resources": {"requests": {"storage": "20Mi"}}}}, pods.namespace
    )

    async def grown() -> bool:
        found = await driver.get(PERSISTENT_VOLUME_CLAIMS, "data", pods.namespace)
        return found["status"]["capacity"]["storage"] == "20Mi" and not found["status"].get("conditions")

    await until(grown, "the claim shows its new size", 120)
    assert json.loads(kept.with_suffix(".json").read_text())["size"] == 20 << 20

    async def measured() -> Obj | None:
        path = f"/api/v1/nodes/{node}/proxy/stats/summary"
        summary = json.loads(await driver.request_bytes("GET", path))
        found = [each for each in summary["pods"] if each["podRef"]["uid"] == uid]
        return next((each for each in found[0].get("volume") or () if each["name"] == "v"), None) if found else None

    stats = await until(measured, "the summary shows the volume")
    assert stats["capacityBytes"] == 20 << 20
    assert stats["pvcRef"] == {"name": "data", "namespace": pods.namespace}

    metrics = (await driver.request_bytes("GET", f"/api/v1/nodes/{node}/proxy/metrics")).decode()
    labels = f'{{namespace="{pods.namespace}",persistentvolumeclaim="data"}}'
    assert f"kubelet_volume_stats_capacity_bytes{labels} {20 << 20}" in metrics

    before = await pods.get("writer")
    assert is_ready(before)
    assert before["status"]["containerStatuses"][0]["restartCount"] == 0
    await pods.delete("writer")
    await pods.gone("writer", 60)

    async def detached() -> bool:
        listed = await driver.list(VOLUME_ATTACHMENTS)
        named = volume["metadata"]["name"]
        return all(each["spec"]["source"].get("persistentVolumeName") != named for each in listed["items"])

    await until(detached, "the volume is attached to no node")
    staged = pods.cluster.root / "nodes" / node / "kubelet" / "plugins" / "kubernetes.io" / "csi" / DRIVER
    assert list(staged.iterdir()) == []
    assert kept.joinpath("day").exists()
    await driver.delete(PERSISTENT_VOLUME_CLAIMS, "data", pods.namespace)
    await gone(driver, PERSISTENT_VOLUMES, volume["metadata"]["name"])
    assert not kept.exists()


async def test_a_snapshot_is_taken_and_restored_and_a_volume_cloned(pods: Pods, driver: Client) -> None:
    await claim(pods, "origin")
    await pods.run("first", shell("echo one > /data/file", volumeMounts=MOUNT), restartPolicy="Never", **using("origin"))
    await pods.phase("first", "Succeeded", 120)
    await pods.make(SNAPSHOTS, "snap", spec={"source": {"persistentVolumeClaimName": "origin"}})

    async def ready() -> Obj | None:
        found = await driver.get(SNAPSHOTS, "snap", pods.namespace)
        return found if (found.get("status") or {}).get("readyToUse") else None

    taken = await until(ready, "the snapshot can be used")
    assert taken["status"]["restoreSize"] == "10Mi"
    content = await driver.get(CONTENTS, taken["status"]["boundVolumeSnapshotContentName"])
    await pods.delete("first")
    await pods.gone("first", 60)
    await pods.run("second", shell("echo two > /data/file", volumeMounts=MOUNT), restartPolicy="Never", **using("origin"))
    node = (await pods.phase("second", "Succeeded", 120))["spec"]["nodeName"]
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "snap"}
    await claim(pods, "restored", storage_class="csi-hostpath-immediate", dataSource=source)
    clone = {"kind": "PersistentVolumeClaim", "name": "origin"}
    await claim(pods, "cloned", storage_class="csi-hostpath-immediate", dataSource=clone)
    for name, said in (("restored", "one\n"), ("cloned", "two\n")):
        await pods.run(f"reads-{name}", shell("cat /data/file", volumeMounts=MOUNT), restartPolicy="Never", **using(name))
        found = await pods.phase(f"reads-{name}", "Succeeded", 120)
        assert await pods.log(f"reads-{name}") == said
        assert found["spec"]["nodeName"] == node
    copy = disk(pods, node, "snapshots", content["status"]["snapshotHandle"])
    assert copy.joinpath("file").read_text() == "one\n"
    await driver.delete(SNAPSHOTS, "snap", pods.namespace)
    await gone(driver, SNAPSHOTS, "snap", pods.namespace)
    await gone(driver, CONTENTS, content["metadata"]["name"])
    assert not copy.exists()


async def test_an_inline_volume_lives_as_long_as_its_pod(pods: Pods, driver: Client) -> None:
    volumes = [{"name": "v", "csi": {"driver": DRIVER}}]
    await pods.run("inline", shell(f"echo here > /data/file; {FOREVER}", volumeMounts=MOUNT), volumes=volumes)
    pod = await pods.ready("inline", 120)
    folder = disk(pods, pod["spec"]["nodeName"], "volumes", "")
    here = [
        each
        for each in folder.iterdir()
        if each.is_dir() and (each / "file").exists() and (each / "file").read_text() == "here\n"
    ]
    assert len(here) == 1
    await pods.delete("inline")
    await pods.gone("inline", 60)
    assert not here[0].exists()


@pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="this machine has no loop devices")
async def test_a_block_volume_is_a_device_of_its_container(pods: Pods, driver: Client) -> None:
    await claim(pods, "raw", "8Mi", volumeMode="Block")
    devices = [{"name": "v", "devicePath": "/dev/raw"}]
    script = (
        f"test -b /dev/raw && printf written | dd of=/dev/raw conv=fsync 2>/dev/null && blockdev --getsize64 /dev/raw; {FOREVER}"
    )
    await pods.run("writer", shell(script, volumeDevices=devices), **using("raw"))
    pod = await pods.ready("writer", 120)
    assert (await pods.logged("writer", "\n")).strip() == str(8 << 20)
    handle = (await volume_of(pods, "raw"))["spec"]["csi"]["volumeHandle"]
    image = disk(pods, pod["spec"]["nodeName"], "volumes", f"{handle}.img")
    assert image.read_bytes().startswith(b"written")
    await pods.delete("writer")
    await pods.gone("writer", 60)
    await pods.run("reader", shell("head -c 7 /dev/raw", volumeDevices=devices), restartPolicy="Never", **using("raw"))
    await pods.phase("reader", "Succeeded", 120)
    assert (await pods.log("reader")).strip() == "written"
    await pods.delete("reader")
    await pods.gone("reader", 60)

    # The node lets go of a volume's device after the last pod with it is gone.
    async def free() -> bool:
        used = [each.read_text().strip() for each in Path("/sys/block").glob("loop*/loop/backing_file")]
        return not [each for each in used if handle in each]

    await until(free, "no loop device is left behind")


async def test_kubelets_and_drivers_that_die_leave_nothing_behind(pods: Pods, driver: Client) -> None:
    """Pods with a volume come and go while the kubelets, the drivers and the controllers are killed at moments from a seed."""
    dice = random.Random(int(os.environ.get("KUBELING_CSI_SEED", "7")))
    nodes = [each["metadata"]["name"] for each in (await driver.list(NODES))["items"]]
    inline = {"name": "i", "csi": {"driver": DRIVER}}
    mounts = [*MOUNT, {"name": "i", "mountPath": "/inline"}]
    for number in range(4):
        await claim(pods, f"c{number}")
    handles = set()
    for turn in range(2):
        for number in range(4):
            volumes = [*using(f"c{number}")["volumes"], inline]
            await pods.run(f"p{turn}-{number}", shell(f"echo x >> /data/turns; {FOREVER}", volumeMounts=mounts), volumes=volumes)
        for _ in range(2):
            await asyncio.sleep(dice.uniform(0.2, 1.2))
            match dice.randrange(4):
                case 0:
                    listed = (await driver.list(PODS, "csi-hostpath"))["items"]
                    one = dice.choice(sorted(each["metadata"]["name"] for each in listed))
                    with contextlib.suppress(ApiError):
                        await driver.delete(PODS, one, "csi-hostpath", grace_period_seconds=1)
                case 1:
                    pods.cluster.faults.kill("control-plane-1", "controllers")
                case _:
                    pods.cluster.faults.kill(dice.choice(nodes), "kubelet")
        for number in range(4):
            if dice.random() < 0.7:
                await pods.ready(f"p{turn}-{number}", 120)
                handles.add((await volume_of(pods, f"c{number}"))["spec"]["csi"]["volumeHandle"])
            await pods.delete(f"p{turn}-{number}")
        pods.cluster.faults.kill(dice.choice(nodes), "kubelet")
        for number in range(4):
            await pods.gone(f"p{turn}-{number}", 120)
    for number in range(4):
        await driver.delete(PERSISTENT_VOLUME_CLAIMS, f"c{number}", pods.namespace)

    async def nothing_left() -> bool:
        volumes = [each for each in (await driver.list(PERSISTENT_VOLUMES))["items"] if each["spec"].get("csi")]
        ours = [each for each in volumes if each["spec"]["claimRef"]["namespace"] == pods.namespace]
        attached = [
            each["name"] for node in (await driver.list(NODES))["items"] for each in node["status"].get("volumesAttached") or ()
        ]
        return not ours and not any(handle in name for handle in handles for name in attached)

    await until(nothing_left, "no volume and no attachment is left", 120)
    for node in nodes:
        staged = pods.cluster.root / "nodes" / node / "kubelet" / "plugins" / "kubernetes.io" / "csi" / DRIVER
        assert not staged.exists() or list(staged.iterdir()) == []
        left = {each.stem for each in disk(pods, node, "volumes", "").iterdir()}
        assert not left & handles
    assert handles


async def test_a_pod_waits_for_its_driver_and_says_so(pods: Pods, driver: Client) -> None:
    volumes = [{"name": "v", "csi": {"driver": "nobody.example"}}]
    await pods.run("waits", shell(FOREVER, volumeMounts=MOUNT), volumes=volumes)
    assert "nobody.example" in await pods.event("waits", "FailedMount", 60)
    listed = await driver.list(PODS, pods.namespace)
    assert [each["status"]["phase"] for each in listed["items"]] == ["Pending"]
    await pods.delete("waits")
    await pods.gone("waits", 60)


def test_the_manifest_is_one_file_of_objects() -> None:
    objects = list(yaml.safe_load_all((HERE / "csi-hostpath.yaml").read_text()))
    assert {"DaemonSet", "CSIDriver", "StorageClass", "CustomResourceDefinition"} <= {each["kind"] for each in objects}
