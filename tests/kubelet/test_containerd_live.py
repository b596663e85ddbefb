"""The same kubelet on real containerd."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.slow, pytest.mark.xdist_group("containerd")]


def remove_cgroups(name: str) -> None:
    for tree in Path("/sys/fs/cgroup").iterdir():
        for folder, _, _ in os.walk(tree / name.strip("/"), topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces with a real runtime in them need root")
@pytest.mark.skipif(not all(map(shutil.which, ("containerd", "runc", "ctr", "busybox"))), reason="containerd is not installed")
def test_pods_on_containerd(tmp_path: Path) -> None:
    cgroup = f"/kubelet-test-{os.getpid()}"
    script = Path(__file__).with_name("containerd_node.py")
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    try:
        done = subprocess.run(
            [*command, sys.executable, str(script), str(tmp_path), cgroup],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        logs = (
            ""
            if done.returncode == 0
            else "\n".join((tmp_path / f"{name}.log").read_text()[-3000:] for name in ("kubelet", "containerd"))
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
        assert done.stdout.count("ok: ") == 6, done.stdout
    finally:
        remove_cgroups(cgroup)
