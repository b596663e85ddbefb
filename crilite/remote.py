"""One repository at one endpoint, by the OCI distribution protocol.

A download that breaks off is resumed by a Range request where it stopped. Attempts that brought something do not count: only a registry that brings
nothing several times in a row is given up. What has the wrong digest is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

import httpx

from kubeling.crilite.content import Content
from kubeling.crilite.credentials import Credentials
from kubeling.crilite.endpoints import Endpoint
from kubeling.crilite.errors import CriError, FailedPrecondition, NotFound
from kubeling.crilite.incoming import Incoming
from kubeling.crilite.manifests import INDEX_TYPES, MANIFEST_TYPES, MAX_METADATA, parse
from kubeling.crilite.reference import Reference
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.proto import cri_pb2

log = get_logger("crilite.remote")

_ATTEMPTS = 5
_FLUSH = 256 << 10
_ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
#: Answers after which another attempt may have more luck.
_PASSING = frozenset({408, 429, 500, 502, 503, 504})

#: Is told how many bytes of a blob are here.
Seen = Callable[[int], None]


async def in_thread(work: Callable[..., Any], *args: Any) -> None:
    """Like asyncio.to_thread, but whoever is cancelled waits for the end of `work`: what it works on is about to be closed."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class Remote:
    """Use it as a context."""

    def __init__(self, endpoint: Endpoint, wanted: Reference, auth: cri_pb2.AuthConfig, idle: float) -> None:
        self.endpoint = endpoint
        self._wanted = wanted
        self._credentials = Credentials(endpoint, wanted.registry, wanted.repository, auth)
        self._url = f"{endpoint.base}/{wanted.repository}"
        self._parameters = {"ns": endpoint.mirror_of} if endpoint.mirror_of else {}
        timeout = httpx.Timeout(min(30.0, idle), read=idle)
        self._client = httpx.AsyncClient(
            timeout=timeout, verify=endpoint.tls(), follow_redirects=True, headers={"User-Agent": "kubeling-crilite"}
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._client.aclose()

    async def manifest(self, what: str) -> tuple[str, str, bytes]:
        """(media type, digest, bytes) of a manifest or an index, by tag or by digest."""
        backoff = Backoff(base=0.2, limit=5)
        while True:
            try:
                async with self._get(f"/manifests/{what}", {"Accept": _ACCEPT}) as response:
                    data = bytearray()
                    async for chunk in response.aiter_raw():
                        data += chunk
                        if len(data) > MAX_METADATA:
                            raise CriError(f"the manifest of {self._wanted} is too large")
                    break
            except httpx.TransportError as error:
                # A connection refused, or a name that is not known, will be so the next time.
                if backoff.failures >= 2 or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise
            await asyncio.sleep(backoff.next())
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if what.startswith("sha256:") and what != digest:
            raise CriError(f"content does not match its digest: manifest {what} was promised, {digest} came")
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        if kind not in MANIFEST_TYPES | INDEX_TYPES:
            kind = parse(bytes(data), f"the manifest of {self._wanted}").get("mediaType", "")
        return kind, digest, bytes(data)

    async def small_blob(self, digest: str) -> bytes:
        """A blob that is looked at and not kept."""
        async with self._get(f"/blobs/{digest}", {}) as response:
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > MAX_METADATA:
                    raise CriError(f"{digest} of {self._wanted} is too large")
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise CriError(f"content does not match its digest: {digest} was promised")
        return bytes(data)

    async def blob(self, content: Content, digest: str, size: int, seen: Seen) -> None:
        """Bring one blob into the store, or go on bringing it."""
        blob = content.incoming(digest, size)
        try:
            await in_thread(blob.resume)
            if blob.size:
                log.info("a download is resumed", digest=digest, at=blob.size, size=size)
                await self._whole(blob, digest, size, seen)
                with contextlib.suppress(CriError):
                    await in_thread(blob.finish)
                    return
                log.warning("what a download had begun with was wrong: from the beginning", digest=digest)
            await self._whole(blob, digest, size, seen)
            await in_thread(blob.finish)
        finally:
            blob.close()

    async def _whole(self, blob: Incoming, digest: str, size: int, seen: Seen) -> None:
        backoff = Backoff(base=0.2, limit=5)
        while blob.size < size:
            before = blob.size
            try:
                await self._fill(blob, digest, seen)
                return
            except httpx.TransportError as error:
                if blob.size > before:
                    backoff.reset()
                elif backoff.failures >= _ATTEMPTS - 1:
                    raise
                log.warning("a download broke off and is resumed", digest=digest, at=blob.size, size=size, error=repr(error))
            await asyncio.sleep(backoff.next())

    async def _fill(self, blob: Incoming, digest: str, seen: Seen) -> None:
        headers = {"Range": f"bytes={blob.size}-"} if blob.size else {}
        pending = bytearray()
        async with self._get(f"/blobs/{digest}", headers) as response:
            if response.status_code == 416:
                blob.restart()
                raise httpx.RemoteProtocolError("the registry has less of it than is here")
            start = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
            if response.status_code != 206 or not start or int(start[1]) != blob.size:
                blob.restart()
                if response.status_code == 206:
                    raise httpx.RemoteProtocolError("the registry resumes elsewhere than it was asked to")
            try:
                async for chunk in response.aiter_raw():
                    pending += chunk
                    if len(pending) >= _FLUSH:
                        data, pending = bytes(pending), bytearray()
                        await in_thread(blob.write, data)
                        seen(blob.size)
            finally:
                if pending:
                    blob.write(bytes(pending))
                    seen(blob.size)

    @contextlib.asynccontextmanager
    async def _get(self, path: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        for last in (False, False, True):
            used = self._credentials.header
            asked = {**self.endpoint.headers, "Accept": "*/*", "Accept-Encoding": "identity", **headers}
            if used:
                asked["Authorization"] = used
            async with self._client.stream("GET", self._url + path, headers=asked, params=self._parameters) as response:
                if response.status_code == 401 and not last:
                    await response.aread()
                    if await self._credentials.answer(self._client, response, used):
                        continue
                self._check(response)
                yield response
                return

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == 404:
            raise NotFound(f"{self._wanted}: not found")
        if status in (401, 403):
            raise FailedPrecondition(
                f"{self._wanted}: pull access denied, the repository does not exist or may require authorization"
            )
        if status in _PASSING:
            raise httpx.RemoteProtocolError(f"the registry answers {status} {response.reason_phrase}")
        if status >= 400 and status != 416:
            raise CriError(f"{self._wanted}: the registry answers {status} {response.reason_phrase}")
