"""User namespaces for pods (`hostUsers: false`): which ids of the node a pod has for its own.

Each such pod gets 65536 ids that no other has, beginning at a multiple of that. They are written to `pods/<uid>/userns`, in upstream's form, before the
runtime hears of them: a pod keeps its ids when the kubelet is restarted, and they are free again when the pod's directory goes. Nothing else is kept.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from kubeling.proto import cri_pb2 as pb

LENGTH = 65536


class UserNamespaceProblem(Exception):
    """The pod cannot have ids of its own."""


def ids_of(pods: Path, uid: str, most: int) -> int:
    """The first id of the pod `uid`, whose directory is in `pods`; chosen now if it has none yet. There are ids for `most` pods."""
    own = _read(pods / uid / "userns")
    if own:
        return own
    taken = {_read(path) for path in pods.glob("*/userns")}
    # The first range is the node's own.
    for first in range(LENGTH, LENGTH * (most + 1), LENGTH):
        if first not in taken:
            _write(pods / uid / "userns", first)
            return first
    raise UserNamespaceProblem(f"no ids are left for a user namespace: {most} pods have some")


def _read(path: Path) -> int:
    """The first id in a file; 0 where there is none, or a torn one."""
    try:
        return int(json.loads(path.read_bytes())["uidMappings"][0]["hostId"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return 0


def _write(path: Path, first: int) -> None:
    mapping = [{"hostId": first, "containerId": 0, "length": LENGTH}]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with open(temporary, "w") as file:
        json.dump({"uidMappings": mapping, "gidMappings": mapping}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def give(config: pb.PodSandboxConfig, first: int) -> None:
    """Let the sandbox have the ids from `first` on."""
    users = config.linux.security_context.namespace_options.userns_options
    users.mode = pb.POD
    for ranges in (users.uids, users.gids):
        ranges.append(pb.IDMapping(host_id=first, container_id=0, length=LENGTH))


def pass_on(sandbox: pb.PodSandboxConfig, container: pb.ContainerConfig) -> None:
    """What the sandbox has, its containers have, and the files of volumes belong inside to whom they belong on disk."""
    options = sandbox.linux.security_context.namespace_options
    if not options.HasField("userns_options"):
        return
    users = options.userns_options
    container.linux.security_context.namespace_options.userns_options.CopyFrom(users)
    for mount in container.mounts:
        mount.uidMappings.extend(users.uids)
        mount.gidMappings.extend(users.gids)
