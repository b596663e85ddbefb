"""What a URL asks for: the verb and the resource, or a path that is no resource."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl

_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}


@dataclass(frozen=True, slots=True)
class PathInfo:
    """A path taken apart. `resource` is empty for what is no resource (`/healthz`, discovery)."""

    path: str
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""
    #: What follows the subresource: the path behind `…/proxy/`.
    rest: str = ""
    #: The deprecated `/watch/` form of a list.
    watch: bool = False

    def verb(self, method: str, watching: bool) -> str:
        """The API verb of an HTTP method here; the method in lower case where there is none."""
        verb = _VERBS.get(method, method.lower())
        if not self.resource or (self.watch and verb != "get"):
            return method.lower()
        # A HEAD of a watch would never end.
        watching = (watching or self.watch) and method != "HEAD"
        if not self.name:
            if verb == "get":
                return "watch" if watching else "list"
            if verb == "delete":
                return "deletecollection"
        elif verb == "get" and not self.subresource and watching:
            return "watch"
        return verb


@lru_cache(maxsize=8192)
def parse_path(path: str) -> PathInfo:
    """Take a URL path apart; a trailing slash changes nothing."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return PathInfo(path)
    watch = rest[0] == "watch" and len(rest) > 1
    if watch:
        rest = rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        # `/namespaces/x`, `/namespaces/x/status`: the Namespace itself.
        if len(rest) > 2 and not (rest[2] in _NAMESPACE_SUBRESOURCES and len(rest) == 3):
            rest = rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    return PathInfo(path, group, version, namespace, rest[0], name, subresource, "/".join(rest[3:]), watch)


@lru_cache(maxsize=4096)
def parse_query(raw: bytes) -> dict[str, str]:
    """The query parameters; of a repeated one the first counts. Shared between requests: not to be changed."""
    found: dict[str, str] = {}
    for key, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
        found.setdefault(key, value)
    return found
