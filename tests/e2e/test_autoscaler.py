"""Machines come for a Deployment that does not fit and go with it; what runs on a machine that goes moves, as its budget allows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeling.cluster.control import Control
from kubeling.cluster.pytest_plugin import ClusterHandle
from kubeling.cluster.state import ClusterError
from kubeling.tests.e2e.support import Bench

pytestmark = [pytest.mark.live, pytest.mark.slow]
Obj = dict[str, Any]

CONFIGURATION = {
    "groups": [{"name": "small", "min": 0, "max": 2, "cpu": 1, "labels": {"size": "small"}, "zone": "a"}],
    "autoscaler": {
        "scale-down-unneeded-time": "1s",
        "scale-down-delay-after-add": "1s",
        "scale-down-delay-after-failure": "1s",
    },
}


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterHandle]:
    folder = tmp_path_factory.mktemp("elastic")
    (folder / "groups.yaml").write_text(json.dumps(CONFIGURATION))
    handle = ClusterHandle(f"elastic-{os.getpid()}", folder / "home", folder / "kubeconfig")
    handle.up("--workers=1", f"--autoscale={folder / 'groups.yaml'}", f"--owner={os.getpid()}")
    try:
        yield handle
    finally:
        handle.down()


def deployment(name: str, cpu: str, **spec: Any) -> Obj:
    container = {
        "name": "main",
        "image": "kubeling.local/host",
        "command": ["sleep", "100000"],
        "resources": {"requests": {"cpu": cpu}},
    }
    pod = {"terminationGracePeriodSeconds": 0, "nodeSelector": {"size": "small"}, "containers": [container], **spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }


def test_machines_come_and_go(elastic: ClusterHandle) -> None:
    bench = Bench(elastic, "default")
    root: Path = elastic.root

    def running(app: str) -> list[str]:
        pods = [each for each in bench.pods(f"app={app}") if not each["metadata"].get("deletionTimestamp")]
        ready = [each for each in pods if (each["status"].get("phase")) == "Running"]
        return sorted(each["spec"]["nodeName"] for each in ready)

    def workers() -> list[str]:
        return sorted(each["metadata"]["name"] for each in bench.get("node")["items"])

    # What runs on every machine keeps none.
    agent = deployment("agent", "50m")
    agent["kind"] = "DaemonSet"
    del agent["spec"]["replicas"]
    bench.apply(agent)
    bench.apply(deployment("web", "600m"))
    bench.until("two machines came, and the pods run there", lambda: running("web") == ["worker-2", "worker-3"])
    said = elastic.cli("get", "events").stdout
    assert "pod triggered scale-up: [{small 0->" in said
    node = bench.get("node", "worker-2")
    assert node["spec"]["providerID"].startswith(f"kubeling://{elastic.name}/worker-2/")
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "a"
    assert node["status"]["allocatable"]["cpu"] == "1"

    # One on each machine; when one of these goes, both may be on the other.
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": {"app": "keep"}},
    }
    bench.apply(deployment("keep", "100m", topologySpreadConstraints=[spread]))
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "keep"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "keep"}}},
    }
    bench.apply(budget)
    bench.until("one on each", lambda: running("keep") == ["worker-2", "worker-3"])

    fewest: list[int] = []

    def one_machine_less() -> bool:
        fewest.append(len(running("keep")))
        return len(workers()) == 2 and fewest[-1] == 2

    bench.cli("delete", "deployment", "web", "--wait=false")
    bench.until("one machine has gone, and its pod is on the other", one_machine_less)
    assert min(fewest) >= 1
    assert len(set(running("keep"))) == 1

    bench.cli("delete", "deployment", "keep", "--wait=false")
    bench.until("all machines have gone", lambda: workers() == ["worker-1"])
    bench.until(
        "and left nothing", lambda: sorted(each.name for each in (root / "nodes").iterdir()) == ["control-plane-1", "worker-1"]
    )
    assert elastic.nodes == ["control-plane-1", "worker-1"]
    assert not list((root / "pki").glob("kubelet-worker-[23].*"))

    # The supervisor itself keeps to sizes and limits, whoever asks.
    with Control(root) as control:
        assert [each["node"] for each in control.call("machines")["machines"]] == ["worker-1"]
        for before, size, says in (
            (1, 2, "has 0 machines, not 1: look again"),
            (0, 3, "its maximum is 2"),
            (0, 0, "its maximum is 2"),
        ):
            with pytest.raises(ClusterError, match=says):
                control.call("group-resize", group="small", before=before, size=size)
        with pytest.raises(ClusterError, match="no node group"):
            control.call("group-resize", group="large", before=0, size=1)
        control.call("machine-remove", machine="gone-already")
