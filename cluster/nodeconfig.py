"""What runs on nodes, and how: the kubelet's configuration, and what `--node-config` says of kubelet and runtime.

The kubelet reads `nodes/<node>/kubelet.conf.d/*.conf`, merged in the order of their names. Ours is the first and says what differs here from a node that has
its machine to itself; what the cluster was brought up with is the next; users put theirs beside them and restart the node.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubeling.cluster.topology import Node, Topology

FOLDER = "kubelet.conf.d"
_OURS, _ASKED_FOR = "00-kubeling.conf", "10-cluster.conf"
#: What may be said of crilite, by the names of its flags: all that is not about where a node's own files are. Whether a value is a path.
RUNTIME_FLAGS = {
    "image-policy": True,
    "registry-mirror": False,
    "registry-config-dir": True,
    "insecure-registry": False,
    "image-pull-progress-timeout": False,
    "max-concurrent-downloads": False,
    "cni-conf-dir": True,
    "cni-bin-dir": True,
    "pids-limit": False,
    "hide": True,
}
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
    head = {name: _CONFIGURATION[name] for name in ("apiVersion", "kind")}
    for name, content in ((_OURS, _CONFIGURATION), (_ASKED_FOR, {**topology.spec.kubelet_config, **head})):
        if len(content) > len(head):
            fresh = folder / f".{name}.new"
            fresh.write_text(json.dumps(content, indent=2) + "\n")
            os.replace(fresh, folder / name)


class NodeConfigError(ValueError):
    """A file for `--node-config` that cannot be meant; the text says what and why."""


def load(path: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The flags of crilite and the fields of a KubeletConfiguration that a file gives under `crilite` and `kubelet`. Raises NodeConfigError."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NodeConfigError(f"{path}: {error}") from error
    return parse(found, path.absolute().parent)


def parse(found: Any, folder: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The same from what the file holds; paths are relative to `folder`."""
    if not isinstance(found, dict) or set(found) - {"crilite", "kubelet"}:
        raise NodeConfigError(
            "a mapping with `crilite` (flags and their values), `kubelet` (a KubeletConfiguration), or both, is expected"
        )
    runtime, kubelet = found.get("crilite") or {}, found.get("kubelet") or {}
    if not isinstance(runtime, dict) or not isinstance(kubelet, dict):
        raise NodeConfigError("crilite and kubelet: each is a mapping")
    return tuple(_flags(runtime, folder)), dict(kubelet)


def _flags(found: Mapping[Any, Any], folder: Path) -> list[str]:
    flags = []
    for given, value in found.items():
        name = str(given).lstrip("-")
        if name not in RUNTIME_FLAGS:
            raise NodeConfigError(f"crilite: nothing can be said of {name!r}; of {', '.join(sorted(RUNTIME_FLAGS))} it can")
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, str | int | float) or isinstance(each, bool):
                raise NodeConfigError(f"crilite: {name}: text, a number, or a list of such is expected")
            text = str(each)
            if RUNTIME_FLAGS[name]:
                text = os.path.normpath(folder / text)
                if not os.path.exists(text):
                    raise NodeConfigError(f"crilite: {name}: there is no {text}")
            flags.append(f"--{name}={text}")
    return flags
