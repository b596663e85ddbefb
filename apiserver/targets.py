"""From a `clientConfig` (of a webhook, of a conversion) to where its server is.

A URL is taken as it is. A Service is resolved here: its ready endpoints first, in random order, then its cluster IP, so that a call neither needs a proxy on
this machine nor fails because one endpoint has just gone. The certificate must be for `<name>.<namespace>.svc`, whatever was dialled.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import urlsplit

from kubeling.api import resources
from kubeling.api.names import Random
from kubeling.apiserver.outbound import CallFailed, Target
from kubeling.apiserver.registry.kinds import Kinds

_MAX_ENDPOINTS = 3
_NAME = "kubernetes.io/service-name"


class Targets:
    """Looks Services and their endpoints up."""

    def __init__(self, kinds: Kinds, random: Random) -> None:
        self._kinds = kinds
        self._random = random

    async def of(self, config: dict[str, Any]) -> Target:
        """Raises CallFailed where there is no such server."""
        authorities = _pem(config.get("caBundle") or "")
        service = config.get("service")
        if not service:
            return of_url(config.get("url") or "", authorities)
        namespace, name, port = service.get("namespace") or "", service.get("name") or "", service.get("port") or 443
        path = "/" + (service.get("path") or "").lstrip("/")
        server = f"{name}.{namespace}.svc"
        addresses = await self.addresses(namespace, name, port)
        return Target(f"https://{server}:{port}{path}", f"{server}:{port}", path, server, addresses, authorities)

    async def addresses(self, namespace: str, name: str, port: int) -> tuple[tuple[str, int], ...]:
        """Where a port of a Service is served. Raises CallFailed."""
        entry = await self._kinds.store(resources.SERVICES).peek(namespace, name)
        if entry is None:
            raise CallFailed(f'service "{name}" not found')
        spec = entry.object().get("spec") or {}
        if spec.get("type") == "ExternalName":
            return ((spec.get("externalName") or "", port),)
        found = next((each for each in spec.get("ports") or () if each.get("port") == port), None)
        if found is None:
            raise CallFailed(f'no service port {port} found for service "{name}"')
        endpoints = await self._endpoints(namespace, name, found.get("name") or "")
        address = spec.get("clusterIP") or ""
        virtual = ((address, port),) if address not in ("", "None") else ()
        if not endpoints and not virtual:
            raise CallFailed(f'no endpoints available for service "{name}"')
        return (*endpoints, *virtual)

    async def _endpoints(self, namespace: str, name: str, port: str) -> list[tuple[str, int]]:
        store = self._kinds.store(resources.ENDPOINT_SLICES)
        await store.cache.ready()
        found: list[tuple[str, int]] = []
        for entry in store.cache.entries(store.collection(namespace)):
            if entry.labels.get(_NAME) != name:
                continue
            obj = entry.object()
            numbers = [each["port"] for each in obj.get("ports") or () if (each.get("name") or "") == port and each.get("port")]
            for endpoint in obj.get("endpoints") or ():
                ready = (endpoint.get("conditions") or {}).get("ready")
                if ready is not False and endpoint.get("addresses"):
                    found += [(endpoint["addresses"][0], number) for number in numbers]
        while len(found) > _MAX_ENDPOINTS:
            del found[self._random.randrange(len(found))]
        if len(found) > 1:
            at = self._random.randrange(len(found))
            found = found[at:] + found[:at]
        return found


def of_url(url: str, authorities: str = "") -> Target:
    """The server that a URL names. Raises CallFailed."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    host = parts.hostname or ""
    if not host or parts.scheme not in ("https", "http"):
        raise CallFailed(f"{url!r} is no URL of a server")
    tls = parts.scheme == "https"
    port = port or (443 if tls else 80)
    path = parts.path or "/"
    return Target(url, parts.netloc.rpartition("@")[2], path, host, ((host, port),), authorities, tls)


def _pem(bundle: str) -> str:
    """base64 to text; what is neither is refused when it is used."""
    try:
        return base64.b64decode(bundle, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        raise CallFailed("unable to load root certificates: unable to parse bytes as PEM block") from None
