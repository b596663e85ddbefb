"""python manifest.py | kubectl apply -f -: csi-hostpath.yaml as a cluster of `kubeling up` needs it.

There each kubelet has a directory of its own, and the image `kubeling.local/host` shows the machine's own files, this interpreter and this folder among them.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent


def rendered(nodes: Path) -> list[dict[str, Any]]:
    """The objects, for a cluster whose nodes' folders are in `nodes`."""
    objects: list[dict[str, Any]] = list(yaml.safe_load_all((HERE / "csi-hostpath.yaml").read_text()))
    home = nodes / "$(NODE_NAME)"
    for each in objects:
        if each["kind"] != "DaemonSet":
            continue
        pod = each["spec"]["template"]["spec"]
        container = pod["containers"][0]
        container["image"] = "kubeling.local/host"
        container["command"] = [sys.executable, str(HERE)]
        container["args"] = [f"--kubelet-root={home / 'kubelet'}", f"--data={home / 'csi-hostpath'}"]
        if os.environ.get("PYTHONPATH"):
            container["env"].append({"name": "PYTHONPATH", "value": os.environ["PYTHONPATH"]})
        # The image shows neither /tmp nor what the cluster hides, and a checkout may lie there.
        code = {"code": HERE.parents[1], "python": Path(sys.prefix)}
        # One folder holds the kubelets' directories and the volumes; a pod sees only its own node's mounts in it.
        container["volumeMounts"] = [
            {"name": "nodes", "mountPath": str(nodes), "mountPropagation": "Bidirectional"},
            {"name": "dev", "mountPath": "/dev"},
            *({"name": name, "mountPath": str(path), "readOnly": True} for name, path in code.items()),
        ]
        paths = {"nodes": nodes, "dev": Path("/dev"), **code}
        pod["volumes"] = [{"name": name, "hostPath": {"path": str(path)}} for name, path in paths.items()]
    return objects


def main() -> int:
    home = Path(os.environ.get("KUBELING_HOME") or Path.home() / ".kubeling")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", default=os.environ.get("KUBELING_NAME", "kubeling"), help="the cluster's name")
    args = parser.parse_args()
    yaml.safe_dump_all(rendered(home.resolve() / args.cluster / "nodes"), sys.stdout, sort_keys=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
