"""Images into an archive: an OCI layout that also has the list which docker looks for, so that every tool can load it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubeling.crilite import reference
from kubeling.crilite.content import Content
from kubeling.crilite.errors import CriError, NotFound
from kubeling.crilite.images import ImageStore
from kubeling.crilite.manifests import OCI_INDEX, OCI_MANIFEST

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_MAGIC = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}


def save(store: ImageStore, names: Sequence[str], path: str | Path) -> None:
    """Write the images called `names`, each under the name that it was asked for by, to a new tar at `path`."""
    content = store.content
    with tarfile.open(path, "w") as tar, content.locked():
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        descriptors: list[dict[str, Any]] = []
        listing: list[dict[str, Any]] = []
        written: set[str] = set()
        for name in names:
            image = store.find(name)
            if image is None:
                raise NotFound(f"image {name!r} is not present")
            if image.kind == "host":
                raise CriError(f"{name} is a view of the node's own files: there is nothing to save")
            entry = content.index()[image.id]
            manifest, layers = _manifest(content, image.id, entry["blobs"])
            digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
            if digest not in written:
                _add(tar, _path(digest), manifest)
            for blob in (image.id, *layers):
                if blob not in written:
                    tar.add(content.blob_path(blob), _path(blob), filter=_plain)
            written |= {digest, image.id, *layers}
            annotations = _names(name, image.id)
            kind = json.loads(manifest).get("mediaType", OCI_MANIFEST)
            descriptors.append({"mediaType": kind, "digest": digest, "size": len(manifest), "annotations": annotations})
            tags = [annotations["io.containerd.image.name"]] if annotations else None
            listing.append({"Config": _path(image.id), "RepoTags": tags, "Layers": [_path(one) for one in layers]})
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors}).encode())
        _add(tar, "manifest.json", json.dumps(listing).encode())


def _names(name: str, image_id: str) -> dict[str, str]:
    """The annotations that name an image; none for one that was asked for by its id or a digest."""
    if name.removeprefix("sha256:") == image_id.removeprefix("sha256:"):
        return {}
    wanted = reference.parse(name)
    if not wanted.tag:
        return {}
    full = f"{wanted.name}:{wanted.tag}"
    return {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": wanted.tag}


def _manifest(content: Content, image_id: str, blobs: Sequence[str]) -> tuple[bytes, list[str]]:
    """The image's manifest and its layers. One that came without a manifest is given one."""
    if blobs[0] != image_id:
        return content.read_blob(blobs[0]), list(blobs[2:])
    layers = list(blobs[1:])
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": image_id, "size": content.blob_path(image_id).stat().st_size},
        "layers": [_layer(content, one) for one in layers],
    }
    return json.dumps(body).encode(), layers


def _layer(content: Content, digest: str) -> dict[str, Any]:
    path = content.blob_path(digest)
    with open(path, "rb") as file:
        suffix = _MAGIC.get(file.read(2), "")
    return {"mediaType": _LAYER + suffix, "digest": digest, "size": path.stat().st_size}


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same archive whoever writes it, and when."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime, info.mode = 0, 0o644
    return info


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
