"""What a registry wants to see before it answers: Basic credentials, or a token that its token service gives for them.

Credentials come with the call (a kubelet takes them from image pull secrets). They go to the registry that they are for, and to nobody else: not to its
mirrors, whose headers are in hosts.toml, and not without TLS to the token service of a registry that has TLS.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import fnmatch
import re
from typing import Any
from urllib.parse import urlsplit

import httpx

from kubeling.crilite.endpoints import Endpoint
from kubeling.crilite.errors import CriError, FailedPrecondition, InvalidArgument
from kubeling.proto import cri_pb2

DOCKER = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_CLIENT = "kubeling-crilite"


class Credentials:
    """Those of one endpoint, with the header that the last challenge led to."""

    def __init__(self, endpoint: Endpoint, registry: str, repository: str, auth: cri_pb2.AuthConfig) -> None:
        self._endpoint = endpoint
        self._repository = repository
        self._auth = auth if _is_meant(endpoint, registry, auth.server_address) else cri_pb2.AuthConfig()
        self._lock = asyncio.Lock()
        self.header = f"Bearer {self._auth.registry_token}" if self._auth.registry_token else ""

    async def answer(self, client: httpx.AsyncClient, response: httpx.Response, used: str) -> bool:
        """Take up the challenge of `response`, whose request had the header `used`; False when nothing new can be offered."""
        async with self._lock:
            if self.header != used:
                return True  # Another download has been asked the same meanwhile.
            schemes = {
                scheme.lower(): rest
                for scheme, _, rest in (one.partition(" ") for one in response.headers.get_list("www-authenticate"))
            }
            pair = self._pair()
            if "bearer" in schemes:
                self.header = f"Bearer {await self._token(client, dict(_PARAMETER.findall(schemes['bearer'])), pair)}"
            elif "basic" in schemes and pair:
                self.header = _basic(pair)
            return self.header != used

    async def _token(self, client: httpx.AsyncClient, challenge: dict[str, str], pair: str) -> str:
        realm = challenge.get("realm", "")
        if not realm.startswith(("https://", "http://")):
            raise CriError(f"the registry {self._endpoint.host} sends to an unusable token service: {realm!r}")
        secret = pair or self._auth.identity_token
        if secret and self._endpoint.base.startswith("https:") and not realm.startswith("https:"):
            raise CriError(f"the registry {self._endpoint.host} wants the credentials sent to {realm}, without TLS")
        parameters = {"scope": challenge.get("scope") or f"repository:{self._repository}:pull"}
        if "service" in challenge:
            parameters["service"] = challenge["service"]
        if self._auth.identity_token:
            form = {**parameters, "grant_type": "refresh_token", "refresh_token": self._auth.identity_token, "client_id": _CLIENT}
            reply = await client.post(realm, data=form)
        else:
            reply = await client.get(realm, params=parameters, headers={"Authorization": _basic(pair)} if pair else {})
        if reply.status_code in (400, 401, 403):
            raise FailedPrecondition(
                f"{self._repository}: pull access denied, the token service of {self._endpoint.host} answers {reply.status_code}"
            )
        if reply.status_code >= 400:
            raise CriError(f"the token service of {self._endpoint.host} answers {reply.status_code} {reply.reason_phrase}")
        try:
            body: dict[str, Any] = reply.json()
            token = body.get("token") or body.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str):
            raise CriError(f"the token service of {self._endpoint.host} gives no token")
        return token

    def _pair(self) -> str:
        if self._auth.username:
            return f"{self._auth.username}:{self._auth.password}"
        try:
            return base64.b64decode(self._auth.auth, validate=True).decode().rstrip("\0")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InvalidArgument("the image pull credentials are not base64 of user:password") from error


_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


def _basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _is_meant(endpoint: Endpoint, registry: str, address: str) -> bool:
    """Whether credentials for `address` (empty: for the registry of the image) may be shown to `endpoint`."""
    host = urlsplit(address if "://" in address else f"//{address}").netloc
    if not host:
        return not endpoint.mirror_of
    own = DOCKER if registry in DOCKER else {registry}
    if fnmatch.fnmatchcase(endpoint.host, host):
        return True
    # Whoever gave them may have them for a pattern of registries, as docker's file allows.
    return not endpoint.mirror_of and any(fnmatch.fnmatchcase(one, host) for one in own)
