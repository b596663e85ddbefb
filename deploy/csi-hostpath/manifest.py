"""python manifest.py | kubectl apply -f -: csi-hostpath.yaml as a cluster of `kubeling up` needs it.

There each kubelet has a directory of its own, and the image `kubeling.local/host` shows the machine's own files, this interpreter and this folder among them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent


def adapt(
    workload: dict[str, Any], here: Path, args: list[str], paths: dict[str, Path], spread: frozenset[str] = frozenset()
) -> None:
    """Let a workload of the program in `here` run on this machine's own files. Of `paths`, mounts in `spread` are seen outside the pod."""
    pod = workload["spec"]["template"]["spec"]
    container = pod["containers"][0]
    container["image"] = "kubeling.local/host"
    container["command"] = [sys.executable, str(here)]
    container["args"] = args
    if os.environ.get("PYTHONPATH"):
        container["env"].append({"name": "PYTHONPATH", "value": os.environ["PYTHONPATH"]})
    # The image shows neither /tmp nor what the cluster hides, and a checkout may lie there.
    code = {"code": here.parents[1], "python": Path(sys.prefix)}
    own = [each for each in pod["volumes"] if "emptyDir" in each]
    container["volumeMounts"] = [
        *(each for each in container["volumeMounts"] if each["name"] in [one["name"] for one in own]),
        *(
            {"name": name, "mountPath": str(path), **({"mountPropagation": "Bidirectional"} if name in spread else {})}
            for name, path in paths.items()
        ),
        *({"name": name, "mountPath": str(path), "readOnly": True} for name, path in code.items()),
    ]
    pod["volumes"] = [
        *own,
        *({"name": name, "hostPath": {"path": str(path), "type": "DirectoryOrCreate"}} for name, path in paths.items()),
        *({"name": name, "hostPath": {"path": str(path)}} for name, path in code.items()),
    ]


def rendered(nodes: Path) -> list[dict[str, Any]]:
    """The objects, for a cluster whose nodes' folders are in `nodes`: a pod sees only its own node's mounts in there."""
    objects: list[dict[str, Any]] = list(yaml.safe_load_all((HERE / "csi-hostpath.yaml").read_text()))
    home = nodes / "$(NODE_NAME)"
    for each in objects:
        if each["kind"] == "DaemonSet":
            args = [f"--kubelet-root={home / 'kubelet'}", f"--data={home / 'csi-hostpath'}"]
            adapt(each, HERE, args, {"nodes": nodes, "dev": Path("/dev")}, frozenset({"nodes"}))
    return objects


def show(description: str | None, render: Callable[[Path], list[dict[str, Any]]]) -> int:
    """Print what `render` makes for the folder of a cluster."""
    home = Path(os.environ.get("KUBELING_HOME") or Path.home() / ".kubeling")
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cluster", default=os.environ.get("KUBELING_NAME", "default"), help="the cluster's name")
    args = parser.parse_args()
    yaml.safe_dump_all(render(home.resolve() / args.cluster), sys.stdout, sort_keys=False)
    return 0


if __name__ == "__main__":
    sys.exit(show(__doc__, lambda cluster: rendered(cluster / "nodes")))
