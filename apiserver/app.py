"""The front door: every request comes in here, is known, allowed, counted and answered, whatever happens.

Resources and discovery are served by plain ASGI, straight from the registry of kinds; everything else (health, version, metrics, keys, the OpenAPI documents) is
a FastAPI application behind the same checks. Whatever goes wrong becomes a Status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from kubeling.api import errors
from kubeling.api.errors import ApiError
from kubeling.apiserver import metrics
from kubeling.apiserver.aggregation.passing import pass_on
from kubeling.apiserver.aggregation.registry import Remote
from kubeling.apiserver.authn.user import ANONYMOUS
from kubeling.apiserver.authz import selectors
from kubeling.apiserver.authz.authorizer import Attributes, Decision, refusal
from kubeling.apiserver.context import Context
from kubeling.apiserver.discovery import Discovery
from kubeling.apiserver.flowcontrol.seats import Seats, deadline
from kubeling.apiserver.handlers import delete, patch, read, watch, write
from kubeling.apiserver.info import PathInfo, parse_path
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import ClientGone, Receive, Request, Scope, Send
from kubeling.apiserver.storage.errors import StoreError, to_api_error
from kubeling.apiserver.subresources import table as subresources
from kubeling.daemon.log import get_logger

log = get_logger("apiserver")

Handler = Callable[[Context, Request, Served], Awaitable[None]]

_VERBS: dict[str, Handler] = {
    "get": read.get,
    "list": read.list_,
    "watch": watch.watch,
    "create": write.create,
    "update": write.update,
    "patch": patch.patch,
    "delete": delete.delete,
    "deletecollection": delete.deletecollection,
}
_LONG_SUBRESOURCES = frozenset({"log", "exec", "attach", "portforward", "proxy"})
_MAX_PATH = 16 * 1024


class Front:
    """The ASGI application. `pages` is the one for everything that is no resource."""

    def __init__(self, context: Context, discovery: Discovery, pages: Any) -> None:
        self._context = context
        self._discovery = discovery
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        info = parse_path(scope["path"]) if len(scope["path"]) < _MAX_PATH else PathInfo("/")
        clock = self._context.clock
        request = Request(scope, receive, send, info, ANONYMOUS, clock)
        began = clock.monotonic()
        long = request.verb == "watch" or info.subresource in _LONG_SUBRESOURCES
        served: Served | None = None
        gauge = None if long else metrics.READING if request.verb in _READING else metrics.MUTATING
        if gauge is not None:
            gauge.inc()
        seats = Seats(self._context.gate, request)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                if not long:
                    limit.reschedule(asyncio.get_running_loop().time() + deadline(request, self._context.config.request_timeout))
                await self._identify(request)
                served = self._context.kinds.find(info.group, info.version, info.resource) if info.resource else None
                await seats.take(served)
                if info.resource:
                    await self._authorize(request)
                    remote = self._context.aggregated.find(info.group, info.version)
                    if remote is not None:
                        served, long = None, True
                        await pass_on(self._context, request, remote)
                        return
                    if served is None:
                        served = await self._context.definitions.find(info.group, info.version, info.resource)
                    if served is None:
                        raise errors.no_such_path()
                    if long:
                        if self._context.draining:
                            # Somewhere else, please: a stream that began now would have to be broken off.
                            raise errors.service_unavailable("the server is shutting down")
                        gauge = metrics.LONG_RUNNING.labels(*_labels(request, served))
                        gauge.inc()
                    await self._resource(request, served)
                else:
                    await self._path(request)
        except TimeoutError as error:
            if limit.expired():
                await self._fail(request, errors.timeout("request did not complete within the allotted timeout"))
            else:
                await self._fail(request, errors.timeout(str(error) or "a part of the request took too long"))
        except ApiError as error:
            await self._fail(request, error)
        except StoreError as error:
            await self._fail(request, to_api_error(error))
        except ClientGone:
            request.status = 499
        except asyncio.CancelledError:
            await self._fail(request, errors.service_unavailable("the server is shutting down"))
            raise
        except Exception:
            log.exception("a request failed", method=scope["method"], path=scope["path"])
            await self._fail(request, errors.internal("the request could not be served; the server's log says why"))
        finally:
            seats.give_back()
            if gauge is not None:
                gauge.dec()
            if self._context.auditor is not None:
                self._context.auditor.end(request)
            metrics.observe_request(_labels(request, served), request.status, clock.monotonic() - began, long)

    async def _identify(self, request: Request) -> None:
        """Authenticate; bad credentials are refused wherever they are shown."""
        scope = request.scope
        connection = scope["state"]["connection"]
        clock = self._context.clock
        began = clock.monotonic()
        try:
            request.user = await self._context.authenticator.authenticate(scope["headers"], connection.user, scope["path"])
        except ApiError:
            metrics.observe_authentication(None, clock.monotonic() - began)
            raise
        metrics.observe_authentication(request.user.name, clock.monotonic() - began)
        if self._context.auditor is not None:
            self._context.auditor.begin(request)

    async def _authorize(self, request: Request) -> None:
        info = request.info
        namespace = info.namespace
        name, selected = info.name, selectors.EVERYTHING
        # (The paths that begin with /watch/ take no selectors everywhere.)
        if not name and not info.watch and request.verb in ("list", "watch", "deletecollection"):
            query = request.query
            selected = selectors.of_texts(query.get("fieldSelector", ""), query.get("labelSelector", ""))
            name = selected.exact("metadata.name")
        attributes = Attributes(
            request.user, request.verb, info.group, info.resource, info.subresource, namespace, name, "", info.version, selected
        )
        clock = self._context.clock
        began = clock.monotonic()
        decision = await self._context.authorizer.authorize(attributes)
        metrics.observe_authorization(decision.allowed, clock.monotonic() - began)
        _note(request, decision)
        if not decision.allowed:
            raise refusal(attributes, decision)

    async def _resource(self, request: Request, served: Served) -> None:
        info, resource = request.info, served.resource
        if served.deprecation:
            request.warn(served.deprecation)
        request.protobuf = served.is_builtin or info.subresource == "scale"
        if resource.namespaced and not info.namespace and (info.name or request.verb == "create"):
            raise errors.no_such_path()
        if not resource.namespaced and info.namespace and resource.plural != "namespaces":
            raise errors.no_such_path()
        if info.subresource:
            sub = resource.subresource(info.subresource)
            if sub is None:
                raise errors.no_such_path()
            if request.verb not in sub.verbs and sub.name != "proxy":
                raise errors.method_not_allowed(resource.group, resource.plural, request.verb)
            await subresources.handler(resource, info.subresource, request.verb)(self._context, request, served)
            return
        handler = _VERBS.get(request.verb)
        # Objects are made without a name in the path, and changed with one.
        misplaced = request.verb == "create" if info.name else request.verb in ("update", "patch")
        if handler is None or request.verb not in resource.verbs or misplaced:
            raise errors.method_not_allowed(resource.group, resource.plural, request.verb)
        if served.store is None:
            handler = subresources.review(resource)
        await handler(self._context, request, served)

    async def _path(self, request: Request) -> None:
        """What is no resource."""
        path, method = request.info.path, request.scope["method"]
        attributes = Attributes(request.user, method.lower(), path=path)
        decision = await self._context.authorizer.authorize(attributes)
        _note(request, decision)
        if not decision.allowed:
            raise refusal(attributes, decision)
        remote = self._remote(path)
        if remote is not None:
            await pass_on(self._context, request, remote)
            return
        if path.startswith(("/api/", "/apis/")) or path in ("/api", "/apis"):
            if method not in ("GET", "HEAD"):
                raise errors.method_not_allowed("", "", method.lower())
            await self._context.definitions.refresh()
            await self._discovery.serve(request)
            return
        # A HEAD is a GET without its body, which the server leaves out.
        scope = {**request.scope, "method": "GET"} if method == "HEAD" else request.scope
        await self._pages(scope, request.receive, _counting(request))

    def _remote(self, path: str) -> Remote | None:
        """Who else serves the discovery or OpenAPI document of a group's version."""
        parts = path.strip("/").removeprefix("openapi/v3/").split("/")
        return self._context.aggregated.find(parts[1], parts[2]) if len(parts) == 3 and parts[0] == "apis" else None

    async def _fail(self, request: Request, error: ApiError) -> None:
        """Answer with a Status, unless an answer has begun: then the connection says it by breaking off."""
        if request.status:
            connection = request.scope["state"]["connection"]
            connection.abort()
            return
        headers = []
        if error.retry_after and error.code in (429, 503, 504, 500):
            headers.append((b"retry-after", b"%d" % error.retry_after))
        if error.code == 413:
            headers.append((b"connection", b"close"))
        try:
            await request.respond(orjson.dumps(error.status), error.code, headers=headers)
        except (OSError, RuntimeError):
            log.debug("the client did not wait for its error", path=request.info.path)


def _note(request: Request, decision: Decision) -> None:
    """What the audit log says of a decision."""
    if request.audit is not None:
        request.annotate("authorization.k8s.io/decision", "allow" if decision.allowed else "forbid")
        request.annotate("authorization.k8s.io/reason", decision.reason)


def _labels(request: Request, served: Served | None) -> tuple[str, str, str, str, str, str]:
    """Of what is not served only the verb counts: labels must not grow with what clients make up."""
    verb = request.verb.upper()
    if served is None:
        return (verb if verb in _METHODS else "OTHER", "", "", "", "", "")
    info = request.info
    scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
    known = info.subresource if served.resource.subresource(info.subresource) else ""
    return (verb, info.group, info.version, info.resource, known, scope)


_READING = frozenset({"get", "list", "head"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "LIST", "WATCH", "CREATE", "UPDATE", "DELETECOLLECTION"})


def _counting(request: Request) -> Send:
    """Note the status of an answer that somebody else gives."""

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            request.status = message["status"]
            message["headers"] = [*message["headers"], *request.headers]
        await request.send(message)

    return send
