"""The kubelet's configuration on a node: `nodes/<node>/kubelet.conf.d/*.conf`, merged in the order of their names. Ours is the first and says what differs here
from a node that has its machine to itself; users put theirs beside it and restart the node.
"""

from __future__ import annotations

import json
import os

from kubeling.cluster.topology import Node, Topology

FOLDER = "kubelet.conf.d"
_OURS = "00-kubeling.conf"
_CONFIGURATION = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    # That the machine's disk is nearly full for other reasons is none to end pods, or to throw images away.
    "evictionHard": {
        "memory.available": "100Mi",
        "nodefs.available": "256Mi",
        "nodefs.inodesFree": "1000",
        "pid.available": "500",
    },
    "imageGCHighThresholdPercent": 100,
}


def write(topology: Topology, node: Node) -> None:
    """Put our file into the node's folder."""
    folder = topology.layout.node(node.name) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{_OURS}.new"
    fresh.write_text(json.dumps(_CONFIGURATION, indent=2) + "\n")
    os.replace(fresh, folder / _OURS)
