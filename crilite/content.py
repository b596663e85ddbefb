"""The content of images on disk: blobs by digest, unpacked layers by chain id, and the index that names images.

``<root>/blobs/sha256/<hex>``, ``<root>/layers/<hex>/``, ``<root>/index.json``. The index is replaced atomically and comes last, so that what it
names is whole; what it does not name is a leftover. The daemon and the command line write under one lock, and each sees the other's work.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from kubeling.crilite import layers as layer_files
from kubeling.crilite.errors import CriError
from kubeling.crilite.held import write_atomically

_CHUNK = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Content:
    """`userxattr`: mark opaque directories in the way that a user namespace may."""

    def __init__(self, root: Path, *, userxattr: bool) -> None:
        self.root = root
        self.userxattr = userxattr
        self.layers = root / "layers"
        self.blobs = root / "blobs" / "sha256"
        for folder in (self.blobs, self.layers):
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
        """Image id to its entry (``tags``, ``digests``, ``config``, ``layers``, ``blobs``, ``size``), as it is now."""
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
        incoming = self.incoming()
        try:
            for chunk in chunks:
                incoming.write(chunk)
            return incoming.finish(expected)
        finally:
            incoming.close()

    def incoming(self) -> Incoming:
        """A blob that is still coming in."""
        return Incoming(self)

    # -- images --------------------------------------------------------------------------------------------------------------------------------

    def layer_names(self, diff_ids: list[str]) -> list[str]:
        """The directories of the layers, lowest first."""
        names, parent = [], ""
        for diff_id in diff_ids:
            parent = layer_files.chain_id(parent, diff_id)
            names.append(parent.removeprefix("sha256:")[:32])
        return names

    def register(
        self, config_digest: str, layer_digests: list[str], tags: list[str], digests: list[str], manifest: str = ""
    ) -> str:
        """Unpack what is not yet, and name the image whose blobs are all here; its id. Call it locked."""
        try:
            config = json.loads(self.read_blob(config_digest))
            diff_ids = list(config["rootfs"]["diff_ids"])
        except (ValueError, KeyError, TypeError) as error:
            raise CriError(f"image configuration {config_digest} cannot be read: {error}") from error
        if len(diff_ids) != len(layer_digests):
            raise CriError(f"image {config_digest}: {len(layer_digests)} layers, but its configuration speaks of {len(diff_ids)}")
        names = self.layer_names(diff_ids)
        for number, (name, digest, diff_id) in enumerate(zip(names, layer_digests, diff_ids, strict=True)):
            self._unpack(name, digest, diff_id, [str(self.layers / below) for below in reversed(names[:number])])
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
            "size": sum(self.blob_path(blob).stat().st_size for blob in blobs),
        }
        self.save_index(index)
        return config_digest

    def _unpack(self, name: str, digest: str, diff_id: str, parents: list[str]) -> None:
        target = self.layers / name
        if target.exists():
            return
        temporary = self.layers / f"incoming-{uuid.uuid4().hex}"
        try:
            with open(self.blob_path(digest), "rb") as blob:
                magic = blob.read(4)
                blob.seek(0)
                if magic == _ZSTD:
                    raise CriError(f"layer {digest} is compressed with zstd, which is not supported yet")
                source = cast(BinaryIO, gzip.GzipFile(fileobj=blob)) if magic[:2] == _GZIP else cast(BinaryIO, blob)
                try:
                    layer_files.unpack(source, str(temporary), parents, diff_id, userxattr=self.userxattr)
                except (EOFError, gzip.BadGzipFile) as error:
                    raise CriError(f"layer {digest} cannot be decompressed: {error}") from error
            os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def collect(self, used: set[str]) -> None:
        """Remove images without a name that no container uses, and then every blob and layer that no image has. Call it locked."""
        index = {key: entry for key, entry in self.index().items() if entry["tags"] or entry["digests"] or key in used}
        if len(index) != len(self.index()):
            self.save_index(index)
        blobs = {blob.removeprefix("sha256:") for entry in index.values() for blob in entry["blobs"]}
        names = {name for entry in index.values() for name in entry["layers"]}
        for path in self.blobs.iterdir():
            if path.name not in blobs:
                path.unlink(missing_ok=True)
        for path in self.layers.iterdir():
            if path.name not in names:
                shutil.rmtree(path, ignore_errors=True)


class Incoming:
    """A blob on its way into the store. Close it in any case: what was not finished is gone then."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._path = content.blobs / f"incoming-{uuid.uuid4().hex}"
        self._file = open(self._path, "xb")  # noqa: SIM115 - lives as long as this object
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._file.write(chunk)

    def finish(self, expected: str = "") -> str:
        """Put it in its place; its digest, which must be `expected` if that is given."""
        found = "sha256:" + self._digest.hexdigest()
        if expected and found != expected:
            raise CriError(f"content does not match its digest: {expected} was promised, {found} came")
        self._file.flush()
        os.fsync(self._file.fileno())
        os.rename(self._path, self._content.blob_path(found))
        return found

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def chunks_of(source: BinaryIO) -> Iterator[bytes]:
    while data := source.read(_CHUNK):
        yield data
