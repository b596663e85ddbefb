"""Credentials from a file in docker's form: ``{"auths": {"registry.example.org": {"auth": "<base64 of user:password>"}}}``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kubeling.crilite.credentials import DOCKER
from kubeling.crilite.errors import InvalidArgument
from kubeling.crilite.reference import Reference
from kubeling.proto import cri_pb2


def find(path: Path, wanted: Reference) -> cri_pb2.AuthConfig:
    """What `path` has for `wanted`, the most specific entry first; empty for nothing."""
    try:
        entries: dict[str, Any] = json.loads(path.read_bytes()).get("auths") or {}
        named = {_bare(key): value for key, value in entries.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"the credentials in {path} cannot be read: {error}") from error
    parts = wanted.name.split("/")
    for size in range(len(parts), 0, -1):
        hosts = DOCKER if parts[0] in DOCKER else {parts[0]}
        for host in sorted(hosts):
            entry = named.get("/".join([host, *parts[1:size]]))
            if isinstance(entry, dict):
                return cri_pb2.AuthConfig(
                    username=str(entry.get("username") or ""),
                    password=str(entry.get("password") or ""),
                    auth=str(entry.get("auth") or ""),
                    identity_token=str(entry.get("identitytoken") or ""),
                    registry_token=str(entry.get("registrytoken") or ""),
                )
    return cri_pb2.AuthConfig()


def _bare(key: str) -> str:
    key = key.partition("://")[2] if "://" in key else key
    # docker's own registry is filed under the URL of its first API.
    return key.rstrip("/").removesuffix("/v1").removesuffix("/v2")
