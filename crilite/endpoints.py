"""Where an image is fetched from: the registry itself and its mirrors, with how each is to be spoken to.

The administrator's file for a registry is ``<registry-config-dir>/<registry>/hosts.toml`` (``_default`` for all others), in the form that containerd
reads too::

    server = "https://registry.example.org"
    [host."https://mirror.example.org"]
      capabilities = ["pull", "resolve"]   # without "resolve" it is asked for digests only, never for what a tag means
      ca = "/etc/mirror-ca.pem"            # also: client, skip_verify, override_path, header

``--registry-mirror REGISTRY=URL`` is the short form of one such entry. Mirrors are asked in order, the registry comes last.

A loopback registry is spoken to without TLS; one that ``--insecure-registry`` names by TLS whose certificate nobody checks, or without TLS where it
has none. All others must show a certificate of a known authority.
"""

from __future__ import annotations

import ipaddress
import ssl
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubeling.crilite.errors import CriError

_HOSTS = {"docker.io": "registry-1.docker.io"}
_ALL = frozenset({"pull", "resolve"})


@dataclass(frozen=True, slots=True)
class Registries:
    """What the node's administrator says about registries."""

    insecure: tuple[str, ...] = ()
    #: ``REGISTRY=URL``, the first is asked first.
    mirrors: tuple[str, ...] = ()
    config_dir: Path | None = None
    #: A registry that sends nothing for so long (seconds) is taken for gone.
    idle: float = 60.0
    #: Blobs of one image that are fetched at the same time.
    parallel: int = 3


@dataclass(frozen=True, slots=True)
class Endpoint:
    #: Everything before the name of the repository, without a slash at its end.
    base: str
    #: The registry that it stands for, where it is not that registry itself.
    mirror_of: str = ""
    capabilities: frozenset[str] = _ALL
    verify: bool = True
    ca: tuple[str, ...] = ()
    client: tuple[tuple[str, str], ...] = ()
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return urlsplit(self.base).netloc

    def tls(self) -> ssl.SSLContext | bool:
        """For httpx."""
        if not self.base.startswith("https:"):
            return False
        context = ssl.create_default_context()
        try:
            for path in self.ca:
                context.load_verify_locations(path)
            for certificate, key in self.client:
                context.load_cert_chain(certificate, key or None)
        except (OSError, ssl.SSLError) as error:
            raise CriError(f"registry {self.host}: a certificate in hosts.toml cannot be used: {error}") from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def endpoints(registry: str, config: Registries) -> list[Endpoint]:
    """Where to ask for images of `registry`, in order. A hosts.toml that cannot be read is a CriError: going elsewhere would hide the mistake."""
    found = [
        Endpoint(_base(url, override=False), mirror_of=registry)
        for name, _, url in (entry.partition("=") for entry in config.mirrors)
        if name in (registry, "*")
    ]
    own = _own(registry, config)
    path = _file(registry, config.config_dir)
    if path is not None:
        try:
            text = tomllib.loads(path.read_text())
            found += list(_from_file(registry, text, path.parent))
            if text.get("server") or any(key in text for key in _SETTINGS):
                own = [_entry(str(text.get("server") or f"https://{_HOSTS.get(registry, registry)}"), text, "", path.parent)]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CriError(f"{path}: {error}") from error
    return [*found, *own]


_SETTINGS = ("ca", "client", "skip_verify", "override_path", "header", "capabilities")


def _from_file(registry: str, text: dict[str, Any], folder: Path) -> Iterator[Endpoint]:
    for url, entry in (text.get("host") or {}).items():
        yield _entry(url, entry, registry, folder)


def _entry(url: str, entry: dict[str, Any], mirror_of: str, folder: Path) -> Endpoint:
    ca = entry.get("ca") or []
    client = entry.get("client") or []
    if isinstance(client, str) or (
        len(client) == 2 and all(isinstance(one, str) for one in client) and str(client[1]).endswith(("key", "key.pem"))
    ):
        client = [client]
    pairs = [(one, "") if isinstance(one, str) else (one[0], one[1] if len(one) > 1 else "") for one in client]
    headers = {
        str(name): value if isinstance(value, str) else ", ".join(value) for name, value in (entry.get("header") or {}).items()
    }
    return Endpoint(
        _base(url, override=bool(entry.get("override_path"))),
        mirror_of=mirror_of,
        capabilities=frozenset(entry.get("capabilities") or _ALL),
        verify=not entry.get("skip_verify"),
        ca=tuple(str(folder / one) for one in ([ca] if isinstance(ca, str) else ca)),
        client=tuple((str(folder / one), str(folder / two) if two else "") for one, two in pairs),
        headers=headers,
    )


def _own(registry: str, config: Registries) -> list[Endpoint]:
    host = _HOSTS.get(registry, registry)
    if _named(registry, config.insecure):
        return [Endpoint(f"https://{host}/v2", verify=False), Endpoint(f"http://{host}/v2")]
    return [Endpoint(f"http://{host}/v2" if _is_loopback(registry) else f"https://{host}/v2")]


def _base(url: str, *, override: bool) -> str:
    if "://" not in url:
        url = f"https://{url}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{url!r} is not the URL of a registry")
    url = url.rstrip("/")
    return url if override or url.endswith("/v2") else f"{url}/v2"


def _file(registry: str, folder: Path | None) -> Path | None:
    if folder is None:
        return None
    host, _, port = registry.rpartition(":")
    names = [registry, *([f"{host}_{port}_"] if host else []), "_default"]
    return next((path for path in (folder / name / "hosts.toml" for name in names) if path.is_file()), None)


def _bare(registry: str) -> str:
    host, _, port = registry.rpartition(":")
    return host if host and port.isdigit() else registry


def _named(registry: str, insecure: tuple[str, ...]) -> bool:
    return registry in insecure or _bare(registry) in insecure


def _is_loopback(registry: str) -> bool:
    host = _bare(registry)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
