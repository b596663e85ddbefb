"""What the daemons of a node cost: their memory and processor time, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

from kubeling.bench.node.containerd import init_of
from kubeling.cluster.pytest_plugin import ClusterHandle

#: The names that belong to the node's agents, as `comm`; pods are none of them.
AGENTS = ("kl-kubelet", "kl-crilite", "crilite-keeper", "containerd", "containerd-shim")


def agents(cluster: ClusterHandle, node: str) -> dict[int, str]:
    """The processes of the kubelet and the runtime of a node: process id to name."""
    init = init_of(cluster, node)
    # Daemons are forked by the cluster's zygote; what makes them the node's is its network namespace.
    inside = os.readlink(f"/proc/{init}/ns/net")
    found: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                comm = Path(f"/proc/{entry}/comm").read_text().strip()
                if comm.startswith(AGENTS) and os.readlink(f"/proc/{entry}/ns/net") == inside:
                    found[int(entry)] = comm
            except OSError:
                continue
    return found


def resident(cluster: ClusterHandle, node: str) -> dict[int, int]:
    """Process id to the bytes that it holds for itself and its part of what it shares (PSS)."""
    found = {}
    for pid in agents(cluster, node):
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    found[pid] = int(line.split()[1]) * 1024
        except OSError:
            continue
    return found


def cpu_seconds(cluster: ClusterHandle, node: str) -> dict[int, float]:
    """Process id to the processor time used, in seconds, children that have ended included."""
    found = {}
    tick = os.sysconf("SC_CLK_TCK")
    for pid in agents(cluster, node):
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        found[pid] = sum(int(each) for each in text[text.rindex(")") + 2 :].split()[11:15]) / tick
    return found
