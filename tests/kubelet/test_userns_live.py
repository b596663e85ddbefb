"""Pods with `hostUsers: false`: root in the pod is nobody on the node."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeling.api.pods import container_status, is_ready
from kubeling.kubelet import userns

from .conftest import FOREVER, Pods, shell

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.xdist_group("cluster")]

NODE = "worker-1"
VOLUMES = [
    {"name": "own", "emptyDir": {}},
    {"name": "memory", "emptyDir": {"medium": "Memory"}},
    {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
]
MOUNTS = [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in VOLUMES]


async def test_pods_have_users_of_their_own(pods: Pods) -> None:
    await pods.secret("keys", word="secret")
    for name in ("one", "two"):
        await pods.run(name, shell(FOREVER, volumeMounts=MOUNTS), nodeName=NODE, hostUsers=False, volumes=VOLUMES)
    ranges = set()
    for name in ("one", "two"):
        before = await pods.ready(name)
        inside, outside, length = (int(each) for each in (await pods.exec(name, "cat", "/proc/self/uid_map")).split())
        assert (inside, length) == (0, userns.LENGTH)
        ranges.add(outside)
        # Its volumes are its own, and what nobody else may read it can.
        script = "touch /own/x /memory/x && stat -c %u /own /own/x /memory/x /keys/..data/word && cat /keys/word"
        assert (await pods.exec(name, "sh", "-c", script)).split() == ["0", "0", "0", "0", "secret"]
    assert len(ranges) == 2
    assert all(first >= userns.LENGTH and first % userns.LENGTH == 0 for first in ranges)
    # A new kubelet gives the next container the same ids.
    pods.cluster.faults.kill(NODE, "kubelet")
    await pods.reachable("two")
    await pods.exec("two", "sh", "-c", "kill -TERM 1", check=False)
    restarted = (container_status(before, "c") or {})["restartCount"]
    await pods.until("two", lambda pod: is_ready(pod) and (container_status(pod, "c") or {})["restartCount"] > restarted, 40)
    assert int((await pods.exec("two", "cat", "/proc/self/uid_map")).split()[1]) == outside
    await pods.run("plain", shell(FOREVER), nodeName=NODE)
    await pods.ready("plain")
    assert (await pods.exec("plain", "cat", "/proc/self/uid_map")).split()[1] == "0"


def test_ids_are_kept_and_run_out(tmp_path: Path) -> None:
    assert userns.ids_of(tmp_path, "a", 2) == userns.LENGTH
    assert userns.ids_of(tmp_path, "b", 2) == 2 * userns.LENGTH
    assert userns.ids_of(tmp_path, "a", 2) == userns.LENGTH
    with pytest.raises(userns.UserNamespaceProblem):
        userns.ids_of(tmp_path, "c", 2)
    # A torn file is as good as none, and what a pod that is gone had is free.
    (tmp_path / "a" / "userns").write_text("{")
    assert userns.ids_of(tmp_path, "c", 2) == userns.LENGTH
