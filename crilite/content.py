"""The content of images on disk: blobs by digest, unpacked layers by chain id, and the index that names images.

``<root>/blobs/sha256/<hex>``, ``<root>/layers/<hex>/``, ``<root>/index.json``. The index is replaced atomically and comes last, so that what it
names is whole; what it does not name is a leftover, unless a lease says that it is still wanted (:mod:`kubeling.crilite.leases`). The daemon and the command line
write under one lock, and each sees the other's work.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kubeling.crilite import incoming, leases
from kubeling.crilite import layers as layer_files
from kubeling.crilite.compression import decompressed
from kubeling.crilite.errors import CriError
from kubeling.crilite.held import write_atomically

_CHUNK = 1 << 20


class Content:
    """`userxattr`: mark opaque directories in the way that a user namespace may."""

    def __init__(self, root: Path, *, userxattr: bool) -> None:
        self.root = root
        self.userxattr = userxattr
        self.layers = root / "layers"
        self.blobs = root / "blobs" / "sha256"
        self._leases = root / "leases"
        for folder in (self.blobs, self.layers, self._leases):
            folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._index_path = root / "index.json"
        self._seen: tuple[int, int, int] = (0, 0, 0)
        self._index: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the store meanwhile."""
        fd = os.open(self.root / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    # -- the index -----------------------------------------------------------------------------------------------------------------------------

    def index(self) -> dict[str, dict[str, Any]]:
        """Image id to its entry (``tags``, ``digests``, ``config``, ``layers``, ``blobs``, ``signed``, ``size``), as it is now."""
        try:
            info = os.stat(self._index_path)
        except FileNotFoundError:
            return {}
        seen = (info.st_ino, info.st_mtime_ns, info.st_size)
        if seen != self._seen:
            try:
                self._index = json.loads(self._index_path.read_bytes())["images"]
            except (ValueError, KeyError) as error:
                raise CriError(
                    f"the image index {self._index_path} cannot be read: {error}; remove it and load the images again"
                ) from error
            self._seen = seen
        return self._index

    def save_index(self, index: dict[str, dict[str, Any]]) -> None:
        write_atomically(str(self._index_path), json.dumps({"images": index}, indent=1).encode())

    # -- blobs ---------------------------------------------------------------------------------------------------------------------------------

    def blob_path(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise CriError(f"unsupported digest {digest!r}: only sha256 is")
        return self.blobs / value

    def has_blob(self, digest: str) -> bool:
        return self.blob_path(digest).exists()

    def read_blob(self, digest: str) -> bytes:
        return self.blob_path(digest).read_bytes()

    def add_blob(self, chunks: Iterable[bytes], expected: str = "") -> str:
        """Store what `chunks` yield under its digest, which must be `expected` if that is given."""
        blob = self.incoming(expected)
        try:
            blob.restart()
            for chunk in chunks:
                blob.write(chunk)
            return blob.finish()
        finally:
            blob.close()

    def incoming(self, expected: str = "", limit: int = 0) -> incoming.Incoming:
        """A blob that is still coming in, of `expected` digest and `limit` bytes where that is known."""
        if expected:
            self.blob_path(expected)
        return incoming.Incoming(self.blobs, expected, limit)

    def lease(self) -> leases.Lease:
        """Nothing that it keeps is cleared away until it is closed."""
        with self.locked():
            return leases.Lease(self._leases)

    # -- images --------------------------------------------------------------------------------------------------------------------------------

    def layer_names(self, diff_ids: list[str]) -> list[str]:
        """The directories of the layers, lowest first."""
        names, parent = [], ""
        for diff_id in diff_ids:
            parent = layer_files.chain_id(parent, diff_id)
            names.append(parent.removeprefix("sha256:")[:32])
        return names

    def configuration(self, digest: str, layer_digests: list[str]) -> tuple[dict[str, Any], list[str]]:
        """(the image configuration, its diff ids): one diff id for each layer, or a CriError."""
        try:
            config = json.loads(self.read_blob(digest))
            diff_ids = list(config["rootfs"]["diff_ids"])
        except (ValueError, KeyError, TypeError) as error:
            raise CriError(f"image configuration {digest} cannot be read: {error}") from error
        if len(diff_ids) != len(layer_digests):
            raise CriError(f"image {digest}: {len(layer_digests)} layers, but its configuration speaks of {len(diff_ids)}")
        return config, diff_ids

    def register(
        self,
        config_digest: str,
        layer_digests: list[str],
        tags: list[str],
        digests: list[str],
        manifest: str = "",
        signed: dict[str, list[str]] | None = None,
    ) -> str:
        """Name the image whose blobs are all here and whose layers are unpacked, or are unpacked now; its id. Call it locked.

        `signed` says which keys have signed it under the name of which repository, see :mod:`kubeling.crilite.policy`.
        """
        config, diff_ids = self.configuration(config_digest, layer_digests)
        names = self.layer_names(diff_ids)
        for number in range(len(names)):
            self.unpack(layer_digests, diff_ids, number)
        index = dict(self.index())
        for entry in index.values():
            entry["tags"] = [tag for tag in entry["tags"] if tag not in tags]
        blobs = [*([manifest] if manifest else []), config_digest, *layer_digests]
        old = index.get(config_digest, {"tags": [], "digests": []})
        index[config_digest] = {
            "tags": [*old["tags"], *tags],
            "digests": list(dict.fromkeys([*old["digests"], *digests])),
            "config": config.get("config") or {},
            "layers": names,
            "blobs": blobs,
            "signed": {**old.get("signed", {}), **(signed or {})},
            "size": sum(self.blob_path(blob).stat().st_size for blob in blobs),
        }
        self.save_index(index)
        return config_digest

    def unpack(self, layer_digests: list[str], diff_ids: list[str], number: int, lease: str = "") -> None:
        """Unpack layer `number` of an image; those below it are unpacked already. `lease` is whose directory it is until it has its name."""
        *below, name = self.layer_names(diff_ids[: number + 1])
        target = self.layers / name
        if target.exists():
            return
        temporary = self.layers / f"incoming-{lease or uuid.uuid4().hex}-{number}"
        parents = [str(self.layers / parent) for parent in reversed(below)]
        digest = layer_digests[number]
        try:
            with open(self.blob_path(digest), "rb") as blob, decompressed(blob, f"layer {digest}") as source:
                layer_files.unpack(source, str(temporary), parents, diff_ids[number], userxattr=self.userxattr)
            try:
                os.rename(temporary, target)
            except OSError:
                # Another pull had the same layer and was faster.
                if not target.exists():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def collect(self, used: set[str]) -> None:
        """Remove images without a name that no container uses, and then every blob and layer that no image and no lease has. Call it locked."""
        index = {key: entry for key, entry in self.index().items() if entry["tags"] or entry["digests"] or key in used}
        if len(index) != len(self.index()):
            self.save_index(index)
        held, kept = leases.live(self._leases)
        blobs = {blob.removeprefix("sha256:") for entry in index.values() for blob in entry["blobs"]}
        blobs |= {name.removeprefix("sha256:") for name in kept}
        names = {name for entry in index.values() for name in entry["layers"]} | kept
        for path in self.blobs.iterdir():
            if path.name.startswith(("partial-", "incoming-")):
                incoming.clear(path)
            elif path.name not in blobs:
                path.unlink(missing_ok=True)
        for path in self.layers.iterdir():
            if path.name not in names and path.name.partition("-")[2].partition("-")[0] not in held:
                shutil.rmtree(path, ignore_errors=True)


def chunks_of(source: BinaryIO) -> Iterator[bytes]:
    while data := source.read(_CHUNK):
        yield data
