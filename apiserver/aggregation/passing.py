"""A request for a group that another server serves, passed on to it. Who is asking is known and allowed already; the server is told in the headers of the front proxy."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from kubeling.api import errors
from kubeling.apiserver.aggregation import identity
from kubeling.apiserver.aggregation.registry import Remote
from kubeling.apiserver.context import Context
from kubeling.apiserver.outbound import CallFailed
from kubeling.apiserver.request import Request
from kubeling.apiserver.reverse import DialFailed, Header, Unreachable, forward, request_headers

_REFUSED = b"the backend attempted to redirect this request, which is not permitted"


async def pass_on(context: Context, request: Request, remote: Remote) -> None:
    """Serve a request. Raises ApiError."""
    if not remote.available:
        raise errors.service_unavailable("service unavailable")
    try:
        backend = await context.aggregated.backend(remote)
    except CallFailed as error:
        context.availability.kick(remote)
        raise errors.service_unavailable(f"service unavailable: {error}") from None
    raw = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    query = request.scope["query_string"]
    target = ("/" + raw.decode("latin-1").lstrip("/")) + (f"?{query.decode('latin-1')}" if query else "")
    more: list[Header] = [(b"host", f"{remote.server_name}:{remote.port}".encode()), *identity.headers(request.user)]
    more.append((b"x-forwarded-host", request.header(b"host").encode("latin-1")))
    more.append((b"x-forwarded-proto", request.scope.get("scheme", "https").encode()))
    try:
        await forward(context, request, backend, target, request_headers(request, more), _no_redirects)
    except (DialFailed, Unreachable) as error:
        context.availability.kick(remote)
        raise errors.service_unavailable(f"error trying to reach service: {error}") from None


def _no_redirects(status: int, headers: list[Header]) -> tuple[list[Header], Callable[[bytes | None], bytes] | None]:
    """A backend that could send clients, with their credentials, wherever it likes would be trusted too far."""
    if 300 <= status < 400 and any(name == b"location" for name, _ in headers):
        raise errors.failure(502, "InternalError", _REFUSED.decode())
    return headers, None
