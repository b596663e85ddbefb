"""The REST client: every verb on every resource, as coroutines over dicts.

One :class:`Client` is one identity against one cluster. It knows all of the cluster's apiservers: a request that never reached one goes to the next,
a read that broke off is asked again, and a write whose outcome is unknown is *not* repeated but raised as :class:`ConnectionFailed` - the caller,
who compares and sets, looks and decides. Refusals are :class:`kubeling.api.errors.ApiError` with the server's Status.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import httpx
import orjson

from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource
from kubeling.client.kubeconfig import ClientConfig
from kubeling.client.streams import SOCKET_OPTIONS, StreamTransport
from kubeling.client.wire import Answer, BrokenOff, NotSent, Wire
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger

log = get_logger("client")

Obj = dict[str, Any]
PatchType = Literal["json", "merge", "strategic", "apply"]
Params = Mapping[str, str | int | bool | None]

PATCH_TYPES: dict[PatchType, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_READ_ATTEMPTS = 5
_BUSY_ATTEMPTS = 8
_MAX_RETRY_AFTER = 30.0
#: With these an apiserver says that something behind it is not well, such as the store from which it is cut off: the next request goes to another one.
_UNWELL = frozenset({500, 502, 503, 504})
#: Requests under way at once; more wait their turn. A burst would otherwise open a connection each, and a TLS handshake costs more than most requests.
_PARALLEL = 16


class ConnectionFailed(Exception):
    """No apiserver answered. A write may or may not have taken effect."""


class Client:
    """``async with Client(config) as client: pod = await client.get(PODS, "web-1", "default")``."""

    def __init__(
        self,
        config: ClientConfig,
        *,
        user_agent: str = "kubeling",
        clock: Clock | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        """`on_warning` gets the text of each Warning that the server adds to an answer."""
        self.config = config
        self._on_warning = on_warning
        self._clock = clock or SystemClock()
        self._current = 0
        self._slots = asyncio.Semaphore(_PARALLEL)
        needs_tls = any(server.startswith("https:") for server in config.servers)
        context = config.ssl_context() if needs_tls else None
        headers = [
            ("user-agent", user_agent),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            *config.impersonation,
        ]
        if config.token:
            headers.append(("authorization", f"Bearer {config.token}"))
        elif config.basic:
            headers.append(("authorization", f"Basic {base64.b64encode(':'.join(config.basic).encode()).decode()}"))
        self._wire = Wire(context, headers=headers, server_name=config.tls_server_name, options=SOCKET_OPTIONS)
        self._streams = httpx.AsyncClient(
            transport=StreamTransport(context or False), timeout=_TIMEOUT, headers=headers, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()
        await self._streams.aclose()

    # -- verbs ---------------------------------------------------------------------------------------------------------------------

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        resource_version: str | None = None,
    ) -> Obj:
        """Read one object. `resource_version` "0" allows an answer from the server's cache."""
        return await self.request(
            "GET", resource.path(namespace, name, subresource), params={"resourceVersion": resource_version}
        )

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resource_version: str | None = None,
        limit: int | None = None,
        continue_token: str | None = None,
        accept: str | None = None,
    ) -> Obj:
        """Read a collection as its list object. Items carry no apiVersion and kind, as on the wire. `accept`: another form of it."""
        params = {
            "labelSelector": label_selector or None,
            "fieldSelector": field_selector or None,
            "resourceVersion": resource_version,
            "limit": limit,
            "continue": continue_token,
        }
        return await self.request("GET", resource.path(namespace), params=params, headers=_accepting(accept))

    async def create(
        self,
        resource: Resource,
        obj: Obj,
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
        params: Params | None = None,
    ) -> Obj:
        """Create an object (or, with `name` and `subresource`, post to a subresource such as `pods/x/binding`)."""
        where = namespace or obj.get("metadata", {}).get("namespace")
        return await self.request("POST", resource.path(where, name, subresource), body=obj, params=params)

    async def update(self, resource: Resource, obj: Obj, *, subresource: str | None = None, params: Params | None = None) -> Obj:
        """Replace an object; the resourceVersion in it makes that a compare-and-set."""
        meta = obj["metadata"]
        return await self.request("PUT", resource.path(meta.get("namespace"), meta["name"], subresource), body=obj, params=params)

    async def update_status(self, resource: Resource, obj: Obj) -> Obj:
        """Replace an object's status, nothing else of it."""
        return await self.update(resource, obj, subresource="status")

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Obj | Sequence[Any],
        namespace: str | None = None,
        *,
        patch_type: PatchType = "merge",
        subresource: str | None = None,
        field_manager: str | None = None,
        force: bool | None = None,
        params: Params | None = None,
    ) -> Obj:
        """Change an object in place. `apply` needs a `field_manager` and creates what is not there."""
        query = {"fieldManager": field_manager, "force": force, **(params or {})}
        return await self.request(
            "PATCH", resource.path(namespace, name, subresource), body=body, params=query, content_type=PATCH_TYPES[patch_type]
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        grace_period_seconds: int | None = None,
        propagation_policy: Literal["Background", "Foreground", "Orphan"] | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Obj:
        """Delete one object; `uid` and `resource_version` are preconditions (409 where they do not hold)."""
        preconditions = {key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value}
        options: Obj = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation_policy:
            options["propagationPolicy"] = propagation_policy
        if preconditions:
            options["preconditions"] = preconditions
        return await self.request("DELETE", resource.path(namespace, name), body=options)

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Obj:
        """Delete all that the selectors choose."""
        params = {"labelSelector": label_selector or None, "fieldSelector": field_selector or None}
        return await self.request("DELETE", resource.path(namespace), params=params)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_seconds: int | None = None,
        bookmarks: bool = True,
        accept: str | None = None,
        params: Params | None = None,
    ) -> AsyncIterator[tuple[str, Obj]]:
        """Follow a collection: yields (type, object) until the server ends the watch. Types are ADDED, MODIFIED, DELETED and BOOKMARK; an ERROR is raised."""
        query = {
            "watch": True,
            "resourceVersion": resource_version,
            "labelSelector": label_selector or None,
            "fieldSelector": field_selector or None,
            "timeoutSeconds": timeout_seconds,
            "allowWatchBookmarks": bookmarks or None,
            **(params or {}),
        }
        async for line in self.stream_lines("GET", resource.path(namespace), params=query, headers=_accepting(accept)):
            event = orjson.loads(line)
            if event["type"] == "ERROR":
                raise ApiError(event["object"])
            yield event["type"], event["object"]

    # -- requests ------------------------------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Obj:
        """One exchange of JSON. `path` is absolute; parameters that are None are left out."""
        answer = await self.request_bytes(method, path, params=params, body=body, content_type=content_type, headers=headers)
        found: Obj = orjson.loads(answer) if answer else {}
        return found

    async def request_bytes(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """As :meth:`request`, for answers that are not JSON (`/version`, logs, tables of another type)."""
        content = orjson.dumps(body) if body is not None and not isinstance(body, bytes) else body
        sent = {**self._authorization(), **(headers or {})}
        if content is not None:
            sent["content-type"] = content_type
        busy = 0
        while True:
            server, response = await self._exchange(method, path, _query(params), content, sent)
            if self._on_warning is not None:
                for value in response.values("warning"):
                    self._on_warning(_warning_text(value))
            if response.status_code < 400:
                return response.content
            if response.status_code in _UNWELL:
                self._fail_over(server)
            delay = _retry_after(response)
            if delay is None or busy >= _BUSY_ATTEMPTS:
                raise _refusal(response.status_code, response.content, method, path)
            busy += 1
            await self._clock.sleep(delay)

    async def stream_lines(
        self, method: str, path: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        """The lines of a streamed answer as they come, without their ends."""
        rest = b""
        async for chunk in self.stream(method, path, params=params, headers=headers):
            lines = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
            rest = lines.pop()
            for line in lines:
                if line:
                    yield line
        if rest:
            yield rest

    async def stream(
        self, method: str, path: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        """The body of a long-running answer, piece by piece. Ends when the server ends it; raises ConnectionFailed when it breaks off."""
        server = self._current
        request = self._build(method, path, _query(params), {**self._authorization(), **(headers or {})}, server)
        request.extensions["timeout"] = httpx.Timeout(30.0, connect=5.0, read=None).as_dict()
        try:
            response = await self._streams.send(request, stream=True)
        except httpx.TransportError as error:
            self._fail_over(server)
            raise ConnectionFailed(f"{method} {path}: {_words(error)}") from error
        try:
            if response.status_code in _UNWELL:
                self._fail_over(server)
            if response.status_code >= 400:
                raise _refusal(response.status_code, await response.aread(), method, path)
            async for chunk in response.aiter_raw():
                yield chunk
        except httpx.TransportError as error:
            self._fail_over(server)
            raise ConnectionFailed(f"{method} {path}: {_words(error)}") from error
        finally:
            await response.aclose()

    async def _exchange(
        self, method: str, path: str, params: dict[str, str], content: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Answer]:
        """Send to the current apiserver, or the next, as far as that cannot do a write twice. Returns which one it was, and its answer."""
        backoff = Backoff(base=0.05, limit=1.0)
        reads_left = _READ_ATTEMPTS if method == "GET" else 1
        unreachable = 0
        while True:
            server = self._current
            try:
                async with self._slots:
                    return server, await self._wire.request(self.config.servers[server], method, path, params, headers, content)
            except NotSent as error:
                # Nothing was sent: any request may go to another apiserver, each gets two chances.
                unreachable += 1
                self._fail_over(server)
                if unreachable >= 2 * len(self.config.servers):
                    raise ConnectionFailed(f"{method} {path}: {_words(error)} ({', '.join(self.config.servers)})") from error
                if unreachable >= len(self.config.servers):
                    await self._clock.sleep(backoff.next())
            except BrokenOff as error:
                reads_left -= 1
                self._fail_over(server)
                if reads_left <= 0:
                    raise ConnectionFailed(f"{method} {path}: {_words(error)}") from error
                await self._clock.sleep(backoff.next())

    def _build(self, method: str, path: str, params: dict[str, str], headers: Mapping[str, str], server: int) -> httpx.Request:
        url = self.config.servers[server] + path
        extensions = {"sni_hostname": self.config.tls_server_name} if self.config.tls_server_name else None
        return self._streams.build_request(method, url, params=params or None, headers=headers, extensions=extensions)

    def _fail_over(self, failed: int) -> None:
        if self._current == failed and len(self.config.servers) > 1:
            self._current = (failed + 1) % len(self.config.servers)
            log.debug("trying another apiserver", failed=self.config.servers[failed], next=self.config.servers[self._current])

    def _authorization(self) -> dict[str, str]:
        if not self.config.token_file:
            return {}
        with open(self.config.token_file, encoding="ascii") as file:
            return {"authorization": f"Bearer {file.read().strip()}"}


async def retry_on_conflict(work: Any, *, attempts: int = 10, clock: Clock | None = None) -> Any:
    """Call the coroutine function `work` (read, change, write) again while its write meets a 409 Conflict; the last one is raised."""
    backoff = Backoff(base=0.01, limit=1.0)
    for attempt in range(attempts):
        try:
            return await work()
        except ApiError as error:
            if error.reason != "Conflict" or attempt == attempts - 1:
                raise
        await (clock or SystemClock()).sleep(backoff.next())
    raise AssertionError("unreachable")


def _query(params: Params | None) -> dict[str, str]:
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in (params or {}).items()
        if value is not None
    }


def _accepting(form: str | None) -> dict[str, str]:
    return {} if form is None else {"accept": form}


def _warning_text(value: str) -> str:
    """The text of a header such as ``299 - "unknown field"`` (RFC 7234, 5.5)."""
    found = re.search(r'"((?:[^"\\]|\\.)*)"', value)
    return re.sub(r"\\(.)", r"\1", found.group(1)) if found else value


def _retry_after(response: Answer) -> float | None:
    """Seconds to wait where the server asks to come again, None where the answer is final."""
    said = response.values("retry-after") if response.status_code in (429, 503) else []
    if not said:
        return None
    try:
        return min(float(said[0]), _MAX_RETRY_AFTER)
    except ValueError:
        return None


def _refusal(code: int, body: bytes, method: str, path: str) -> ApiError:
    try:
        status = orjson.loads(body)
        if isinstance(status, dict) and status.get("kind") == "Status":
            return ApiError(status)
    except orjson.JSONDecodeError:
        pass  # Something between us and the apiserver answered; its words are shown below.
    words = body[:512].decode(errors="replace").strip() or "no body"
    return ApiError(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "code": code,
            "reason": "",
            "message": f"{method} {path}: HTTP {code}: {words}",
        }
    )


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
