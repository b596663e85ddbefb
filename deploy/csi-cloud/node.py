"""CSI's Node service at a machine of the local cloud: what is attached to this machine, and nothing else, can be mounted here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import services
import store

from kubeling.cloud.provider import Missing
from kubeling.cloud.providers.volumes import attached


class Disks:
    """The disks of one machine, as :class:`services.Node` looks at a store."""

    def __init__(self, folder: Path, node: str) -> None:
        self._folder, self._node = folder, node

    def volume(self, volume_id: str) -> store.Record:
        try:
            found, _ = attached(self._folder, self._node, volume_id)
        except Missing as error:
            raise services.Failed(grpc.StatusCode.NOT_FOUND, str(error)) from error
        return store.Record(found.id, found.name, found.size, found.block)

    def path(self, record: store.Record) -> Path:
        return attached(self._folder, self._node, record.id)[1]

    def volumes(self) -> list[store.Record]:
        """Inline volumes: there are none."""
        return []


class Node(services.Node):
    async def NodePublishVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.volume_context.get("csi.storage.k8s.io/ephemeral") == "true":
            raise services.Failed(grpc.StatusCode.INVALID_ARGUMENT, "this driver has no inline volumes")
        return await super().NodePublishVolume(request, context)
