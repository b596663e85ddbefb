"""Who may use the kubelet's API: whoever the apiserver says may do the like with this Node (`nodes/proxy`, `nodes/log`, `nodes/stats`, `nodes/metrics`).

`system:masters` is not asked about. Answers are remembered, good ones for five minutes and bad ones for half a minute, as upstream does it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from kubeling.daemon.clock import Clock
from kubeling.kubelet.httpd import Identity

ADMINS = "system:masters"
ALLOWED_SECONDS, REFUSED_SECONDS = 300.0, 30.0
_REMEMBERED = 1024
_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
#: By the first part of the path; all else is `proxy`. Of several (KEP-2862) one is enough.
_SUBRESOURCES = {
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "checkpoint": ("checkpoint",),
    "pods": ("pods", "proxy"),
    "runningpods": ("pods", "proxy"),
    "configz": ("configz", "proxy"),
}

#: Sends the spec of a SubjectAccessReview; whether it is allowed.
Ask = Callable[[dict[str, Any]], Awaitable[bool]]
_Key = tuple[str, tuple[str, ...], str, str]


class Access:
    """Decides for one node."""

    def __init__(self, node: str, ask: Ask, clock: Clock) -> None:
        self._node = node
        self._ask = ask
        self._clock = clock
        self._known: OrderedDict[_Key, tuple[float, bool]] = OrderedDict()

    async def refusal(self, identity: Identity, method: str, path: str) -> str | None:
        """Why not, None where it is allowed."""
        if ADMINS in identity.groups:
            return None
        verb = _VERBS.get(method, "get")
        wanted = subresources(path)
        for each in wanted:
            if await self._may(identity, verb, each):
                return None
        return f"Forbidden (user={identity.name}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(wanted)}])"

    async def _may(self, identity: Identity, verb: str, subresource: str) -> bool:
        key = (identity.name, identity.groups, verb, subresource)
        found = self._known.get(key)
        now = self._clock.monotonic()
        if found is not None and now < found[0]:
            return found[1]
        place = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": self._node}
        groups = [*identity.groups, "system:authenticated"]
        allowed = await self._ask({"user": identity.name, "groups": groups, "resourceAttributes": place})
        self._known[key] = now + (ALLOWED_SECONDS if allowed else REFUSED_SECONDS), allowed
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return allowed


def subresources(path: str) -> tuple[str, ...]:
    """What of a Node a path of the kubelet's API stands for."""
    return _SUBRESOURCES.get(path.strip("/").split("/", 1)[0], ("proxy",))
