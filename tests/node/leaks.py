"""What a node still has of pods: for tests that want to see that nothing was left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from kubeling.bench.node.containerd import init_of
from kubeling.cluster import state
from kubeling.cluster.pytest_plugin import ClusterHandle


class Node:
    """One node of a cluster, seen from outside."""

    def __init__(self, cluster: ClusterHandle, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.home = cluster.root / "nodes" / name

    @property
    def init(self) -> int:
        return init_of(self.cluster, self.name)

    def processes(self, comm: str) -> list[int]:
        """The node's own processes of that name."""
        network, found = os.readlink(f"/proc/{self.init}/ns/net"), []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if (
                        Path(f"/proc/{entry}/comm").read_text().strip() == comm
                        and os.readlink(f"/proc/{entry}/ns/net") == network
                    ):
                        found.append(int(entry))
                except OSError:
                    continue
        return found

    def cgroups(self) -> dict[str, list[int]]:
        """The containers' cgroups of the memory controller, or of v2, with the processes in each."""
        top = Path("/sys/fs/cgroup")
        tree = top / "memory" if (top / "memory").is_dir() else top
        known = state.load(self.cluster.root)
        # Clusters of other test runs on this machine may have the same name.
        here = tree / (known.cgroup.strip("/") if known is not None else "-") / self.name / "kubepods"
        found = {}
        # os.walk minds no folder that goes while it looks.
        for folder, _, _ in os.walk(here):
            if "/pod" in folder:
                with contextlib.suppress(OSError):
                    procs = Path(folder, "cgroup.procs").read_text()
                    found[str(Path(folder).relative_to(tree))] = [int(each) for each in procs.split()]
        return found

    def container_processes(self, uid: str) -> list[int]:
        """The processes of a pod's containers."""
        return [pid for path, pids in self.cgroups().items() if f"pod{uid}" in path for pid in pids]

    def left(self) -> dict[str, list[str]]:
        """Everything that belongs to pods, by sort; empty lists where there is nothing."""
        init = self.init
        mounts = Path(f"/proc/{init}/mounts").read_text().splitlines()
        links = subprocess.run(
            ["nsenter", f"--target={init}", "--net", "ip", "-o", "link"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        runtime = Path(f"/proc/{init}/root/run/kubeling/crilite")
        return {
            "volumes": _names(self.home / "kubelet" / "pods"),
            "logs": _names(self.home / "kubelet" / "log" / "pods"),
            "sandboxes": _names(self.home / "crilite" / "sandboxes"),
            "containers": _names(self.home / "crilite" / "containers"),
            "namespaces": _names(runtime / "sandboxes"),
            "held": _names(runtime / "containers"),
            "mounts": [line.split()[1] for line in mounts if "/kubelet/pods/" in line or "/crilite/sandboxes/" in line],
            "links": [line.split()[1] for line in links if "veth" in line or ("@" in line.split()[1] and "eth0" not in line)],
            "cgroups": sorted(self.cgroups()),
        }


def _names(folder: Path) -> list[str]:
    try:
        return sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
    except FileNotFoundError:
        return []
