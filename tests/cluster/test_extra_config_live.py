"""A cluster whose daemons are told more than usual."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubeling.cluster.pytest_plugin import ClusterHandle

pytestmark = pytest.mark.live

SCHEDULER = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: mine
"""


def test_daemons_have_what_they_are_told(own_cluster: ClusterHandle, tmp_path: Path) -> None:
    (tmp_path / "scheduler.yaml").write_text(SCHEDULER)
    own_cluster.up(
        "--extra-config=apiserver.runtime-config=api/alpha=true", f"--extra-config=scheduler.config={tmp_path}/scheduler.yaml"
    )
    (tmp_path / "scheduler.yaml").unlink()
    assert "storageversions " in own_cluster.cli("api-resources").stdout
    overrides = json.dumps({"spec": {"schedulerName": "mine"}})
    own_cluster.cli("run", "p", "--image=kubeling.local/host", f"--overrides={overrides}", "--", "sleep", "100")
    own_cluster.cli("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    # What was read once is there after the daemon's end.
    own_cluster.faults.kill("control-plane-1", "scheduler")
    own_cluster.cli("run", "q", "--image=kubeling.local/host", f"--overrides={overrides}", "--", "sleep", "100")
    own_cluster.cli("wait", "--for=condition=Ready", "pod/q", "--timeout=60s")


def test_a_flag_that_a_daemon_does_not_know_makes_no_cluster(own_cluster: ClusterHandle) -> None:
    done = own_cluster.cli("up", f"--name={own_cluster.name}", "--extra-config=apiserver.nonsense=1", check=False)
    assert done.returncode == 1
    assert done.stderr == "error: --extra-config: apiserver: unrecognized arguments: --nonsense=1\n"
    assert not own_cluster.root.exists()
