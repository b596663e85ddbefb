"""The end of a node in good order, and what a kubelet tells of itself."""

from __future__ import annotations

import json
import signal

import pytest

from kubeling.api.conditions import get_condition
from kubeling.api.errors import ApiError
from kubeling.api.pods import container_status

from .conftest import FOREVER, Pods, shell
from .test_eviction_live import OwnNode, own_node

__all__ = ["own_node"]

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.xdist_group("cluster")]


async def test_pods_end_before_their_node_and_critical_ones_last(pods: Pods, own_node: OwnNode) -> None:
    node = own_node.name
    own_node.configure(shutdownGracePeriod="20s", shutdownGracePeriodCriticalPods="5s")
    slow = "trap 'sleep 2; exit 0' TERM; while true; do sleep 0.1; done"
    await pods.run("plain", shell(slow), nodeName=node, terminationGracePeriodSeconds=30)
    await pods.run("vital", shell(FOREVER), nodeName=node, priorityClassName="system-cluster-critical")
    await pods.ready("plain", 40)
    await pods.ready("vital", 40)
    pods.cluster.faults.send(node, "kubelet", signal.SIGTERM)
    plain = await pods.phase("plain", "Failed", 40)
    vital = await pods.phase("vital", "Failed", 40)
    for pod in (plain, vital):
        assert pod["status"]["reason"] == "Terminated"
        assert pod["status"]["message"] == "Pod was terminated in response to imminent node shutdown."
        assert (get_condition(pod, "DisruptionTarget") or {}).get("reason") == "TerminationByKubelet"
    plain = await pods.until("plain", lambda pod: "terminated" in (container_status(pod, "c") or {}).get("state", {}), 40)
    vital = await pods.until("vital", lambda pod: "terminated" in (container_status(pod, "c") or {}).get("state", {}), 40)
    ends = [(container_status(each, "c") or {})["state"]["terminated"] for each in (plain, vital)]
    assert ends[0]["finishedAt"] <= ends[1]["finishedAt"]
    assert [each["exitCode"] for each in ends] == [0, 0]
    # Whoever comes next to a node that has come back is welcome.
    await own_node.ready(pods)
    await pods.run("next", shell(FOREVER), nodeName=node)
    await pods.ready("next", 40)


async def test_what_the_kubelet_tells_of_its_configuration_and_its_probes(pods: Pods) -> None:
    probe = {"exec": {"command": ["test", "-e", "/nothing"]}, "periodSeconds": 1}
    await pods.run("probed", shell(FOREVER, readinessProbe=probe))
    pod = await pods.until("probed", lambda found: "running" in (container_status(found, "c") or {}).get("state", {}))
    node = pod["spec"]["nodeName"]
    raw = await pods.client.request_bytes("GET", f"/api/v1/nodes/{node}/proxy/configz")
    config = json.loads(raw)["kubeletconfig"]
    assert config["evictionHard"]["nodefs.available"] == "256Mi"
    assert config["maxPods"] == 110
    wanted = f'pod="probed",pod_uid="{pod["metadata"]["uid"]}",probe_type="Readiness",result="failed"'
    path = f"/api/v1/nodes/{node}/proxy/run/{pods.namespace}/probed/c"
    assert await pods.client.request_bytes("POST", path, params={"cmd": "echo two words"}) == b"two words\n"
    with pytest.raises(ApiError, match="exited with 1"):
        await pods.client.request_bytes("POST", path, params={"cmd": "false"})
    checkpoint = f"/api/v1/nodes/{node}/proxy/checkpoint/{pods.namespace}"
    for place, why in (
        ("probed/c", f"checkpointing of {pods.namespace}/probed/c failed .*code = Unimplemented .*native"),
        ("probed/d", "container d does not exist"),
        ("other/c", "pod does not exist"),
        ("probed/c?timeout=soon", "cannot parse value of timeout parameter"),
    ):
        with pytest.raises(ApiError, match=why):
            await pods.client.request_bytes("POST", f"{checkpoint}/{place}")
    await pods.event("probed", "Unhealthy")
    text = (await pods.client.request_bytes("GET", f"/api/v1/nodes/{node}/proxy/metrics/probes")).decode()
    assert wanted in text
