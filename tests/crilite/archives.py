"""Image archives made by hand: OCI layouts and what docker saves, from lists of tar entries."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

Entry = tuple[str, bytes | None] | tarfile.TarInfo


def layer(*entries: Entry) -> bytes:
    """A layer's tar: ``(name, content)`` for files, ``(name, None)`` for directories, or a TarInfo for anything else."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            name, content = entry
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                info.size, info.mode = len(content), 0o755
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def link(name: str, target: str, *, hard: bool = False) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = (tarfile.LNKTYPE if hard else tarfile.SYMTYPE), target
    return info


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def config(layers: list[bytes], **values: Any) -> bytes:
    body = {
        "architecture": "amd64",
        "os": "linux",
        "config": values,
        "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in layers]},
    }
    return json.dumps(body).encode()


def oci(path: Path, name: str, layers: list[bytes], **values: Any) -> dict[str, bytes]:
    """Write an OCI archive with gzipped layers; its blobs by digest."""
    packed = [gzip.compress(one, mtime=0) for one in layers]
    body = config(layers, **values)
    blobs = {digest(one): one for one in [body, *packed]}
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(body), "size": len(body)},
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(one), "size": len(one)}
                for one in packed
            ],
        }
    ).encode()
    blobs[digest(manifest)] = manifest
    descriptor = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(manifest),
        "size": len(manifest),
        "annotations": {"io.containerd.image.name": name},
    }
    with tarfile.open(path, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode())
        for key, data in blobs.items():
            _add(tar, "blobs/" + key.replace(":", "/"), data)
    return {"manifest": manifest, **blobs}


def docker(path: Path, name: str, layers: list[bytes], **values: Any) -> None:
    """Write what `docker save` writes."""
    body = config(layers, **values)
    with tarfile.open(path, "w:gz") as tar:
        for number, one in enumerate(layers):
            _add(tar, f"{number}/layer.tar", one)
        _add(tar, "config.json", body)
        listing = [
            {"Config": "config.json", "RepoTags": [name], "Layers": [f"{number}/layer.tar" for number in range(len(layers))]}
        ]
        _add(tar, "manifest.json", json.dumps(listing).encode())
