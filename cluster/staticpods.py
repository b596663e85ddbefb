"""`kubeling up --static-pods`: the control plane as static pods of its nodes' kubelets, as kubeadm makes it.

A control-plane node then runs a runtime and a kubelet like any other, and finds the manifests of its store, apiserver, controllers and scheduler in its
folder. What dies is healed by the kubelet, and what runs is seen with kubectl. The pods are on the node's network and see, of the cluster's files, those
that their flags name and no others.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from kubeling.cluster import handover, plan
from kubeling.cluster.topology import Daemon, Node, Topology

IMAGE = "kubeling.local/host"
#: Where a pod sees the files of the cluster: their own place is hidden from everything that runs in a container.
INSIDE = "/etc/kubeling"
#: Where our own modules lie.
_PACKAGE = str(Path(__file__).resolve().parents[1])
_REQUESTS = {
    "etcdlite": {"cpu": "100m", "memory": "100Mi"},
    "apiserver": {"cpu": "250m"},
    "controllers": {"cpu": "200m"},
    "scheduler": {"cpu": "100m"},
}


def write(topology: Topology, node: Node) -> None:
    """Put the manifests of `node` into its folder."""
    folder = topology.layout.node(node.name) / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    for daemon in plan.daemons(topology, node):
        if daemon.static:
            fresh = folder / f".{daemon.name}.new"
            fresh.write_text(json.dumps(manifest(topology, daemon), indent=2) + "\n")
            os.replace(fresh, folder / f"{daemon.name}.json")


def manifest(topology: Topology, daemon: Daemon) -> dict[str, Any]:
    """The static pod that runs `daemon`."""
    root = str(topology.layout.root)
    command = [sys.executable, "-P", "-m", f"kubeling.{daemon.name}", *(_inside(arg, root) for arg in daemon.args)]
    paths = [value for arg in daemon.args if (value := arg.partition("=")[2]).startswith(f"{root}/")]
    if any("{api}" in arg for arg in daemon.args):
        sock = str(topology.layout.node(daemon.node) / handover.NAME)
        paths.append(sock)
        command = [sys.executable, "-P", "-m", "kubeling.cluster.handover", f"--socket={_inside(sock, root)}", "--", *command]
    volumes, mounts = [], []
    for number, path in enumerate(dict.fromkeys(paths)):
        own = path.startswith(f"{topology.layout.node(daemon.node)}/")
        kind = "Socket" if path.endswith(".sock") else "DirectoryOrCreate" if own else "File"
        volumes.append({"name": f"file-{number}", "hostPath": {"path": path, "type": kind}})
        mounts.append({"name": f"file-{number}", "mountPath": _inside(path, root), "readOnly": not own})
    if _hidden(_PACKAGE):
        volumes.append({"name": "package", "hostPath": {"path": _PACKAGE, "type": "Directory"}})
        mounts.append({"name": "package", "mountPath": _PACKAGE, "readOnly": True})
    container = {
        "name": daemon.name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [{"name": name, "value": value} for name, value in _environment().items()],
        "resources": {"requests": _REQUESTS.get(daemon.name, {})},
        "volumeMounts": mounts,
        **_probes(daemon),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": daemon.name,
            "namespace": "kube-system",
            "labels": {"component": daemon.name, "tier": "control-plane"},
        },
        "spec": {
            "hostNetwork": True,
            "dnsPolicy": "Default",
            "priorityClassName": "system-node-critical",
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 10,
            "containers": [container],
            "volumes": volumes,
        },
    }


def _environment() -> dict[str, str]:
    """What the interpreter must be told to be ours."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if os.environ.get(name)}
    return {"PYTHONUNBUFFERED": "1", **kept}


def _hidden(path: str) -> bool:
    """Whether the image shows nothing of this: what lies in somebody's home is none of a pod's business, unless it is asked for."""
    return path.split("/")[1] in ("root", "home", "tmp", "run") and not path.startswith(f"{sys.prefix}/")


def _inside(text: str, root: str) -> str:
    return text.replace(f"{root}/", f"{INSIDE}/")


def _probes(daemon: Daemon) -> dict[str, Any]:
    """The same question that `kubeling status` asks; patient with a start, and slow to kill, as kubeadm's."""
    if daemon.probe is None:
        return {}
    scheme = "HTTPS" if daemon.probe.tls else "HTTP"
    live = "/livez" if daemon.probe.tls else daemon.probe.path
    get = {"host": daemon.probe.host, "port": daemon.probe.port, "scheme": scheme}
    return {
        "startupProbe": {"httpGet": {**get, "path": live}, "periodSeconds": 1, "timeoutSeconds": 15, "failureThreshold": 240},
        "livenessProbe": {"httpGet": {**get, "path": live}, "periodSeconds": 10, "timeoutSeconds": 15, "failureThreshold": 8},
        "readinessProbe": {"httpGet": {**get, "path": daemon.probe.path}, "periodSeconds": 2, "timeoutSeconds": 15},
    }


def find(daemon: str, netns: str) -> int:
    """A descriptor of the process of `daemon` in the network namespace at `netns`, to send signals to; -1 where none runs. The caller closes it."""
    wanted = os.stat(netns)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            here = os.stat(entry / "ns" / "net")
            if words[1:4] == [b"-P", b"-m", f"kubeling.{daemon}".encode()] and here.st_ino == wanted.st_ino:
                return os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue  # It ended while we looked, or is none of ours.
    return -1


def pid(daemon: str, netns: str) -> int:
    """The process id of `daemon`, 0 where none runs."""
    found = find(daemon, netns) if netns else -1
    if found < 0:
        return 0
    try:
        return _number(found)
    finally:
        os.close(found)


def _number(found: int) -> int:
    return int(os.path.basename(os.readlink(f"/proc/self/fd/{found}")))


def send(daemon: str, netns: str, number: int) -> int:
    """Send a signal to the process of `daemon`; its process id, 0 where none runs."""
    found = find(daemon, netns)
    if found < 0:
        return 0
    try:
        signal.pidfd_send_signal(found, number)
        return _number(found)
    finally:
        os.close(found)
