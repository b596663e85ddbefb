"""A cluster's life from up to down, in good order and in bad: nothing may stay behind, and what goes wrong is said in one line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kubeling.cluster import state
from kubeling.cluster.pytest_plugin import ClusterHandle

from .conftest import Leftovers, UserCluster

pytestmark = pytest.mark.live


def supervisor(cluster: ClusterHandle) -> int:
    found = state.load(cluster.root)
    assert found is not None
    assert found.supervisor is not None
    return found.supervisor.pid


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The complaint of a command that failed: exactly one line."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def until_gone(pids: list[int], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if state.process_start(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def test_up_stop_up_down(own_cluster: ClusterHandle) -> None:
    """The whole life: contexts come and go, a second `up` is refused, the disks survive the supervisor's SIGTERM, and in the end nothing is left."""
    own_cluster.kubeconfig.write_text("current-context: other\ncontexts:\n- {name: other, context: {cluster: c, user: u}}\n")
    said = own_cluster.cli("up", f"--name={own_cluster.name}").stdout
    assert " ✓ nodes Ready" in said
    assert " ✓ DNS answers" in said
    left = Leftovers(own_cluster)
    left.remember()
    assert own_cluster.kubectl("config", "current-context").stdout.strip() == f"kubeling-{own_cluster.name}"
    assert "runs already" in one_line(own_cluster.cli("up", check=False))
    own_cluster.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    port = own_cluster.server
    os.kill(supervisor(own_cluster), signal.SIGTERM)
    until_gone(left.processes(), 20)
    assert "stopped" in own_cluster.cli("list").stdout
    assert "does not answer" in one_line(own_cluster.cli("status", check=False))
    own_cluster.cli("up")
    assert own_cluster.server == port
    assert own_cluster.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}").stdout == "b"
    left.remember()
    own_cluster.cli("down")
    assert left.everything() == []
    assert "current-context: other" in own_cluster.kubeconfig.read_text()
    assert not own_cluster.home.exists()


def test_down_after_the_supervisor_was_killed(own_cluster: ClusterHandle) -> None:
    own_cluster.cli("up")
    left = Leftovers(own_cluster)
    processes = left.processes()
    left.remember()
    assert len(processes) > 4
    os.kill(supervisor(own_cluster), signal.SIGKILL)
    until_gone(processes)
    assert "dead" in own_cluster.cli("list").stdout
    own_cluster.cli("down")
    assert left.everything() == []


def test_up_after_the_supervisor_was_killed(own_cluster: ClusterHandle) -> None:
    """Not only removable: a power failure costs nothing that was acknowledged."""
    own_cluster.cli("up")
    own_cluster.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    os.kill(supervisor(own_cluster), signal.SIGKILL)
    own_cluster.cli("up")
    assert own_cluster.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}").stdout == "b"


def test_down_of_a_supervisor_that_hangs_and_of_damaged_files(own_cluster: ClusterHandle) -> None:
    own_cluster.cli("up", "--no-wait")
    left = Leftovers(own_cluster)
    left.remember()
    (own_cluster.root / "control.sock").unlink()
    own_cluster.cli("down")
    assert left.everything() == []
    own_cluster.root.mkdir(parents=True)
    (own_cluster.root / "state.json").write_text("{")
    assert "is damaged" in one_line(own_cluster.cli("up", check=False))
    own_cluster.cli("down")
    (own_cluster.root / "nodes").mkdir(parents=True)
    assert "half removed" in one_line(own_cluster.cli("up", check=False))
    own_cluster.cli("down")
    assert left.everything() == []


def test_an_ordinary_user(user_cluster: UserCluster) -> None:
    """The same, in a user namespace; and the user's `down` leaves nothing, with and without a supervisor."""
    left = Leftovers(user_cluster)
    for deadly in (False, True):
        user_cluster.cli("up")
        processes = left.processes()
        left.remember()
        assert all(os.stat(f"/proc/{pid}").st_uid == user_cluster.UID for pid in processes)
        assert '"worker-1": "Ready"' in user_cluster.cli("status", "--json").stdout
        user_cluster.kubectl("run", "p", "--image=kubeling.local/host", "--command", "--", "sleep", "1000")
        user_cluster.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
        if not deadly:
            backup = user_cluster.root.parent / "backup.db"
            user_cluster.cli("etcd", "snapshot", "save", str(backup))
            assert user_cluster.cli("etcd", "snapshot", "status", str(backup)).stdout.endswith(" B\n")
            backup.unlink()
        if deadly:
            os.kill(supervisor(user_cluster), signal.SIGKILL)
            until_gone(processes)
        user_cluster.cli("down")
        assert left.everything() == []


