"""The documents of an image: manifests, and indexes that name one for each platform."""

from __future__ import annotations

import json
import os
from typing import Any

from kubeling.crilite.errors import CriError

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
INDEX_TYPES = frozenset({OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"})
#: Manifests and configurations are small; layers go by in pieces.
MAX_METADATA = 8 << 20
#: Indexes may name indexes, but not for ever.
MAX_DEPTH = 4

#: Kernel name of a machine to (architecture, variants that run on it, the best first).
_MACHINES = {
    "x86_64": ("amd64", ("", "v1")),
    "aarch64": ("arm64", ("v8", "")),
    "armv7l": ("arm", ("v7", "v6", "v5", "")),
    "armv6l": ("arm", ("v6", "v5", "")),
    "i686": ("386", ("",)),
}


def platform() -> tuple[str, tuple[str, ...]]:
    """(architecture, variants) of this machine in the words of the image specification."""
    machine = os.uname().machine
    return _MACHINES.get(machine, (machine, ("",)))


def parse(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `data`."""
    try:
        body = json.loads(data)
    except ValueError as error:
        raise CriError(f"{what} cannot be read: {error}") from error
    if not isinstance(body, dict):
        raise CriError(f"{what} is not an object")
    return body


def for_this_machine(index: dict[str, Any]) -> dict[str, Any]:
    """The descriptor in `index` of the manifest (or of the next index) for the platform that this machine is."""
    wanted, variants = platform()
    best: dict[str, Any] | None = None
    rank = len(variants)
    entries = index.get("manifests") or []
    for entry in entries:
        one = entry.get("platform") or {}
        if one.get("os", "linux") != "linux" or one.get("architecture", wanted) != wanted:
            continue
        variant = one.get("variant", "")
        if variant in variants and variants.index(variant) < rank:
            best, rank = entry, variants.index(variant)
    if best is not None:
        return best
    there = ", ".join(sorted({_platform_name(entry.get("platform") or {}) for entry in entries}))
    raise CriError(f"the image is not made for linux/{wanted}; it is for: {there or 'nothing'}")


def _platform_name(one: dict[str, Any]) -> str:
    return "/".join(str(one[key]) for key in ("os", "architecture", "variant") if one.get(key)) or "any"


def blobs_of(manifest: dict[str, Any], what: str) -> list[tuple[str, int]]:
    """(digest, size) of the configuration and of each layer of `manifest`, in this order."""
    if "config" not in manifest or "layers" not in manifest:
        raise CriError(f"{what} has an old manifest (schema 1), or none of an image, which is not supported")
    try:
        return [(str(one["digest"]), int(one["size"])) for one in (manifest["config"], *manifest["layers"])]
    except (KeyError, TypeError, ValueError) as error:
        raise CriError(f"the manifest of {what} is broken: {error!r}") from error
