"""metrics.k8s.io: what `kubectl top` and the autoscaler ask for, answered by the apiserver itself out of :mod:`kubeling.apiserver.usage`.

Only what is running and was measured is there. An APIService `v1beta1.metrics.k8s.io` that names a Service takes the group over, as with any other group.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from kubeling.api import errors, pods, resources
from kubeling.api.meta import Object
from kubeling.api.times import format_time
from kubeling.apiserver import kubelet, render
from kubeling.apiserver.cache.entry import Entry
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers.read import Selection
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request
from kubeling.apiserver.usage import Measured, Usage, Used

_MAX_PAGE = 16 * 1024 * 1024


def make(context: Context) -> Usage:
    """Measures the nodes of this cluster."""

    async def fetch(node: str) -> str:
        # Hollow nodes share one kubelet, which has to be told which of them is meant; others do not look at it.
        target = f"/metrics/resource?node={quote(node)}"
        status, _, chunks = await context.kubelets.get(await kubelet.locate(context, node), target)
        found = []
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > _MAX_PAGE:
                raise ValueError(f"the page is larger than {_MAX_PAGE} bytes")
            found.append(chunk)
        if status != 200:
            raise ValueError(f"the kubelet answered {status}")
        return b"".join(found).decode()

    return Usage(fetch, context.clock)


async def nodes(context: Context, request: Request, served: Served) -> None:
    """GET of nodes' metrics."""
    entries = await _selected(context, request, served, resources.NODES)
    measured = await context.usage.of(each.name for each in entries)
    found = [_node(each, measured.get(each.name)) for each in entries]
    await _answer(request, served, [each for each in found if each is not None])


async def pods_(context: Context, request: Request, served: Served) -> None:
    """GET of pods' metrics."""
    running = []
    for entry in await _selected(context, request, served, resources.PODS):
        pod = entry.object()
        if pod["spec"].get("nodeName") and pods.phase_of(pod) == "Running":
            running.append((entry, pod["spec"]["nodeName"]))
    measured = await context.usage.of(node for _, node in running)
    found = [_pod(entry, measured.get(node)) for entry, node in running]
    await _answer(request, served, [each for each in found if each is not None])


async def _selected(context: Context, request: Request, served: Served, of: resources.Resource) -> list[Entry]:
    """The objects whose metrics are asked for."""
    info = request.info
    store = context.kinds.store(of)
    if info.name:
        entry = await store.peek(info.namespace, info.name)
        if entry is None:
            raise errors.not_found(served.resource.group, served.resource.plural, info.name)
        return [entry]
    selection = Selection(request, served)
    await store.cache.ready()
    prefix = store.collection(info.namespace)
    found = store.cache.entries(prefix if prefix != store.prefix else "")
    return [each for each in found if selection.matches is None or selection.matches(each)]


def _node(entry: Entry, measured: Measured | None) -> Object | None:
    used = measured.node() if measured else None
    if used is None:
        return None
    return {**_head("NodeMetrics", entry, used), "usage": _usage(used)}


def _pod(entry: Entry, measured: Measured | None) -> Object | None:
    used = measured.pod(entry.namespace, entry.name) if measured else {}
    if not used:
        return None
    latest = max(used.values())
    containers = [{"name": name, "usage": _usage(each)} for name, each in sorted(used.items())]
    return {**_head("PodMetrics", entry, latest), "containers": containers}


def _head(kind: str, entry: Entry, used: Used) -> Object:
    at = format_time(datetime.fromtimestamp(used.at, UTC))
    metadata: Object = {"name": entry.name, "creationTimestamp": at}
    if entry.namespace:
        metadata["namespace"] = entry.namespace
    if entry.labels:
        metadata["labels"] = dict(entry.labels)
    found = {"kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata}
    return {**found, "timestamp": at, "window": f"{used.window:.3f}s"}


def _usage(used: Used) -> dict[str, str]:
    return {"cpu": f"{used.cpu}n", "memory": f"{used.memory // 1024}Ki"}


async def _answer(request: Request, served: Served, found: list[Object]) -> None:
    output, now = request.output, request.clock.now()
    include = request.query.get("includeObject", "")
    if not request.info.name:
        await request.respond(render.many(output, served, found, {}, now, include), 200, output.content_type)
    elif found:
        await request.respond(render.one(output, served, found[0], now, include), 200, output.content_type)
    else:
        raise errors.not_found(served.resource.group, served.resource.plural, request.info.name)
