"""Images from archives: an OCI layout in a tar (``skopeo copy … oci-archive:``), or what ``docker save`` writes; gzipped or not."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kubeling.crilite import reference
from kubeling.crilite.content import Content, chunks_of
from kubeling.crilite.errors import CriError, InvalidArgument
from kubeling.crilite.manifests import INDEX_TYPES, MAX_DEPTH, MAX_METADATA, blobs_of, for_this_machine, parse

_NAME_KEYS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


class _Archive:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {os.path.normpath(member.name): member for member in tar.getmembers()}

    def open(self, name: str) -> BinaryIO | None:
        name = os.path.normpath(name)
        for _ in range(10):
            member = self._members.get(name)
            if member is None:
                return None
            if not member.issym():
                return self._tar.extractfile(member)  # type: ignore[return-value]
            # Old `docker save` links equal layers to each other.
            name = os.path.normpath(os.path.join(os.path.dirname(name), member.linkname))
        return None

    def must_open(self, name: str) -> BinaryIO:
        found = self.open(name)
        if found is None:
            raise CriError(f"the archive has no {name}")
        return found

    def document(self, name: str) -> Any:
        found = self.open(name)
        if found is None:
            return None
        try:
            return json.loads(found.read(MAX_METADATA))
        except ValueError as error:
            raise CriError(f"{name} in the archive cannot be read: {error}") from error


def load(content: Content, path: str | Path, name: str = "") -> list[tuple[str, list[str]]]:
    """Load all images of the archive at `path`; (id, names) of each. `name` names an image that has no name in the archive."""
    try:
        tar = tarfile.open(path, "r:*")  # noqa: SIM115 - closed below
    except (tarfile.TarError, EOFError) as error:
        raise InvalidArgument(f"{path} is not a tar archive: {error}") from error
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror or error}") from error
    with tar, content.locked():
        archive = _Archive(tar)
        listing = archive.document("manifest.json")
        index = archive.document("index.json")
        if index is not None and not (listing and not any(True for _ in _named(index))):
            return list(_load_oci(content, archive, index, name))
        if listing is not None:
            return [_load_docker(content, archive, entry, name) for entry in listing]
    raise InvalidArgument(f"{path} holds no image: neither an OCI layout nor what docker saves")


def _named(index: dict[str, Any]) -> Iterator[str]:
    for descriptor in index.get("manifests", []):
        annotations = descriptor.get("annotations") or {}
        for key in _NAME_KEYS:
            if annotations.get(key):
                yield annotations[key]


def _load_oci(content: Content, archive: _Archive, index: dict[str, Any], name: str) -> Iterator[tuple[str, list[str]]]:
    for descriptor in index.get("manifests", []):
        annotations = descriptor.get("annotations") or {}
        given = next((annotations[key] for key in _NAME_KEYS if annotations.get(key)), "")
        tags = [_full_name(given, name)] if given or name else []
        manifest, body = _manifest(content, archive, descriptor)
        config, *layers = [digest for digest, _ in blobs_of(body, given or manifest)]
        for blob in (config, *layers):
            if not content.has_blob(blob):
                content.add_blob(chunks_of(archive.must_open(_blob_name(blob))), blob)
        digests = [f"{reference.parse(tag).name}@{manifest}" for tag in tags]
        yield content.register(config, layers, tags, digests, manifest), tags


def _manifest(content: Content, archive: _Archive, descriptor: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(digest, manifest) of what `descriptor` means on this machine."""
    for _ in range(MAX_DEPTH):
        body = parse(_store_small(content, archive, descriptor["digest"]), descriptor["digest"])
        if (descriptor.get("mediaType") or body.get("mediaType")) not in INDEX_TYPES:
            return str(descriptor["digest"]), body
        descriptor = for_this_machine(body)
    raise CriError(f"{descriptor['digest']}: indexes of indexes of indexes")


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _store_small(content: Content, archive: _Archive, digest: str) -> bytes:
    data = archive.must_open(_blob_name(digest)).read(MAX_METADATA)
    content.add_blob([data], digest)
    return data


def _full_name(given: str, fallback: str) -> str:
    """An archive may hold a whole name or only a tag; a tag alone needs the name that the user gives."""
    if fallback:
        return str(reference.parse(fallback))
    if "/" not in given and ":" not in given and "." in given:
        raise InvalidArgument(f"the archive names its image only {given!r}: give the whole name with --name")
    return str(reference.parse(given))


def _load_docker(content: Content, archive: _Archive, entry: dict[str, Any], name: str) -> tuple[str, list[str]]:
    config = archive.must_open(entry["Config"]).read(MAX_METADATA)
    # Old archives name it by what it must be.
    promised = re.fullmatch(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?", entry["Config"])
    config_digest = content.add_blob([config], f"sha256:{promised[1]}" if promised else "")
    layers = [content.add_blob(chunks_of(archive.must_open(layer))) for layer in entry["Layers"]]
    tags = [str(reference.parse(tag)) for tag in (entry.get("RepoTags") or ([name] if name else []))]
    return content.register(config_digest, layers, tags, []), tags
