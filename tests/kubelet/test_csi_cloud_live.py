"""deploy/csi-cloud, end to end: a volume of the local cloud moves from node to node with its pod."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kubeling.api.resources import CSI_NODES, NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES

from .conftest import FOREVER, Obj, Pods, shell
from .test_csi_live import MOUNT, claim, gone, until, using, volume_of

HERE = Path(__file__).resolve().parents[2] / "deploy" / "csi-cloud"
DRIVER = "cloud.csi.kubeling.dev"
pytestmark = pytest.mark.xdist_group("cluster")


async def test_a_volume_moves_with_its_pod_grows_and_is_taken_back(pods: Pods) -> None:
    command = [sys.executable, str(HERE / "manifest.py"), "--cluster", pods.cluster.name]
    made = subprocess.run(command, env=pods.cluster.env, capture_output=True, check=True, text=True)
    pods.cluster.kubectl("apply", "-f", "-", input=made.stdout)
    client, disks = pods.client, pods.cluster.root / "cloud"
    first, second = [each["metadata"]["name"] for each in (await client.list(NODES))["items"]][:2]

    def on(node: str) -> Obj:
        return {"nodeSelector": {"kubernetes.io/hostname": node}, **using("data")}

    async def everywhere() -> bool:
        found = [await client.get(CSI_NODES, each) for each in (first, second)]
        return all(DRIVER in [one["name"] for one in each["spec"].get("drivers") or ()] for each in found)

    await claim(pods, "data", storage_class="csi-cloud")
    await until(everywhere, "every node has the driver", 120)
    await pods.run("writer", shell(f"echo here > /data/file; {FOREVER}", volumeMounts=MOUNT), **on(first))
    await pods.ready("writer", 120)
    volume = await volume_of(pods, "data")
    handle = volume["spec"]["csi"]["volumeHandle"]
    assert (disks / "volumes" / handle / "file").read_text() == "here\n"
    assert [each.name for each in (disks / "machines" / first).iterdir()] == [handle]

    # The next pod is on the other node; the volume is taken from the one before it comes there, and grows on its way.
    bigger = {"spec": {"resources": {"requests": {"storage": "20Mi"}}}}
    await client.patch(PERSISTENT_VOLUME_CLAIMS, "data", bigger, pods.namespace)
    await pods.run("reader", shell(f"cat /data/file; {FOREVER}", volumeMounts=MOUNT), **on(second))
    await pods.delete("writer")
    await pods.logged("reader", "here\n", 120)
    assert not (disks / "machines" / first).exists()

    async def grown() -> bool:
        found = await client.get(PERSISTENT_VOLUME_CLAIMS, "data", pods.namespace)
        return found["status"]["capacity"]["storage"] == "20Mi" and not found["status"].get("conditions")

    await until(grown, "the claim shows its new size", 120)
    await pods.delete("reader")
    await pods.gone("reader", 60)
    await client.delete(PERSISTENT_VOLUME_CLAIMS, "data", pods.namespace)
    await gone(client, PERSISTENT_VOLUMES, volume["metadata"]["name"])
    assert not (disks / "volumes" / handle).exists()
    assert not (disks / "machines" / second).exists()
