"""python manifest.py | kubectl apply -f -: csi-cloud.yaml as a cluster of `kubeling up` needs it. Its disks are in the folder `cloud` of the cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "csi-hostpath"))

from manifest import adapt, show

HERE = Path(__file__).resolve().parent


def rendered(cluster: Path) -> list[dict[str, Any]]:
    """The objects, for the cluster whose folder that is."""
    objects: list[dict[str, Any]] = list(yaml.safe_load_all((HERE / "csi-cloud.yaml").read_text()))
    disks, nodes = cluster / "cloud", cluster / "nodes"
    kubelet = nodes / "$(NODE_NAME)" / "kubelet"
    for each in objects:
        if each["kind"] == "Deployment":
            adapt(each, HERE, ["--roles=controller", "--socket=/run/csi/csi.sock", f"--volumes={disks}"], {"cloud": disks})
        elif each["kind"] == "DaemonSet":
            socket = kubelet / "plugins" / "cloud.csi.kubeling.dev" / "csi.sock"
            args = ["--roles=node", f"--socket={socket}", f"--kubelet-root={kubelet}", f"--volumes={disks}"]
            adapt(each, HERE, args, {"nodes": nodes, "cloud": disks, "dev": Path("/dev")}, frozenset({"nodes"}))
    return objects


if __name__ == "__main__":
    sys.exit(show(__doc__, rendered))
