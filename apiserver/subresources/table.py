"""Which handler serves which door of which kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubeling.api import errors, resources
from kubeling.api.resources import Resource
from kubeling.apiserver.context import Context
from kubeling.apiserver.handlers import patch, read, write
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request
from kubeling.apiserver.subresources import (
    binding,
    eviction,
    metrics,
    pod_log,
    proxy,
    reviews,
    scale,
    scheduling,
    streaming,
    token,
)

Handler = Callable[[Context, Request, Served], Awaitable[None]]

#: Doors that are the object itself, of which they let only a part be changed.
_WHOLE = frozenset({"status", "approval", "finalize", "ephemeralcontainers", "resize"})
_GENERIC: dict[str, Handler] = {"get": read.get, "update": write.update, "patch": patch.patch}


def handler(resource: Resource, subresource: str, verb: str) -> Handler:
    """The handler. Raises 404 for a door that is announced for a later day."""
    if subresource in _WHOLE and verb in _GENERIC:
        return _GENERIC[verb]
    found = _HANDLERS.get((resource.plural, subresource)) or _HANDLERS.get(("", subresource))
    if found is None:
        raise errors.no_such_path()
    return found


def review(resource: Resource) -> Handler:
    """The handler of a kind that is answered and never kept."""
    found = _MEASURED.get(resource) or _REVIEWS.get(resource.plural)
    if found is None:
        raise errors.no_such_path()
    return found


_HANDLERS: dict[tuple[str, str], Handler] = {
    ("", "scale"): scale.scale,
    ("pods", "binding"): binding.binding,
    ("pods", "eviction"): eviction.eviction,
    ("pods", "log"): pod_log.log,
    ("pods", "scheduling"): scheduling.explain,
    ("pods", "exec"): streaming.stream,
    ("pods", "attach"): streaming.stream,
    ("pods", "portforward"): streaming.stream,
    ("serviceaccounts", "token"): token.token,
    ("pods", "proxy"): proxy.proxy,
    ("services", "proxy"): proxy.proxy,
    ("nodes", "proxy"): proxy.proxy,
}
_MEASURED: dict[Resource, Handler] = {resources.NODE_METRICS: metrics.nodes, resources.POD_METRICS: metrics.pods_}
_REVIEWS: dict[str, Handler] = {
    "bindings": binding.legacy,
    "tokenreviews": reviews.token_review,
    "selfsubjectreviews": reviews.self_subject_review,
    "subjectaccessreviews": reviews.subject_access_review,
    "localsubjectaccessreviews": reviews.local_subject_access_review,
    "selfsubjectaccessreviews": reviews.self_subject_access_review,
    "selfsubjectrulesreviews": reviews.self_subject_rules_review,
}
