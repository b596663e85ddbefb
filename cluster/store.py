"""How a program on the host reaches a cluster's store: which address, with which certificate, and out of which network namespace."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kubeling.cluster import state
from kubeling.cluster.control import Control
from kubeling.cluster.state import ClusterError


@dataclass(frozen=True, slots=True)
class Reach:
    """`prefix` is what the program's own command line is put behind."""

    prefix: tuple[str, ...]
    endpoint: str
    ca: Path
    cert: Path
    key: Path


def reach(name: str) -> Reach:
    """The store of the running cluster `name`, through one of its members that runs. Raises ClusterError."""
    root = state.root_of(name)
    with Control(root) as control:
        nodes = control.call("nodes")["nodes"]
    found = state.load(root)
    if found is None:
        raise ClusterError(f"there is no cluster {name!r}")
    running = {node["name"]: node["pid"] for node in nodes if node["role"] == "control-plane" and node["state"] == "running"}
    topology = found.topology(root)
    for node in topology.of("control-plane"):
        if node.name in running:
            prefix: tuple[str, ...] = ()
            if found.spec.isolated:
                prefix = ("nsenter", f"--target={running[node.name]}", "--net")
                if found.user_namespace and os.geteuid() != 0:
                    prefix += ("--user", "--preserve-credentials")
            pki = root / "pki"
            endpoint = f"https://{topology.at(node, 'etcd-client')}"
            identity = pki / "apiserver-etcd-client"
            return Reach(prefix, endpoint, pki / "etcd" / "ca.crt", identity.with_suffix(".crt"), identity.with_suffix(".key"))
    raise ClusterError(f"no node of {name!r} that has the store runs: `kubeling node start NODE`")
