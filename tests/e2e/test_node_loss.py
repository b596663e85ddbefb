"""A node loses its power: its pods move after their tolerations end, and what comes back is cleaned up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kubeling.cluster.pytest_plugin import ClusterHandle
from kubeling.tests.e2e.support import Bench

pytestmark = [pytest.mark.live, pytest.mark.slow]


@pytest.fixture
def spare(kubeling_cluster: ClusterHandle) -> Iterator[str]:
    """A worker of its own, so that nobody else's pods are on it."""
    before = set(kubeling_cluster.nodes)
    kubeling_cluster.cli("node", "add", "--name", kubeling_cluster.name)
    (name,) = set(kubeling_cluster.nodes) - before
    try:
        kubeling_cluster.cli("wait", "--for=create", f"node/{name}", "--timeout=30s")
        kubeling_cluster.cli("taint", "node", name, "spare=yes:NoSchedule")
        yield name
    finally:
        kubeling_cluster.cli("node", "remove", name, "--name", kubeling_cluster.name)


def deployment(prefer: str, seconds: int) -> dict[str, Any]:
    preferred = {
        "weight": 100,
        "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [prefer]}]},
    }
    labels = {"app": "mover"}
    tolerations = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
        for key in ("unreachable", "not-ready")
    ]
    tolerations.append({"key": "spare", "operator": "Exists", "effect": "NoSchedule"})
    spec = {
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}},
        "tolerations": tolerations,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "kubeling.local/host", "command": ["sleep", "10000"]}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mover"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


def ready_on(bench: Bench) -> list[str]:
    """The nodes of the pods that are Ready and not on their way out."""
    found = []
    for pod in bench.pods("app=mover"):
        conditions = {each["type"]: each["status"] for each in (pod.get("status") or {}).get("conditions") or []}
        if conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp"):
            found.append(pod["spec"]["nodeName"])
    return found


def node_ready(bench: Bench, name: str) -> str:
    conditions = (bench.get("node", name).get("status") or {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == "Ready"), "")


def test_a_node_without_power(bench: Bench, spare: str) -> None:
    bench.until("the spare node is Ready", lambda: node_ready(bench, spare) == "True", 30)
    bench.apply(deployment(spare, seconds=2))
    bench.until("both pods run on the spare node", lambda: ready_on(bench) == [spare, spare], 60)
    bench.cluster.faults.stop_node(spare)
    bench.until("the node is seen to be away", lambda: node_ready(bench, spare) == "Unknown", 90)
    bench.until("the pods run elsewhere", lambda: len(ready_on(bench)) == 2 and spare not in ready_on(bench), 60)
    bench.cluster.faults.start_node(spare)
    bench.until("the node is back", lambda: node_ready(bench, spare) == "True", 60)
    bench.until(
        "the stale pods are gone", lambda: not [pod for pod in bench.pods("app=mover") if pod["spec"]["nodeName"] == spare], 60
    )
    taints = (bench.get("node", spare).get("spec") or {}).get("taints") or []
    assert not [taint for taint in taints if "unreachable" in taint["key"]]
