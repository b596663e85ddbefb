"""pods/log: the kubelet's stream, passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode

from kubeling.api import errors
from kubeling.api.meta import Object
from kubeling.apiserver import kubelet
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers.common import store_of
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request

_PASSED = ("follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream")
_NUMBERS = {"sinceSeconds": 1, "tailLines": 0, "limitBytes": 1}
_DEFAULT = "kubectl.kubernetes.io/default-container"
_MAX_ERROR = 4096


async def log(context: Context, request: Request, served: Served) -> None:
    """GET …/pods/x/log."""
    info, query = request.info, request.query
    _check(request)
    pod = (await store_of(served).read(info.namespace, info.name)).object()
    container = container_of(pod, query.get("container", ""), with_init=True)
    node = pod["spec"].get("nodeName")
    if not node:
        await request.respond(b"", content_type=b"text/plain")
        return
    address = await kubelet.locate(context, node)
    passed = urlencode({name: query[name] for name in _PASSED if name in query})
    target = f"/containerLogs/{quote(info.namespace)}/{quote(info.name)}/{quote(container)}?{passed}"
    status, kind, chunks = await context.kubelets.get(address, target)
    if status != 200:
        raise await _refused(status, chunks)
    await _pass_on(context, request, kind, chunks)


async def _refused(status: int, chunks: AsyncIterator[bytes]) -> errors.ApiError:
    text = b""
    async for chunk in chunks:
        text += chunk
        if len(text) > _MAX_ERROR:
            break
    message = text[:_MAX_ERROR].decode("utf-8", "replace").strip()
    reason = {400: "BadRequest", 404: "NotFound", 403: "Forbidden"}.get(status, "InternalError")
    return errors.failure(status if status >= 400 else 500, reason, message or f"the kubelet answered {status}")


async def _pass_on(context: Context, request: Request, kind: str, chunks: AsyncIterator[bytes]) -> None:
    """Until either side ends it, or the server goes."""
    connection = request.scope["state"]["connection"]
    task = asyncio.ensure_future(_copy(request, kind, chunks))
    stream = Cancelling(task)
    connection.when_closed(stream.close)
    context.streams.add(stream)
    try:
        await asyncio.wait([task])
        if task.cancelled():
            if request.status:
                await request.end_stream()
        else:
            task.result()
    finally:
        connection.when_closed(None)
        context.streams.discard(stream)
        task.cancel()


async def _copy(request: Request, kind: str, chunks: AsyncIterator[bytes]) -> None:
    await request.start_stream(kind.encode("latin-1"))
    async for chunk in chunks:
        await request.chunk(chunk)
    await request.end_stream()


class Cancelling:
    """A stream that ends by cancelling the task that moves it."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def close(self) -> None:
        self._task.cancel()


def container_of(pod: Object, asked: str, with_init: bool) -> str:
    """The container that is meant. Raises 400 where that is not clear or there is no such one."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    main = [each["name"] for each in spec.get("containers") or ()]
    others = [each["name"] for key in ("initContainers", "ephemeralContainers") for each in spec.get(key) or ()]
    if asked:
        if asked not in main and asked not in others:
            raise errors.bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    preferred = (pod["metadata"].get("annotations") or {}).get(_DEFAULT)
    if preferred in main:
        return str(preferred)
    if len(main) == 1 and not (others and with_init and not main):
        return str(main[0])
    choices = f"choose one of: [{' '.join(main)}]"
    init = [each["name"] for each in spec.get("initContainers") or ()]
    if init:
        choices += f" or one of the init containers: [{' '.join(init)}]"
    raise errors.bad_request(f"a container name must be specified for pod {name}, {choices}")


def _check(request: Request) -> None:
    wrong = []
    query = request.query
    for name, least in _NUMBERS.items():
        text = query.get(name)
        if text is None:
            continue
        try:
            number = int(text)
        except ValueError:
            raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
        if number < least:
            wrong.append(
                errors.invalid_value(
                    name, number, f"must be greater than or equal to {least}" if not least else "must be greater than 0"
                )
            )
    if "sinceSeconds" in query and "sinceTime" in query:
        wrong.append(errors.forbidden_value("sinceTime", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if wrong:
        raise errors.invalid("PodLogOptions", "", request.info.name, wrong)
