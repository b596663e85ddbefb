"""What the sidecars share: the driver over its socket, the cluster over its API, and the kinds of the snapshot API.

Upstream's sidecars are a program each, one leader of them in a cluster. Where storage belongs to a node, each node's sidecars see to what is on it, as
upstream's do with --node-deployment; that is found in the node affinity of volumes and in a label of snapshots' contents. Without a node in their context
they are central, and see to all that is the driver's. What a driver refuses is asked of it again after a second at first and five minutes at most.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import labels_of, spec_of
from kubeling.api.resources import SECRETS, STATUS, Resource
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.rest import Client
from kubeling.cloud.patience import Patience
from kubeling.daemon.clock import Clock
from kubeling.daemon.tasks import Supervisor
from kubeling.proto import csi_pb2 as pb
from kubeling.proto import csi_pb2_grpc as pb_grpc

Obj = dict[str, Any]

_GROUP = "snapshot.storage.k8s.io"
SNAPSHOTS = Resource(_GROUP, "v1", "volumesnapshots", "VolumeSnapshot", subresources=(STATUS,))
CONTENTS = Resource(_GROUP, "v1", "volumesnapshotcontents", "VolumeSnapshotContent", namespaced=False, subresources=(STATUS,))
CLASSES = Resource(_GROUP, "v1", "volumesnapshotclasses", "VolumeSnapshotClass", namespaced=False)

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
NODE_LABEL = "csi-hostpath.kubeling.dev/node"
TIMEOUT = 60.0
#: Codes after which nothing has been done, so that something else may be tried.
FINAL = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ALREADY_EXISTS,
}


@dataclass(slots=True)
class Context:
    """What each sidecar is given. `node` is empty for those that are central, and so is `topology_key`."""

    driver: str
    node: str
    topology_key: str
    client: Client
    informers: InformerFactory
    events: EventRecorder
    clock: Clock
    channel: grpc.aio.Channel
    patience: Patience = field(default_factory=lambda: Patience(limit=300.0))

    @property
    def controller(self) -> Any:
        return pb_grpc.ControllerStub(self.channel)

    def is_here(self, volume: Obj) -> bool:
        """Whether a PersistentVolume is ours, and on this node."""
        source = spec_of(volume).get("csi") or {}
        if source.get("driver") != self.driver or not self.node:
            return source.get("driver") == self.driver
        terms = ((spec_of(volume).get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or []
        return any(
            each.get("key") == self.topology_key and self.node in (each.get("values") or ())
            for term in terms
            for each in term.get("matchExpressions") or ()
        )

    async def find(self, resource: Resource, name: str, namespace: str = "") -> Obj | None:
        """An object, None where there is none."""
        try:
            return await self.client.get(resource, name, namespace or None)
        except ApiError as error:
            if is_not_found(error):
                return None
            raise

    async def secret(self, name: str, namespace: str) -> dict[str, str]:
        if not name:
            return {}
        found = await self.client.get(SECRETS, name, namespace)
        return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}


def start(parts: Supervisor, context: Context, kinds: Mapping[str, Callable[[Context], Any]]) -> None:
    """Make these sidecars and have them run."""
    made = {name: kind(context) for name, kind in kinds.items()}
    context.informers.start(parts)
    parts.start("events", context.events.run)
    for name, sidecar in made.items():
        parts.start(name, sidecar.run)


def owner_node(content: Obj) -> str:
    """The node that a snapshot's content lies on."""
    return labels_of(content).get(NODE_LABEL) or ""


def capability(obj: Obj, fs_type: str = "") -> Any:
    """The VolumeCapability of a claim or a volume."""
    modes = pb.VolumeCapability.AccessMode
    chosen = {
        "ReadWriteOnce": modes.SINGLE_NODE_MULTI_WRITER,
        "ReadWriteOncePod": modes.SINGLE_NODE_SINGLE_WRITER,
        "ReadOnlyMany": modes.MULTI_NODE_READER_ONLY,
        "ReadWriteMany": modes.MULTI_NODE_MULTI_WRITER,
    }
    mode = modes(mode=chosen[(spec_of(obj).get("accessModes") or ["ReadWriteOnce"])[-1]])
    if spec_of(obj).get("volumeMode") == "Block":
        return pb.VolumeCapability(block=pb.VolumeCapability.BlockVolume(), access_mode=mode)
    return pb.VolumeCapability(mount=pb.VolumeCapability.MountVolume(fs_type=fs_type), access_mode=mode)


def binary(size: int) -> str:
    """Bytes as people write them: `1Gi`, not 1073741824."""
    for suffix, unit in (("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def words(error: grpc.aio.AioRpcError) -> str:
    spelled = "".join(part.capitalize() for part in error.code().name.split("_"))
    return f"rpc error: code = {spelled} desc = {error.details()}"
