"""`kubeling up --static-pods`: the control plane is pods of its node's kubelet, which heals whatever of it dies."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from kubeling.cluster import plan, state, staticpods
from kubeling.cluster.pytest_plugin import ClusterHandle
from kubeling.cluster.topology import ClusterSpec, Layout, Topology, nodes_for

CONTROL = "control-plane-1"
COMPONENTS = ("etcdlite", "apiserver", "controllers", "scheduler")


def test_a_manifest_shows_a_daemon_only_the_files_that_it_names() -> None:
    spec = ClusterSpec("x", static_pods=True)
    topology = Topology(spec, nodes_for(spec), Layout(Path("/home/me/.kubeling/x")))
    daemons = {each.name: each for each in plan.daemons(topology, topology.nodes[0])}
    assert {name for name, each in daemons.items() if each.static} == set(COMPONENTS)
    for name in COMPONENTS:
        text = json.dumps(staticpods.manifest(topology, daemons[name])["spec"]["containers"])
        assert "/home/me" not in text, "its own place is hidden from containers"
    pod = staticpods.manifest(topology, daemons["scheduler"])
    assert [each["hostPath"]["path"] for each in pod["spec"]["volumes"] if each["name"] != "package"] == [
        "/home/me/.kubeling/x/kubeconfig/control-plane-1-scheduler.conf"
    ]
    store = staticpods.manifest(topology, daemons["etcdlite"])["spec"]
    writable = [each["mountPath"] for each in store["containers"][0]["volumeMounts"] if not each["readOnly"]]
    assert writable == ["/etc/kubeling/nodes/control-plane-1/etcd"]


def test_host_mode_is_refused(own_cluster: ClusterHandle) -> None:
    done = own_cluster.cli("up", f"--name={own_cluster.name}", "--static-pods", "--network=host", check=False)
    assert done.returncode == 1
    assert "--network=netns" in done.stderr


def pods(cluster: ClusterHandle) -> dict[str, dict[str, Any]]:
    done = cluster.kubectl("get", "pods", "-n", "kube-system", "-l", "tier=control-plane", "-o", "json", check=False)
    if done.returncode != 0:
        return {}
    return {each["metadata"]["labels"]["component"]: each["status"] for each in json.loads(done.stdout)["items"]}


def healed(cluster: ClusterHandle, restarts: int, seconds: float = 240.0) -> None:
    """Wait until every component is ready and has been restarted so often at least."""
    deadline, found = time.monotonic() + seconds, {}
    while time.monotonic() < deadline:
        found = pods(cluster)
        statuses = [status["containerStatuses"][0] for status in found.values() if status.get("containerStatuses")]
        if len(statuses) == len(COMPONENTS) and all(each["ready"] and each["restartCount"] >= restarts for each in statuses):
            return
        time.sleep(0.3)
    pytest.fail(f"the control plane did not heal: {found}")


@pytest.mark.live
@pytest.mark.root
def test_the_kubelet_heals_the_control_plane(own_cluster: ClusterHandle) -> None:
    own_cluster.cli("up", f"--name={own_cluster.name}", "--static-pods", "--timeout=240", timeout=300)
    healed(own_cluster, 0)
    node = json.loads(own_cluster.kubectl("get", "node", CONTROL, "-o", "json").stdout)
    assert "node-role.kubernetes.io/control-plane" in node["metadata"]["labels"]
    assert any(each["key"] == "node-role.kubernetes.io/control-plane" for each in node["spec"]["taints"])
    own_cluster.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    for name in COMPONENTS:
        assert own_cluster.faults.kill(CONTROL, name) > 0
    healed(own_cluster, 1)
    own_cluster.kubectl("get", "configmap", "kept")
    assert "serving clients" in own_cluster.cli("logs", "etcdlite").stdout
    reported = {each["daemon"]: each for each in own_cluster.status()["daemons"] if each["node"] == CONTROL}
    assert all(reported[name]["state"] == "pod" and reported[name]["health"] == "ok" for name in COMPONENTS)
    # After the machine was switched off in good order, everything is as it was.
    found = state.load(own_cluster.root)
    assert found is not None
    assert found.supervisor is not None
    os.kill(found.supervisor.pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while "stopped" not in own_cluster.cli("list").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    own_cluster.cli("up", f"--name={own_cluster.name}", "--timeout=240", timeout=300)
    own_cluster.kubectl("get", "configmap", "kept")
    healed(own_cluster, 1)
