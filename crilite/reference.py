"""Image names: ``[registry/]repository[:tag][@digest]``, completed the way every container tool does it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubeling.crilite.errors import InvalidArgument

_DEFAULT_REGISTRY = "docker.io"
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]{32,}")


@dataclass(frozen=True, slots=True)
class Reference:
    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """`text` with the registry and, if it has neither tag nor digest, the tag ``latest`` filled in."""
    rest, _, digest = text.partition("@")
    head, slash, tail = rest.rpartition("/")
    tail, colon, tag = tail.partition(":")
    rest = head + slash + tail
    first, slash, remainder = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, repository = first, remainder
    else:
        registry, repository = _DEFAULT_REGISTRY, rest if slash else f"library/{rest}"
    if registry == "index.docker.io":
        registry = _DEFAULT_REGISTRY
    if (
        not _REGISTRY.fullmatch(registry)
        or not _REPOSITORY.fullmatch(repository)
        or (colon and not _TAG.fullmatch(tag))
        or (digest and not _DIGEST.fullmatch(digest))
    ):
        raise InvalidArgument(f"{text!r} is not the name of an image")
    return Reference(registry, repository, tag if tag or digest else "latest", digest)
