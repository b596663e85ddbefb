"""A cluster whose workers live on containerd and runc, Debian's: everything else of the node (namespaces, kubelet, kubeproxy) is as on crilite.

`kubeling up --runtime=unix:///…/containerd.sock` makes nodes that start no runtime. The kubelet needs the runtime in the node's own network, mount and PID
namespaces, so :class:`ContainerdNode` starts containerd *in* the node, once that is there, with the reference CNI plugins and an image of busybox. With the
node it ends, since its processes are of the node's PID namespace.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from kubeling.bench.node import busybox
from kubeling.cluster import state
from kubeling.cluster.control import Control
from kubeling.cluster.pytest_plugin import ClusterHandle

PLUGINS = Path("/usr/lib/cni")
#: The same name as crilite's own image has, so that the same pods run on both.
IMAGE = "kubeling.local/host:latest"
WAIT_SECONDS = 40.0
_CONFIG = """
version = 2
root = "{root}/data"
state = "{root}/state"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{root}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{root}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def missing() -> str:
    """What a node on containerd lacks here, in words; empty where it can be made."""
    if os.geteuid() != 0:
        return "containerd needs root"
    absent = [name for name in ("containerd", "runc", "ctr", "busybox", "nsenter") if shutil.which(name) is None]
    absent += [f"{PLUGINS}/{name}" for name in ("ptp", "host-local", "loopback", "portmap") if not (PLUGINS / name).exists()]
    return f"not installed: {', '.join(absent)}" if absent else ""


class ContainerdNode:
    """containerd in a worker of a cluster. `folder` must be short (it holds a socket) and is left to the caller to remove."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "containerd.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.cluster: ClusterHandle | None = None
        self.node = "worker-1"

    def up(self, cluster: ClusterHandle, *flags: str) -> None:
        """Bring the cluster up with one worker, and containerd in it."""
        self.cluster = cluster
        self.folder.mkdir(parents=True, exist_ok=True)
        # `up` wants to see a socket. Nobody listens on this one; containerd puts its own in its place.
        with socket.socket(socket.AF_UNIX) as placeholder:
            placeholder.bind(str(self.socket))
        busybox.write(self.folder / "busybox.tar", IMAGE)
        cluster.up("--workers=1", f"--runtime=unix://{self.socket}", "--no-wait", *flags)
        self.start()
        with Control(cluster.root) as control:
            for _ in control.messages("wait", timeout=WAIT_SECONDS):
                pass

    def start(self) -> None:
        """Start containerd in the node, from the same disk as before."""
        assert self.cluster is not None
        pid = init_of(self.cluster, self.node)
        self._configure()
        with open(self.folder / "containerd.log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.enter(pid), shutil.which("containerd") or "containerd", "-c", str(self.folder / "config.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        address = ["-a", str(self.socket), "-n", "k8s.io"]
        load = ["ctr", *address, "images", "import", str(self.folder / "busybox.tar")]
        deadline = time.monotonic() + WAIT_SECONDS
        while (done := subprocess.run(load, capture_output=True, text=True, check=False)).returncode:
            if time.monotonic() > deadline:
                raise TimeoutError(f"containerd does not take the image: {done.stderr}\n{self.log()}")
            time.sleep(0.1)

    def enter(self, pid: int) -> list[str]:
        """A command prefix that runs what follows in the node whose init is `pid`."""
        return ["nsenter", f"--target={pid}", "--mount", "--net", "--uts", "--ipc", "--pid"]

    def _configure(self) -> None:
        """containerd's file, and a network like crilite's own: a veth for each pod, addresses out of the node's range."""
        (self.folder / "cni").mkdir(exist_ok=True)
        (self.folder / "config.toml").write_text(_CONFIG.format(root=self.folder, image=IMAGE, plugins=PLUGINS))
        ipam = {"type": "host-local", "dataDir": str(self.folder / "addresses"), "ranges": [[{"subnet": self._range()}]]}
        ipam |= {"routes": [{"dst": "0.0.0.0/0"}]}
        plugins = [{"type": "ptp", "mtu": 1500, "ipam": ipam}, {"type": "portmap", "capabilities": {"portMappings": True}}]
        conf = {"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}
        (self.folder / "cni" / "10-pods.conflist").write_text(json.dumps(conf))

    def _range(self) -> str:
        """The node's pod CIDR: the first /24, since the cluster has one worker. The API says so later; the kubelet needs a network to be Ready."""
        return "10.244.0.0/24"

    def stop(self, *, kill: bool = False) -> None:
        """End containerd. Its pods go on."""
        if self.process is not None:
            # nsenter forks, because of the PID namespace: the child is containerd.
            for pid in _children(self.process.pid):
                os.kill(pid, 9 if kill else 15)
            self.process.wait(WAIT_SECONDS)
            self.process = None

    def log(self, size: int = 3000) -> str:
        return (self.folder / "containerd.log").read_text(errors="replace")[-size:]


def init_of(cluster: ClusterHandle, node: str) -> int:
    """The process id, as we see it, of a node's init."""
    found = state.load(cluster.root)
    if found is None or found.supervisor is None:
        raise LookupError(f"the cluster {cluster.name} does not run")
    supervisor = found.supervisor.pid
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for pid in descendants(supervisor):
            if _command(pid).startswith(f"kubeling-init [{node}]"):
                return pid
        time.sleep(0.05)
    raise TimeoutError(f"there is no init of {node}")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for task in Path(f"/proc/{pid}/task").iterdir() for each in (task / "children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        found.extend(_children(each))
    return found
