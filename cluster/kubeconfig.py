"""Kubeconfigs: one for every component of a cluster, and the cluster's context in the user's own file.

The user's file is changed as kind does it: our three entries are put in (or replaced), all others stay, our context becomes the current one, and the
file is replaced atomically under kubectl's own lock file. What was current before is remembered by the caller and put back by :func:`unmerge`.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kubeling.cluster import pki, plan
from kubeling.cluster.state import ClusterError
from kubeling.cluster.topology import Node, Topology

SERVERS_EXTENSION = "kubeling.dev/servers"
_LOCK_SECONDS = 5.0
#: A lock file this old was left behind by a client that died.
_STALE_SECONDS = 60.0


class KubeconfigBroken(ClusterError):
    """The user's kubeconfig cannot be read or written; the text says which and why."""


def context_name(cluster: str) -> str:
    return f"kubeling-{cluster}"


def document(name: str, user: str, servers: Sequence[str], ca: pki.Pair, pair: pki.Pair) -> dict[str, Any]:
    """A whole kubeconfig with everything embedded. More than one server goes into the extension that our client fails over by."""

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    cluster: dict[str, Any] = {"server": servers[0], "certificate-authority-data": text(ca.cert_pem)}
    if len(servers) > 1:
        cluster["extensions"] = [{"name": SERVERS_EXTENSION, "extension": {"servers": list(servers)}}]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": text(pair.cert_pem), "client-key-data": text(pair.key_pem)},
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
        "preferences": {},
    }


def components(topology: Topology, node: Node) -> list[str]:
    """The components of `node` that talk to the apiserver."""
    return [d.name for d in plan.daemons(topology, node) if any(arg.startswith("--kubeconfig=") for arg in d.args)]


def write_all(topology: Topology, ca: pki.Pair) -> None:
    """Write the kubeconfig of every component that has none yet, and the administrator's two (from the host, from inside)."""
    name, layout = context_name(topology.spec.name), topology.layout
    hosted = [topology.spec.server]
    for node in topology.nodes:
        for component in components(topology, node):
            path = layout.kubeconfig(f"{node.name}-{component}")
            if not path.exists():
                cn, organizations = pki.identity(component, node.name)
                pair = pki.issue(ca, cn, organizations, client=True)
                servers = hosted if component == "cloud" else topology.api_servers(node)
                _write(path, document(name, cn, servers, ca, pair))
    if not layout.admin_kubeconfig.exists():
        cn, organizations = pki.identity("admin", "")
        pair = pki.issue(ca, cn, organizations, client=True)
        _write(layout.kubeconfig("internal"), document(name, name, topology.api_servers(), ca, pair))
        _write(layout.admin_kubeconfig, document(name, name, hosted, ca, pair))


def _write(path: Path, content: dict[str, Any]) -> None:
    # JSON is YAML, and needs no YAML library to be written.
    pki.write_private(path, json.dumps(content, indent=2).encode() + b"\n")


def user_file() -> Path:
    """The file that kubectl would write to: the first of $KUBECONFIG, else ~/.kube/config."""
    listed = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return Path(listed[0]) if listed else Path.home() / ".kube" / "config"


def merge(ours: dict[str, Any], path: Path) -> str:
    """Put the entries of `ours` into the kubeconfig at `path` and make its context current. Returns the context that was current before."""
    with changed(path) as found:
        before = str(found.get("current-context") or "")
        for section in ("clusters", "users", "contexts"):
            names = {entry["name"] for entry in ours[section]}
            kept = [entry for entry in found.get(section) or [] if entry.get("name") not in names]
            found[section] = [*kept, *ours[section]]
        found["current-context"] = ours["current-context"]
        found.setdefault("apiVersion", "v1")
        found.setdefault("kind", "Config")
    return before


def unmerge(name: str, path: Path, previous: str = "") -> None:
    """Take the context `name`, its cluster and its user out again. Where it is current, `previous` becomes so, if it is still there."""
    if not path.exists():
        return
    with changed(path) as found:
        for section in ("clusters", "users", "contexts"):
            found[section] = [entry for entry in found.get(section) or [] if entry.get("name") != name]
        if found.get("current-context") == name:
            known = {entry.get("name") for entry in found["contexts"]}
            found["current-context"] = previous if previous in known else ""


@contextlib.contextmanager
def changed(path: Path) -> Iterator[dict[str, Any]]:
    """The parsed kubeconfig at `path` (empty where there is none), to be changed in place under kubectl's lock; saved at the end if it differs."""
    with _locked(path):
        found = _read(path)
        before = copy.deepcopy(found)
        yield found
        if found != before:
            _save(path, found)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, OSError) as error:
        words = " ".join(str(error).split())
        raise KubeconfigBroken(f"the kubeconfig {path} cannot be read ({words}): mend it, or set KUBECONFIG") from error
    if found is not None and not isinstance(found, dict):
        raise KubeconfigBroken(f"the kubeconfig {path} is not a mapping: mend it, or set KUBECONFIG")
    return found or {}


def _save(path: Path, content: dict[str, Any]) -> None:
    import yaml

    # A kubeconfig that is a symbolic link stays one.
    target = Path(os.path.realpath(path))
    pki.write_private(target, yaml.dump(content, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False).encode())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold `<path>.lock`, the file by which kubectl keeps others out."""
    lock = path.with_name(path.name + ".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _take(lock)
    except OSError as error:
        raise KubeconfigBroken(f"the kubeconfig {path} cannot be changed: {error.strerror} ({error.filename or lock})") from error
    try:
        yield
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            lock.unlink()


def _take(lock: Path) -> int:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - lock.stat().st_mtime > _STALE_SECONDS:
                    lock.unlink()
                    continue
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