def test_host_mode_leaves_no_process(own_cluster: ClusterHandle) -> None:
    """Without namespaces nothing but care holds the processes together."""
    left = Leftovers(own_cluster)
    own_cluster.cli("up", "--network=host")
    processes = left.processes()
    found = state.load(own_cluster.root)
    assert found is not None
    os.kill(supervisor(own_cluster), signal.SIGKILL)
    until_gone(processes)
    own_cluster.cli("down")
    assert left.everything() == []
    assert not Path(found.run).exists()


def test_the_cluster_of_a_killed_owner_goes_by_itself(own_cluster: ClusterHandle) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        own_cluster.cli("up", "--no-wait", f"--owner={owner.pid}")
        left = Leftovers(own_cluster)
        left.remember()
        pid = supervisor(own_cluster)
        owner.kill()
    until_gone([pid], 10)
    # The user's kubeconfig is not the supervisor's business.
    assert [entry for entry in left.everything() if "context" not in entry] == []


@pytest.mark.parametrize("fate", ["os._exit(9)", "exec('raise OSError(28, \\'No space left on device\\')')"])
def test_an_up_that_does_not_get_far_leaves_nothing(own_cluster: ClusterHandle, fate: str) -> None:
    """Killed, or failed, while it makes the certificates: the supervisor runs already, and has made the nodes."""
    program = (
        "import os\n"
        "from kubeling.cluster import launch, topology\n"
        f"launch.make_identities = lambda _: {fate}\n"
        f"launch.up(topology.ClusterSpec({own_cluster.name!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=own_cluster.env, check=False, timeout=30, capture_output=True)
    assert done.returncode != 0
    left = Leftovers(own_cluster)
    deadline = time.monotonic() + 10
    while left.everything():
        assert time.monotonic() < deadline, left.everything()
        time.sleep(0.05)


def test_a_port_in_use_is_said(own_cluster: ClusterHandle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = one_line(own_cluster.cli("up", f"--api-port={port}", check=False))
    assert f"port {port} of 127.0.0.1 is in use" in words
    assert "--api-port" in words
    assert not own_cluster.home.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give up rights")
def test_no_right_to_make_namespaces_is_said(own_cluster: ClusterHandle) -> None:
    """As in a container without privileges: root, but without the capability."""
    bounded = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    command = [*bounded, sys.executable, "-P", "-m", "kubeling.cli", "up"]
    done = subprocess.run(command, env=own_cluster.env, capture_output=True, text=True, check=False, timeout=30)
    words = one_line(done)
    assert "no right to make namespaces" in words
    assert "--network=host" in words
    assert not own_cluster.home.exists()


def test_what_cannot_be_is_refused_in_one_line(own_cluster: ClusterHandle) -> None:
    for args, words in (
        (("--control-planes=2",), "1 or 3"),
        (("--workers=-1",), "0 to"),
        (("--network=bridge",), "netns or host"),
        (("--runtime=docker",), "unix:///path"),
        (("--runtime=unix:///nowhere.sock",), "no socket"),
        (("--name=Not_A_Name",), "cannot be used"),
    ):
        assert words in one_line(own_cluster.cli("up", *args, check=False))
    assert "there is no cluster" in one_line(own_cluster.cli("down", check=False))
    assert "there is no cluster" in one_line(own_cluster.cli("status", check=False))
    assert not own_cluster.home.exists()


def test_three_control_planes_lose_one(own_cluster: ClusterHandle) -> None:
    """The host's port is shared by three apiservers: one that is gone gets no connections, and comes back when its node boots again."""
    own_cluster.cli("up", "--control-planes=3", "--workers=0")
    leaders = [d["node"] for d in own_cluster.status()["daemons"] if d.get("leader")]
    assert len(leaders) == 1
    own_cluster.cli("node", "stop", leaders[0])
    own_cluster.kubectl("create", "configmap", "made-without", "--request-timeout=20s")
    for _ in range(12):
        assert own_cluster.kubectl("get", "--raw", "/livez", "--request-timeout=5s").stdout == "ok"
    own_cluster.cli("node", "start", leaders[0])
    deadline = time.monotonic() + 30
    while not all(d["health"] in ("ok", "") for d in own_cluster.status()["daemons"]):
        assert time.monotonic() < deadline, own_cluster.status()["daemons"]
        time.sleep(0.1)


def test_two_clusters_side_by_side(own_cluster: ClusterHandle, tmp_path: Path) -> None:
    other = ClusterHandle(f"{own_cluster.name}-b", own_cluster.home, own_cluster.kubeconfig)
    try:
        own_cluster.cli("up", f"--name={own_cluster.name}", "--workers=0")
        other.cli("up", f"--name={other.name}", "--workers=0")
        assert own_cluster.server != other.server
        addresses = {json.loads((c.root / "state.json").read_bytes())["spec"]["loopback"] for c in (own_cluster, other)}
        assert len(addresses) == 2
        own_cluster.cli("down", f"--name={own_cluster.name}")
        assert other.kubectl("get", "--raw", "/readyz").stdout == "ok"
    finally:
        other.down()
    assert Leftovers(other).everything() == []
