"""Pulling from a registry by the OCI distribution protocol: anonymous, Basic and Bearer authentication, indexes by platform, verified digests.

TLS unless the registry was named insecure (``--insecure-registry``) or is a loopback address.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx

from kubeling.crilite.archive import INDEX_TYPES, MANIFEST_TYPES, MAX_METADATA, choose_platform
from kubeling.crilite.content import Content
from kubeling.crilite.errors import CriError, FailedPrecondition, NotFound
from kubeling.crilite.reference import Reference
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.proto import cri_pb2

log = get_logger("crilite.registry")

_HOSTS = {"docker.io": "registry-1.docker.io"}
_ATTEMPTS = 3
_PARALLEL_LAYERS = 3
_TIMEOUT = httpx.Timeout(30.0, read=60.0)


async def pull(content: Content, wanted: Reference, auth: cri_pb2.AuthConfig, insecure: tuple[str, ...]) -> str:
    """Fetch what is missing of the image, and register it; its id."""
    host = _HOSTS.get(wanted.registry, wanted.registry)
    scheme = "http" if _is_insecure(wanted.registry, insecure) else "https"
    async with httpx.AsyncClient(
        base_url=f"{scheme}://{host}/v2/{wanted.repository}", timeout=_TIMEOUT, follow_redirects=True
    ) as client:
        remote = _Remote(client, wanted, auth)
        try:
            return await _pull(content, wanted, remote)
        except httpx.HTTPError as error:
            raise CriError(f"cannot pull {wanted}: {error or type(error).__name__}") from error


async def _pull(content: Content, wanted: Reference, remote: _Remote) -> str:
    kind, digest, top = await remote.manifest(wanted.digest or wanted.tag)
    documents = {digest: top}
    if kind in INDEX_TYPES:
        chosen = choose_platform({"mediaType": kind, "digest": digest}, lambda one: json.loads(documents[one]))
        _, _, documents[chosen] = await remote.manifest(chosen)
    else:
        chosen = digest
    manifest = json.loads(documents[chosen])
    if "config" not in manifest:
        raise CriError(f"{wanted} has an old manifest (schema 1), which is not supported")
    blobs = [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    limit = asyncio.Semaphore(_PARALLEL_LAYERS)

    async def fetch(one: str) -> None:
        async with limit:
            if not content.has_blob(one):
                await remote.blob(content, one)

    try:
        async with asyncio.TaskGroup() as group:
            for one in dict.fromkeys(blobs):
                group.create_task(fetch(one))
    except ExceptionGroup as failures:
        # One is enough to say what is wrong; the others are mostly its consequences.
        raise failures.exceptions[0] from None
    # The digest that names the image is what the tag stands for, be it an index.
    names = [str(Reference(wanted.registry, wanted.repository, wanted.tag))] if wanted.tag and not wanted.digest else []

    def register() -> str:
        with content.locked():
            content.add_blob([documents[chosen]], chosen)
            return content.register(blobs[0], blobs[1:], names, [f"{wanted.name}@{digest}"], chosen)

    return await asyncio.to_thread(register)


class _Remote:
    """One repository, with what it wants to see of our credentials."""

    def __init__(self, client: httpx.AsyncClient, wanted: Reference, auth: cri_pb2.AuthConfig) -> None:
        self._client = client
        self._wanted = wanted
        self._auth = auth
        self._header = f"Bearer {auth.registry_token}" if auth.registry_token else ""

    async def manifest(self, what: str) -> tuple[str, str, bytes]:
        """(media type, digest, bytes) of a manifest or an index, by tag or by digest."""
        from hashlib import sha256

        response = await self._get(f"/manifests/{what}", ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES)))
        data = response.content
        if len(data) > MAX_METADATA:
            raise CriError(f"the manifest of {self._wanted} is too large")
        digest = "sha256:" + sha256(data).hexdigest()
        if what.startswith("sha256:") and what != digest:
            raise CriError(f"the registry sent another manifest of {self._wanted} than {what}: {digest}")
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        if kind not in MANIFEST_TYPES | INDEX_TYPES:
            kind = json.loads(data).get("mediaType", "")
        return kind, digest, data

    async def _get(self, path: str, accept: str) -> httpx.Response:
        for _ in range(2):
            response = await self._client.get(str(self._client.base_url).rstrip("/") + path, headers=self._headers(accept))
            if response.status_code == 401 and await self._authenticate(response):
                continue
            break
        self._check(response)
        return response

    async def blob(self, content: Content, digest: str) -> None:
        """Download one blob; a connection that breaks off is tried again, a lie about the content is not."""
        backoff = Backoff(base=0.2, limit=5)
        for attempt in range(_ATTEMPTS):
            incoming = content.incoming()
            try:
                async for chunk in self._stream(f"/blobs/{digest}"):
                    incoming.write(chunk)
                incoming.finish(digest)
                return
            except httpx.TransportError as error:
                if attempt == _ATTEMPTS - 1:
                    raise
                log.warning("a download broke off and is tried again", digest=digest, error=error)
                await asyncio.sleep(backoff.next())
            finally:
                incoming.close()

    async def _stream(self, path: str) -> AsyncIterator[bytes]:
        url = str(self._client.base_url).rstrip("/") + path
        for last in (False, True):
            async with self._client.stream("GET", url, headers=self._headers("*/*")) as response:
                if response.status_code == 401 and not last:
                    await response.aread()
                    if await self._authenticate(response):
                        continue
                self._check(response)
                async for chunk in response.aiter_raw(1 << 20):
                    yield chunk
                return

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": "kubeling-crilite", "Accept-Encoding": "identity"}
        if self._header:
            headers["Authorization"] = self._header
        return headers

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == 404:
            raise NotFound(f"{self._wanted}: not found")
        if status in (401, 403):
            raise FailedPrecondition(
                f"{self._wanted}: pull access denied, the repository does not exist or may require authorization"
            )
        if status >= 400:
            raise CriError(f"{self._wanted}: the registry answers {status} {response.reason_phrase}")

    async def _authenticate(self, response: httpx.Response) -> bool:
        """Take up the registry's challenge; False when nothing new can be offered."""
        challenge = response.headers.get("www-authenticate", "")
        scheme, _, rest = challenge.partition(" ")
        credentials = self._credentials()
        before = self._header
        if scheme.lower() == "basic" and credentials:
            self._header = "Basic " + base64.b64encode(credentials.encode()).decode()
        elif scheme.lower() == "bearer":
            token = await self._token(dict(re.findall(r'(\w+)="([^"]*)"', rest)), credentials)
            self._header = f"Bearer {token}"
        return self._header != before

    async def _token(self, challenge: dict[str, str], credentials: str) -> str:
        realm = challenge.get("realm", "")
        if not realm.startswith(("https://", "http://")):
            raise CriError(f"the registry of {self._wanted} sends to an unusable token service: {realm!r}")
        parameters = {"scope": challenge.get("scope") or f"repository:{self._wanted.repository}:pull"}
        if "service" in challenge:
            parameters["service"] = challenge["service"]
        headers = {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()} if credentials else {}
        answer = await self._client.get(realm, params=parameters, headers=headers)
        self._check(answer)
        body: dict[str, Any] = answer.json()
        token = body.get("token") or body.get("access_token")
        if not isinstance(token, str):
            raise CriError(f"the token service of {self._wanted} gives no token")
        return token

    def _credentials(self) -> str:
        if self._auth.username:
            return f"{self._auth.username}:{self._auth.password}"
        return base64.b64decode(self._auth.auth).decode() if self._auth.auth else ""


def _is_insecure(registry: str, insecure: tuple[str, ...]) -> bool:
    host = registry.rpartition(":")[0] or registry
    if registry in insecure or host in insecure or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
