"""Admission of what comes in by a door of its own: a Binding, an Eviction, a connection to a pod or through a proxy."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from kubeling.apiserver.admission.chain import Attributes, Operation
from kubeling.apiserver.context import Context
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request

_FLAGS = ("stdin", "stdout", "stderr", "tty")
_KINDS = {
    ("pods", "exec"): "PodExecOptions",
    ("pods", "attach"): "PodAttachOptions",
    ("pods", "portforward"): "PodPortForwardOptions",
    ("pods", "proxy"): "PodProxyOptions",
    ("services", "proxy"): "ServiceProxyOptions",
    ("nodes", "proxy"): "NodeProxyOptions",
}


async def admit(
    context: Context,
    request: Request,
    served: Served,
    operation: Operation,
    obj: dict[str, Any],
    body: tuple[str, str],
    *,
    subresource: str = "",
    name: str = "",
    dry_run: bool = False,
) -> None:
    """Have the plug-ins look at an object of another kind than the resource's; they may change it. Raises ApiError."""
    info = request.info
    obj["apiVersion"], obj["kind"] = body
    attributes = Attributes(
        operation,
        served.resource,
        subresource or info.subresource,
        info.namespace if served.resource.namespaced else "",
        name or info.name,
        request.user,
        obj,
        None,
        dry_run,
        {} if operation == "CONNECT" else {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        request,
        body,
    )
    await context.admission.admit(attributes)
    await context.admission.validate(attributes)


async def connect(context: Context, request: Request, served: Served) -> None:
    """Before a connection is made. Raises ApiError."""
    info = request.info
    kind = _KINDS.get((served.resource.plural, info.subresource))
    if kind is None:
        return
    query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    asked = dict(query)
    options: dict[str, Any] = {}
    if kind in ("PodExecOptions", "PodAttachOptions"):
        options = {name: True for name in _FLAGS if asked.get(name) in ("true", "1")}
        if asked.get("container"):
            options["container"] = asked["container"]
        if kind == "PodExecOptions":
            options["command"] = [value for key, value in query if key == "command"]
    elif kind == "PodPortForwardOptions":
        options["ports"] = [int(value) for key, value in query if key == "ports" and value.isdigit()]
    elif info.rest:
        options["path"] = info.rest
    await admit(context, request, served, "CONNECT", options, ("v1", kind))
