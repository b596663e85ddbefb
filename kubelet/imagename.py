"""Image references: are they well formed, which tag do they mean, and which registry has the password."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kubeling.api.meta import Object

_PART = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[+.-_][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_DEFAULT_REGISTRY = "docker.io"


class InvalidName(ValueError):
    """The reference is not one; the text is upstream's."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed image name."""

    registry: str
    path: str
    tag: str
    digest: str


def parse(image: str) -> Reference:
    """Take an image reference apart. InvalidName where it is malformed."""
    found = _REFERENCE.fullmatch(image)
    if found is None or len(found["path"]) > 255:
        words = "repository name must be lowercase" if _REFERENCE.fullmatch(image.lower()) else "invalid reference format"
        raise InvalidName(f'couldn\'t parse image name "{image}": {words}')
    domain, path = found["domain"] or "", found["path"]
    if domain and not ("." in domain or ":" in domain or domain == "localhost" or domain != domain.lower()):
        domain, path = "", f"{domain}/{path}"
    if not domain:
        domain, path = _DEFAULT_REGISTRY, path if "/" in path else f"library/{path}"
    return Reference(domain, path, found["tag"] or "", found["digest"] or "")


def with_default_tag(image: str) -> str:
    """The reference as the runtime is asked for it: `:latest` where neither tag nor digest stands."""
    reference = parse(image)
    return image if reference.tag or reference.digest else f"{image}:latest"


def pull_policy(container: dict[str, Any]) -> str:
    """The container's policy; what the apiserver would have filled in where it is absent."""
    given = container.get("imagePullPolicy")
    if given:
        return str(given)
    reference = parse(container.get("image") or "")
    return "Always" if reference.tag in ("", "latest") and not reference.digest else "IfNotPresent"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a registry is told."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    server: str = ""


def credentials_for(image: str, secrets: Iterable[Object]) -> list[Credentials]:
    """All credentials in pull secrets that fit the image's registry (and path), the most specific first."""
    reference = parse(image)
    wanted = f"{reference.registry}/{reference.path}"
    found: list[tuple[int, Credentials]] = []
    for secret in secrets:
        for server, entry in _entries(secret).items():
            key = re.sub(r"^https?://", "", server).rstrip("/")
            key = re.sub(r"/v[12]$", "", key)
            if key == "index.docker.io":
                key = _DEFAULT_REGISTRY
            if key and _covers(key, wanted):
                found.append((len(key), _credentials(entry, server)))
    return [each for _, each in sorted(found, key=lambda pair: -pair[0])]


def _covers(key: str, wanted: str) -> bool:
    host, _, path = key.partition("/")
    registry, _, repository = wanted.partition("/")
    pattern = re.escape(host).replace(r"\*", "[^.]*")
    if not re.fullmatch(pattern, registry):
        return False
    return not path or repository == path or repository.startswith(path + "/")


def _entries(secret: Object) -> dict[str, dict[str, Any]]:
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            found = json.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths") or {}
        elif ".dockercfg" in data:
            found = json.loads(base64.b64decode(data[".dockercfg"]))
        else:
            return {}
    except (ValueError, AttributeError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, dict)} if isinstance(found, dict) else {}


def _credentials(entry: dict[str, Any], server: str) -> Credentials:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth") and not username:
        try:
            username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            pass  # An entry that cannot be read counts as one without a password.
    return Credentials(username, password, str(entry.get("identitytoken") or ""), server)
