"""pods/exec, attach and port-forward: the client's Upgrade is passed to the kubelet, and then bytes are moved both ways.

Whether it is a WebSocket or SPDY is the business of the two ends: the request goes on with its headers, less those that say who is asking, and
what the kubelet answers comes back as it is. A refusal comes back as a Status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import parse_qsl, quote, urlencode

import orjson

from kubeling.api import errors, pods
from kubeling.api.meta import Object
from kubeling.apiserver import kubelet
from kubeling.apiserver.admission import doors
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers.common import store_of
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request
from kubeling.apiserver.reverse import relay
from kubeling.apiserver.server import Hijacked
from kubeling.apiserver.subresources.pod_log import Cancelling, container_of

#: Who is asking is said by the apiserver's own certificate, and where by the connection.
_DROPPED = frozenset({b"authorization", b"host", b"cookie", b"impersonate-user", b"impersonate-group", b"impersonate-uid"})
_PARAMETERS = {
    "exec": ("command", "stdin", "stdout", "stderr", "tty"),
    "attach": ("stdin", "stdout", "stderr", "tty"),
    "portforward": ("ports",),
}
_PATHS = {"exec": "exec", "attach": "attach", "portforward": "portForward"}
_MAX_ERROR = 16 * 1024


async def stream(context: Context, request: Request, served: Served) -> None:
    """GET (WebSocket) and POST (SPDY)."""
    info = request.info
    kind = info.subresource
    query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if not request.header(b"upgrade"):
        raise errors.bad_request("Upgrade request required")
    pod = (await store_of(served).read(info.namespace, info.name)).object()
    target = _target(request, pod, kind, query)
    await doors.connect(context, request, served)
    node = pod["spec"].get("nodeName")
    if not node:
        raise errors.bad_request(f"pod {info.name} does not have a host assigned")
    address = await kubelet.locate(context, node)
    head, reader, writer = await context.kubelets.upgrade(address, request.scope["method"], target, _headers(request))
    try:
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            raise await _refused(status, reader)
        request.status = 101
        if request.audit is not None:
            request.audit.started()
        client = request.scope["state"]["connection"].hijack(head)
        await _relay(context, client, reader, writer)
    finally:
        writer.close()


def _target(request: Request, pod: Object, kind: str, query: Sequence[tuple[str, str]]) -> str:
    info = request.info
    path = f"/{_PATHS[kind]}/{quote(info.namespace)}/{quote(info.name)}"
    asked = dict(query)
    if kind == "portforward":
        if pods.phase_of(pod) != "Running":
            raise errors.bad_request(f"unable to forward port because pod is not running. Current status={pods.phase_of(pod)}")
    else:
        if pods.is_terminal(pod):
            raise errors.bad_request(f"cannot exec into a container in a completed pod; current phase is {pods.phase_of(pod)}")
        path += "/" + quote(container_of(pod, asked.get("container", ""), with_init=False))
    passed = [(key, value) for key, value in query if key in _PARAMETERS[kind]]
    if kind == "exec" and not any(key == "command" and value for key, value in passed):
        raise errors.bad_request("you must specify at least 1 command for the container")
    return f"{path}?{urlencode(passed)}"


def _headers(request: Request) -> list[tuple[bytes, bytes]]:
    return [
        (name, value)
        for name, value in request.scope["headers"]
        if name not in _DROPPED and not name.startswith(b"impersonate-extra-")
    ]


async def _refused(status: int, reader: asyncio.StreamReader) -> errors.ApiError:
    """The kubelet's own Status where it sent one."""
    try:
        async with asyncio.timeout(2):
            text = await reader.read(_MAX_ERROR)
    except (TimeoutError, OSError):
        text = b""
    try:
        found = orjson.loads(text)
        if isinstance(found, dict) and found.get("kind") == "Status":
            return errors.from_status({**found, "code": status})
    except orjson.JSONDecodeError:
        pass  # Not a Status, then: the text is the message.
    message = text.decode("utf-8", "replace").strip() or f"the kubelet answered {status}"
    return errors.failure(status if status >= 400 else 500, "BadRequest" if status == 400 else "InternalError", message)


async def _relay(context: Context, client: Hijacked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the kubelet has said all, the client is gone, or the server goes."""
    task = asyncio.ensure_future(relay(client, reader, writer))
    stream = Cancelling(task)
    context.streams.add(stream)
    try:
        await asyncio.wait([task])
    finally:
        context.streams.discard(stream)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
