"""Whether the server is well, and the way to the small pages.

Health is asked for all the time, by whoever watches over the server and before anything else at its start; so the plain questions are answered here. The
FastAPI application that has the rest (:mod:`.pages`) costs a fifth of a second and 12 MB to import. It is imported when its first page is asked for, in a
thread, while the server goes on serving: a cluster that is never asked for its OpenAPI document never pays for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from kubeling.apiserver.context import Context
from kubeling.apiserver.request import Receive, Scope, Send
from kubeling.apiserver.storage.errors import StoreError

#: How long a health check waits for the store.
_PATIENCE = 2.0


async def _check_store(context: Context) -> str | None:
    try:
        await context.kv.ping(_PATIENCE)
    except StoreError as error:
        return str(error)
    return None


async def _check_hub(context: Context) -> str | None:
    return None if context.hub.connected.is_set() else "the watch on the store is not established"


async def _check_bootstrap(context: Context) -> str | None:
    return None if context.bootstrapped else "the system's namespaces and priority classes are not all there yet"


async def _check_shutdown(context: Context) -> str | None:
    return "the server is shutting down" if context.draining else None


Check = Callable[[Context], Awaitable[str | None]]
_LIVE: dict[str, Check | None] = {"ping": None, "etcd": _check_store}
_READY: dict[str, Check | None] = {
    "ping": None,
    "etcd": _check_store,
    "informer-sync": _check_hub,
    "poststarthook/bootstrap": _check_bootstrap,
    "shutdown": _check_shutdown,
}
#: The pages and their checks; None is a check that always holds.
CHECKS = {"/healthz": _LIVE, "/livez": _LIVE, "/readyz": _READY}


async def report(context: Context, path: str, *, excluded: Collection[str] = (), verbose: bool = False) -> tuple[bool, str]:
    """Whether all checks of a page hold, and its text."""
    lines, healthy = [], True
    for name, check in CHECKS[path].items():
        if name in excluded:
            lines.append(f"[+]{name} excluded: ok")
            continue
        problem = await check(context) if check else None
        healthy = healthy and problem is None
        lines.append(f"[+]{name} ok" if problem is None else f"[-]{name} failed: {problem}")
    verdict = f"{path.strip('/')} check {'passed' if healthy else 'failed'}"
    return healthy, "\n".join([*lines, verdict]) + "\n" if not healthy or verbose else "ok"


class Pages:
    """The ASGI application for everything that is no resource."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made: asyncio.Task[Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"] in CHECKS and scope["method"] in ("GET", "HEAD") and not scope["query_string"]:
            healthy, text = await report(self._context, scope["path"])
            await _answer(send, 200 if healthy else 500, text.encode())
            return
        if self._made is None:
            self._made = asyncio.create_task(asyncio.to_thread(self._make))
        application = await asyncio.shield(self._made)
        await application(scope, receive, send)

    def _make(self) -> Any:
        from kubeling.apiserver import pages

        return pages.make(self._context)


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
