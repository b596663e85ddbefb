"""Probes and lifecycle hooks: one action each, complete, and sensible times."""

from __future__ import annotations

import re

from kubeling.api import names
from kubeling.api.errors import forbidden_value, invalid_value, required_value, unsupported_value
from kubeling.api.validation.common import Errors, Map, not_negative, port, present

_PROBES = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
_SCHEMES = ("HTTP", "HTTPS")
_TIMES = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_HEADER = "[-A-Za-z0-9]+"
_HEADER_RE = re.compile(_HEADER)


def probes(path: str, container: Map, grace: int | None) -> Errors:
    """All probes and hooks of a container that may have them."""
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            yield from probe(f"{path}.{name}", container[name], name)
    lifecycle = container.get("lifecycle")
    if lifecycle:
        for name in ("postStart", "preStop"):
            if lifecycle.get(name) is not None:
                yield from _handler(f"{path}.lifecycle.{name}", lifecycle[name], _HOOKS, grace)


def probe(path: str, found: Map, kind: str) -> Errors:
    """A probe; liveness and startup take one success."""
    yield from _handler(path, found, _PROBES, None)
    for field in _TIMES:
        yield from not_negative(f"{path}.{field}", found.get(field))
    grace = found.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        yield invalid_value(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0")
    if kind == "readinessProbe":
        if grace is not None:
            yield invalid_value(f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes")
    elif found.get("successThreshold") != 1:
        yield invalid_value(f"{path}.successThreshold", found.get("successThreshold"), "must be 1")


def _handler(path: str, found: Map, kinds: tuple[str, ...], grace: int | None) -> Errors:
    given = present(found, kinds)
    if not given:
        yield required_value(path, "must specify a handler type")
        return
    for name in given[1:]:
        yield forbidden_value(f"{path}.{name}", "may not specify more than 1 handler type")
    name = given[0]
    action, where = found[name], f"{path}.{name}"
    if name == "exec" and not action.get("command"):
        yield required_value(f"{where}.command")
    elif name == "sleep":
        seconds = action.get("seconds") or 0
        if grace is not None and not 0 <= seconds <= grace:
            detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            yield invalid_value(where, seconds, detail)
    elif name == "httpGet":
        yield from _http_get(where, action)
    elif name == "grpc":
        yield from port(f"{where}.port", action.get("port") or 0)
    elif name == "tcpSocket":
        yield from port(f"{where}.port", action.get("port"))


def _http_get(path: str, action: Map) -> Errors:
    if not action.get("path"):
        yield required_value(f"{path}.path")
    yield from port(f"{path}.port", action.get("port"))
    scheme = action.get("scheme") or ""
    if scheme not in _SCHEMES:
        yield unsupported_value(f"{path}.scheme", scheme, _SCHEMES)
    for each in action.get("httpHeaders") or ():
        name = each.get("name") or ""
        if not _HEADER_RE.fullmatch(name):
            message = "a valid HTTP header must consist of alphanumeric characters or '-'"
            yield invalid_value(f"{path}.httpHeaders", name, names.pattern_message(message, _HEADER, "X-Header-Name"))
