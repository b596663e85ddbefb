"""Images: what is here, and how a container gets its root file system from one.

`kubeling.local/host` is always here: a view of the node's own files, with what a container writes kept apart. All others are in the content
store, loaded from archives or pulled from a registry.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeling.crilite import reference
from kubeling.crilite.content import Content
from kubeling.crilite.endpoints import Registries
from kubeling.crilite.errors import InvalidArgument, NotFound, RegistryUnavailable, SignatureInvalid
from kubeling.crilite.policy import Policy
from kubeling.crilite.spec import ImageConfig
from kubeling.daemon.log import get_logger
from kubeling.proto import cri_pb2

if TYPE_CHECKING:
    from kubeling.crilite.registry import Progress

log = get_logger("crilite.images")

LOCAL_REGISTRY = "kubeling.local"
HOST_IMAGE = f"{LOCAL_REGISTRY}/host"
_STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Not the digest of anything: the name under which the host image is listed.
HOST_ID = "sha256:" + "6b7562656c696e67" * 4
#: Measuring the store means walking it; the figure may be this old.
_USAGE_SECONDS = 30.0
_DEFAULTS = Registries()


@dataclass(frozen=True, slots=True)
class Image:
    id: str
    kind: str
    config: ImageConfig
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    size: int = 0
    layers: tuple[str, ...] = ()
    #: Repository to the fingerprints of the keys that have signed it as that.
    signed: dict[str, list[str]] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        return self.digests[0] if self.digests else self.id

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
    # A size of nothing would look like an image that is not there.
    return Image(HOST_ID, "host", ImageConfig(env=(f"PATH={path}",), cmd=("sh",)), tags=(f"{HOST_IMAGE}:latest",), size=1)


def image_config(raw: dict[str, Any]) -> ImageConfig:
    """From the ``config`` of an image configuration."""
    return ImageConfig(
        env=tuple(raw.get("Env") or ()),
        entrypoint=tuple(raw.get("Entrypoint") or ()),
        cmd=tuple(raw.get("Cmd") or ()),
        cwd=raw.get("WorkingDir") or "",
        user=raw.get("User") or "",
        stop_signal=raw.get("StopSignal") or "",
        volumes=tuple(raw.get("Volumes") or ()),
    )


class ImageStore:
    def __init__(self, root: Path, registries: Registries = _DEFAULTS, policy: Path | None = None) -> None:
        self.host = host_image()
        self.content = Content(root, userxattr=in_user_namespace())
        self._registries = registries
        self._policy = Policy(policy)
        self._pulls: dict[str, asyncio.Task[Image]] = {}
        nothing = cri_pb2.FilesystemUsage()
        self._usage: tuple[float, cri_pb2.FilesystemUsage, cri_pb2.FilesystemUsage] = (-_USAGE_SECONDS * 2, nothing, nothing)
        #: Set by the daemon once it has tried: whether overlayfs can be used here.
        self.overlay = True

    def find(self, name: str) -> Image | None:
        """By any name that it has: tag, digest, id with or without ``sha256:``. A name that is none is an InvalidArgument."""
        if not name:
            raise InvalidArgument("no image is named")
        if name == HOST_ID or _is_host(name):
            return self.host
        index = self.content.index()
        for key in (name, f"sha256:{name}"):
            if key in index:
                return _image(key, index[key])
        wanted = reference.parse(name)
        for key, entry in index.items():
            if wanted.digest:
                if f"{wanted.name}@{wanted.digest}" in entry["digests"]:
                    return _image(key, entry)
            elif str(wanted) in entry["tags"]:
                return _image(key, entry)
        return None

    def allowed(self, image: Image, name: str) -> bool:
        """Whether the policy lets `image` be used as `name`; by an id that means: as all that it is called."""
        if image.kind == "host":
            return True
        if name.removeprefix("sha256:") != image.id.removeprefix("sha256:"):
            names = {reference.parse(name).name}
        else:
            names = {reference.parse(one).name for one in (*image.tags, *image.digests)}
        return self._policy.allows(names, image.signed)

    def must_be_allowed(self, image: Image, name: str) -> None:
        """SignatureInvalid if it is not."""
        if not self.allowed(image, name):
            raise SignatureInvalid(f"image {name!r} has no signature that the image policy wants")

    def all(self) -> list[Image]:
        stored = [_image(key, entry) for key, entry in self.content.index().items() if entry["tags"] or entry["digests"]]
        return [self.host, *stored]

    async def pull(self, name: str, auth: cri_pb2.AuthConfig, progress: Progress | None = None) -> Image:
        """The image, from its registry if it is not here. Pulls of one name with the same credentials at the same time are one pull."""
        unchecked = self.find(name)
        found = unchecked if unchecked is not None and self.allowed(unchecked, name) else None
        wanted = None if _is_host(name) else reference.parse(name)
        if found is not None and (wanted is None or wanted.digest):
            return found
        assert wanted is not None
        if wanted.registry == LOCAL_REGISTRY:
            # Nobody serves that name: such images are built in, or loaded by hand.
            if unchecked is not None and found is None:
                raise SignatureInvalid(f"{name} was loaded by hand, without a signature that the image policy wants")
            if found is None:
                raise NotFound(f"image {name!r} not found: load it from an archive")
            return found
        key = f"{wanted} {auth.SerializeToString().hex()}"
        task = self._pulls.get(key)
        if task is None:
            task = asyncio.create_task(self._pull(wanted, auth, progress))
            self._pulls[key] = task
            task.add_done_callback(lambda _task: self._pulls.pop(key, None))
        try:
            return await asyncio.shield(task)
        except RegistryUnavailable as error:
            if found is not None:
                # What is here is better than nothing. A registry that answers, be it with a refusal, is heard.
                log.warning("using the image that is present", image=name, error=error)
                return found
            if unchecked is not None:
                raise SignatureInvalid(
                    f"{name} is here without a signature that the image policy wants, and its registry cannot be asked for one: {error}"
                ) from error
            raise

    async def _pull(self, wanted: reference.Reference, auth: cri_pb2.AuthConfig, progress: Progress | None) -> Image:
        from kubeling.crilite import registry

        image_id = await registry.pull(self.content, wanted, auth, self._registries, policy=self._policy, progress=progress)
        return _image(image_id, self.content.index()[image_id])

    async def remove(self, name: str, used: set[str]) -> None:
        """Remove the image with all its names. What a container still uses goes when the container has gone. Not there is removed."""
        found = self.find(name)
        if found is not None and found.kind != "host":
            await asyncio.to_thread(self._remove, found.id, used)

    def _remove(self, key: str, used: set[str]) -> None:
        with self.content.locked():
            index = dict(self.content.index())
            if key in index:
                index[key] = {**index[key], "tags": [], "digests": []}
                self.content.save_index(index)
            self.content.collect(used)

    def collect(self, used: set[str]) -> None:
        """Clear away what an interrupted load or pull, or a removed container, has left."""
        with self.content.locked():
            self.content.collect(used)

    async def filesystem(self) -> cri_pb2.ImageFsInfoResponse:
        """What images and writable layers take up."""
        if time.monotonic() - self._usage[0] > _USAGE_SECONDS:
            self._usage = (time.monotonic(), *await asyncio.to_thread(self._measure))
        _, images, containers = self._usage
        return cri_pb2.ImageFsInfoResponse(image_filesystems=[images], container_filesystems=[containers])

    def _measure(self) -> tuple[cri_pb2.FilesystemUsage, cri_pb2.FilesystemUsage]:
        from kubeling.crilite.stats import disk_usage

        found = []
        for folder in (self.content.root, self.content.root.parent / "containers"):
            size, inodes = disk_usage(str(folder))
            found.append(
                cri_pb2.FilesystemUsage(
                    timestamp=time.time_ns(),
                    fs_id=cri_pb2.FilesystemIdentifier(mountpoint=str(folder)),
                    used_bytes=cri_pb2.UInt64Value(value=size),
                    inodes_used=cri_pb2.UInt64Value(value=inodes),
                )
            )
        return found[0], found[1]

    def rootfs(self, image: Image, folder: str, hide: list[str]) -> dict[str, Any]:
        """How the launcher makes the container's root; `folder` is the container's own directory."""
        if image.kind == "host":
            return {"kind": "host", "hide": hide, "userxattr": self.content.userxattr}
        if not self.overlay:
            return {"kind": "copy", "path": os.path.join(folder, "upper")}
        # overlayfs wants the uppermost first.
        return {
            "kind": "overlay",
            "base": str(self.content.layers),
            "lower": list(reversed(image.layers)),
            "upper": os.path.join(folder, "upper"),
            "work": os.path.join(folder, "work"),
            "userxattr": self.content.userxattr,
        }


def _is_host(name: str) -> bool:
    bare = name.partition("@")[0]
    head, _, tail = bare.rpartition("/")
    return f"{head}/{tail.partition(':')[0]}" == HOST_IMAGE


def _image(key: str, entry: dict[str, Any]) -> Image:
    return Image(
        id=key,
        kind="oci",
        config=image_config(entry["config"]),
        tags=tuple(entry["tags"]),
        digests=tuple(entry["digests"]),
        size=entry["size"],
        layers=tuple(entry["layers"]),
        signed=entry.get("signed", {}),
    )


def in_user_namespace() -> bool:
    """Whether root here is somebody else outside."""
    with open("/proc/self/uid_map") as table:
        return table.read().split() != ["0", "0", "4294967295"]
