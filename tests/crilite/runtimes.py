"""Another runtime in the same kind of node: containerd with runc and Debian's CNI plugins, spoken to by the same client."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.crilite.conftest import Node, children

_PLUGINS = Path("/usr/lib/cni")
_CONFIG = """
version = 2
root = "{root}/data"
state = "{root}/run"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{root}/cri.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stats_collect_period = 1
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{root}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def missing() -> str:
    """What containerd lacks here, in words."""
    absent = [name for name in ("containerd", "runc", "ctr") if shutil.which(name) is None]
    absent += [f"{_PLUGINS}/{name}" for name in ("ptp", "host-local", "loopback") if not (_PLUGINS / name).exists()]
    return f"not installed: {', '.join(absent)}" if absent else ""


class ContainerdNode(Node):
    """`image` is the name of a local image in `archive`, which its pause containers are made of."""

    def __init__(self, folder: Path, name: str, archive: Path, image: str) -> None:
        super().__init__(folder, name)
        self._archive, self._image = archive, image

    def start(self) -> None:
        folder = self.folder
        (folder / "net.d").mkdir()
        (folder / "config.toml").write_text(_CONFIG.format(root=folder, image=self._image, plugins=_PLUGINS))
        ipam = {"type": "host-local", "dataDir": str(folder / "ipam"), "ranges": [[{"subnet": "10.244.8.0/24"}]]}
        plugins = [{"type": "ptp", "ipam": {**ipam, "routes": [{"dst": "0.0.0.0/0"}]}}]
        (folder / "net.d" / "1.conflist").write_text(json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}))
        with open(folder / "daemon.log", "ab") as log:
            command = self.inside(shutil.which("containerd") or "containerd", "-c", str(folder / "config.toml"))
            self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        load = ["ctr", "-a", str(self.socket), "-n", "k8s.io", "images", "import", str(self._archive)]
        deadline = time.monotonic() + 60
        while (done := subprocess.run(load, capture_output=True, text=True, check=False)).returncode:
            assert time.monotonic() < deadline, f"{done.stderr}\n{(folder / 'daemon.log').read_text()[-2000:]}"
            time.sleep(0.1)

    def close(self) -> None:
        if self.daemon is not None:
            for pid in children(self.daemon.pid):
                os.kill(pid, signal.SIGTERM)
            self.daemon.wait(30)
        super().close()
