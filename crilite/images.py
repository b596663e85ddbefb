"""Images: what is here, and how a container gets its root file system from one.

`kubeling.local/host` is always here: a view of the node's own files, read-only, with what a container writes kept apart.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeling.crilite.errors import NotFound
from kubeling.crilite.spec import ImageConfig
from kubeling.proto import cri_pb2

HOST_IMAGE = "kubeling.local/host"
_STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Not the digest of anything: the name under which the host image is listed.
HOST_ID = "sha256:" + "6b7562656c696e67" * 8


@dataclass(frozen=True, slots=True)
class Image:
    id: str
    kind: str
    config: ImageConfig
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    size: int = 0
    layers: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        return self.digests[0] if self.digests else (self.tags[0] if self.tags else self.id)

    def view(self) -> cri_pb2.Image:
        """As CRI lists it."""
        user, _, _group = self.config.user.partition(":")
        made = cri_pb2.Image(
            id=self.id, repo_tags=self.tags, repo_digests=self.digests, size=self.size, pinned=self.kind == "host"
        )
        if user.isdigit():
            made.uid.value = int(user)
        else:
            made.username = user
        return made


def host_image() -> Image:
    """The image whose files are the node's own. Its python3 is the one that runs this daemon."""
    interpreter = os.path.dirname(os.path.realpath(sys.executable))
    path = _STANDARD_PATH if interpreter in _STANDARD_PATH.split(":") else f"{interpreter}:{_STANDARD_PATH}"
    return Image(HOST_ID, "host", ImageConfig(env=(f"PATH={path}",), cmd=("sh",)), tags=(f"{HOST_IMAGE}:latest",))


class ImageStore:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = host_image()

    def find(self, name: str) -> Image | None:
        """By any name that it has: tag, digest, id."""
        bare = name.partition("@")[0]
        head, _, tail = bare.rpartition("/")
        if f"{head}/{tail.partition(':')[0]}" == HOST_IMAGE or name == HOST_ID:
            return self.host
        return None

    def list(self) -> list[Image]:
        return [self.host]

    async def pull(self, name: str, auth: cri_pb2.AuthConfig) -> Image:
        found = self.find(name)
        if found is None:
            raise NotFound(f"image {name!r} not found")
        return found

    async def remove(self, name: str, used: set[str]) -> None:
        return None

    async def filesystem(self) -> cri_pb2.ImageFsInfoResponse:
        return cri_pb2.ImageFsInfoResponse()

    def rootfs(self, image: Image, folder: str, hide: list[str]) -> dict[str, Any]:
        return {"kind": "host", "hide": hide}
