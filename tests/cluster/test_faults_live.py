"""What a cluster shows of itself, and that what dies comes back. On a cluster of this module's own: others would not enjoy it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeling.cluster.pytest_plugin import ClusterHandle

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("cluster-faults")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterHandle]:
    folder = tmp_path_factory.mktemp("faults")
    handle = ClusterHandle("faults", folder / "home", folder / "kubeconfig")
    handle.up("--workers=2", f"--owner={os.getpid()}")
    yield handle
    handle.down()


def eventually(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true value of `what`; the test fails with the last one after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"still {value!r} after {seconds} s")
        time.sleep(0.05)


def daemon(cluster: ClusterHandle, node: str, name: str) -> dict[str, Any]:
    return next(d for d in cluster.status()["daemons"] if d["node"] == node and d["daemon"] == name)


def test_status_shows_real_processes_of_the_host(cluster: ClusterHandle) -> None:
    found = json.loads(cluster.cli("status", "--json").stdout)
    running = [d for d in found["daemons"] if d["state"] == "running"]
    assert {"etcdlite", "apiserver", "kubelet", "crilite"} <= {d["daemon"] for d in running}
    for entry in running:
        line = Path(f"/proc/{entry['pid']}/cmdline").read_bytes()
        assert line.startswith(f"kubeling-{entry['daemon']} [{entry['node']}]".encode())
        assert entry["pss_kib"] > 0
    assert found["leaders"]["kube-scheduler"].startswith("control-plane-1_")
    assert found["ready_nodes"] == {"worker-1": "Ready", "worker-2": "Ready"}
    shown = cluster.cli("status").stdout
    assert "leader" in shown
    assert "PSS" in shown


def test_nodes_have_a_world_of_their_own(cluster: ClusterHandle) -> None:
    nodes = {n["name"]: n for n in cluster.status()["nodes"]}
    for kind in ("net", "mnt", "pid", "uts", "ipc"):
        seen = {os.readlink(f"/proc/{n['pid']}/ns/{kind}") for n in nodes.values()} | {os.readlink(f"/proc/self/ns/{kind}")}
        assert len(seen) == len(nodes) + 1, kind
    status = Path(f"/proc/{nodes['worker-1']['pid']}/status").read_text()
    assert [line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:")] == ["1"]


def test_a_killed_daemon_is_started_again(cluster: ClusterHandle) -> None:
    before = daemon(cluster, "control-plane-1", "scheduler")
    assert cluster.faults.kill("control-plane-1", "scheduler") == before["pid"]
    after = eventually(lambda: (now := daemon(cluster, "control-plane-1", "scheduler"))["pid"] not in (0, before["pid"]) and now)
    assert after["restarts"] == before["restarts"] + 1
    assert after["last_exit"] == "killed by SIGKILL"


def test_a_killed_apiserver_serves_the_host_again(cluster: ClusterHandle) -> None:
    cluster.faults.kill("control-plane-1", "apiserver")
    eventually(lambda: cluster.kubectl("get", "--raw", "/readyz", check=False).stdout == "ok")


def test_a_killed_zygote_costs_no_daemon(cluster: ClusterHandle) -> None:
    before = cluster.status()
    zygote = next(own["pid"] for own in before["own"] if own["name"] == "zygote")
    os.kill(zygote, 9)
    eventually(lambda: next(o["pid"] for o in cluster.status()["own"] if o["name"] == "zygote") not in (0, zygote))
    alive = {(d["node"], d["daemon"]): d["pid"] for d in cluster.status()["daemons"]}
    for entry in before["daemons"]:
        # Only what runs on the host itself ends with the zygote, and is started again by the next.
        if entry["state"] == "running" and entry["daemon"] != "cloud":
            assert alive[entry["node"], entry["daemon"]] == entry["pid"]
    # The next zygote starts what the first had started, and the end of what the first had started is seen.
    old = daemon(cluster, "control-plane-1", "dns")
    cluster.faults.kill("control-plane-1", "dns")
    eventually(lambda: daemon(cluster, "control-plane-1", "dns")["pid"] not in (0, old["pid"]))


def test_a_node_loses_power_and_boots_again(cluster: ClusterHandle) -> None:
    before = next(n for n in cluster.status()["nodes"] if n["name"] == "worker-2")
    pids = [d["pid"] for d in cluster.status()["daemons"] if d["node"] == "worker-2"]
    cluster.cli("node", "stop", "worker-2")
    assert not any(Path(f"/proc/{pid}").exists() for pid in [before["pid"], *pids])
    assert "stopped" in cluster.cli("node", "list").stdout
    assert "runs already" in cluster.cli("node", "start", "worker-1", check=False).stderr
    cluster.cli("node", "start", "worker-2")
    cluster.kubectl("wait", "--for=condition=Ready", "node/worker-2", "--timeout=30s")
    after = next(n for n in cluster.status()["nodes"] if n["name"] == "worker-2")
    assert after["boots"] == before["boots"] + 1


def test_a_node_whose_init_dies_boots_by_itself(cluster: ClusterHandle) -> None:
    before = next(n for n in cluster.status()["nodes"] if n["name"] == "worker-2")
    os.kill(before["pid"], 9)
    eventually(
        lambda: (
            (n := next(n for n in cluster.status()["nodes"] if n["name"] == "worker-2"))["state"] == "running"
            and n["pid"] not in (0, before["pid"])
        )
    )


def test_nodes_are_added_and_removed(cluster: ClusterHandle) -> None:
    assert "worker-3" in cluster.cli("node", "add").stdout
    eventually(lambda: cluster.kubectl("get", "node", "worker-3", check=False).returncode == 0)
    cluster.kubectl("wait", "--for=condition=Ready", "node/worker-3", "--timeout=30s")
    cluster.cli("node", "remove", "worker-3")
    assert cluster.nodes == ["control-plane-1", "worker-1", "worker-2"]
    assert not (cluster.root / "nodes" / "worker-3").exists()
    assert cluster.kubectl("get", "node", "worker-3", check=False).returncode != 0
    assert "cannot be removed" in cluster.cli("node", "remove", "control-plane-1", check=False).stderr


def test_cables_are_cut_and_mended(cluster: ClusterHandle) -> None:
    faults = cluster.faults

    def reaches(source: str, target: str) -> bool:
        nodes = {n["name"]: n for n in cluster.status()["nodes"]}
        from kubeling.linux import netns

        sock = netns.make_socket(f"/proc/{nodes[source]['pid']}/ns/net")
        with sock:
            sock.settimeout(1.0)
            return sock.connect_ex((nodes[target]["address"], 6443 if target.startswith("control") else 10250)) == 0

    assert reaches("worker-1", "worker-2")
    faults.partition(["worker-1"], ["worker-2"])
    assert not reaches("worker-1", "worker-2")
    assert reaches("worker-1", "control-plane-1")
    faults.heal()
    assert reaches("worker-1", "worker-2")
    faults.isolate("worker-1")
    assert not reaches("worker-1", "control-plane-1")
    faults.rejoin("worker-1")
    eventually(lambda: reaches("worker-1", "control-plane-1"))


def test_logs_are_found_by_name(cluster: ClusterHandle) -> None:
    assert "serving" in cluster.cli("logs", "apiserver").stdout
    both = cluster.cli("logs", "kubeproxy", "--tail=2").stdout
    assert "worker-1-kubeproxy: " in both
    assert cluster.cli("logs", "worker-1/kubelet", "--tail=1").stdout.count("\n") == 1
