"""Extenders: other processes that are asked, by HTTP, which of the feasible nodes they would take, how they like them, and to bind.

The verbs and bodies are upstream's (extender/v1): ExtenderArgs in, ExtenderFilterResult or a HostPriorityList out. An extender that fails fails the
attempt, unless it is `ignorable`.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from typing import Any

from kubeling.scheduler.nodeinfo import Obj, PodInfo
from kubeling.scheduler.registry import parse_duration
from kubeling.scheduler.types import Rejection

#: Extenders score 0…10, plugins 0…100.
SCALE = 10
MAX_ANSWER = 64 * 1024 * 1024
_DEFAULT_TIMEOUT = "5s"
#: What rejections by extenders are filed under: any change in the cluster may cure them.
PLUGIN = "extender"


class ExtenderFailed(Exception):
    """An extender could not be asked, or answered with an error."""


class Extender:
    """One entry of `extenders` in the configuration."""

    def __init__(self, config: Obj) -> None:
        self._url = config["urlPrefix"].rstrip("/")
        self._filter, self._prioritize, self._bind = (
            config.get(f"{verb}Verb") or "" for verb in ("filter", "prioritize", "bind")
        )
        self._weight = int(config.get("weight") or 0)
        self._names_only = bool(config.get("nodeCacheCapable"))
        self._managed = frozenset(each["name"] for each in config.get("managedResources") or ())
        self._ignorable = bool(config.get("ignorable"))
        self._seconds = parse_duration(config.get("httpTimeout") or _DEFAULT_TIMEOUT)
        self._tls = config.get("tlsConfig") or {}
        self._enable_https = bool(config.get("enableHTTPS"))

    @property
    def binds(self) -> bool:
        """Whether it binds pods itself."""
        return bool(self._bind)

    def is_interested(self, pod: Obj) -> bool:
        """An extender that manages resources is asked only about pods that want one of them."""
        if not self._managed:
            return True
        spec = pod.get("spec") or {}
        return any(
            name in self._managed
            for each in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
            for part in ("requests", "limits")
            for name in (each.get("resources") or {}).get(part) or {}
        )

    async def filter(self, pod: Obj, names: list[str], node: Callable[[str], Obj]) -> tuple[list[str], dict[str, Rejection]]:
        """(the nodes that it leaves over, its reasons for the others)."""
        if not self._filter or not names:
            return names, {}
        answer = await self._ask(self._filter, self._args(pod, names, node))
        if answer is None:
            return names, {}
        if self._names_only and answer.get("nodenames") is not None:
            left = [name for name in names if name in set(answer["nodenames"])]
        elif answer.get("nodes") is not None:
            kept = {each["metadata"]["name"] for each in answer["nodes"].get("items") or ()}
            left = [name for name in names if name in kept]
        else:
            left = []
        refused: dict[str, Rejection] = {}
        for part, hopeless in (("failedNodes", False), ("failedAndUnresolvableNodes", True)):
            for name, words in (answer.get(part) or {}).items():
                refused[name] = Rejection((str(words),), hopeless, PLUGIN)
        for name in set(names) - set(left) - set(refused):
            refused[name] = Rejection(("node(s) were refused by an extender",), False, PLUGIN)
        return left, refused

    async def prioritize(self, pod: Obj, names: list[str], node: Callable[[str], Obj]) -> dict[str, int]:
        """What it adds to the scores, weighted and on the plugins' scale."""
        if not self._prioritize or not names:
            return {}
        answer = await self._ask(self._prioritize, self._args(pod, names, node))
        return {each["host"]: int(each.get("score") or 0) * self._weight * SCALE for each in answer or ()}

    async def bind(self, pod: PodInfo, node: str) -> None:
        """Let it bind. Raises ExtenderFailed where it does not."""
        await self._ask(
            self._bind, {"podName": pod.name, "podNamespace": pod.namespace, "podUID": pod.uid, "node": node}, must=True
        )

    def _args(self, pod: Obj, names: list[str], node: Callable[[str], Obj]) -> Obj:
        if self._names_only:
            return {"pod": pod, "nodes": None, "nodenames": names}
        return {"pod": pod, "nodes": {"items": [node(name) for name in names]}, "nodenames": None}

    async def _ask(self, verb: str, body: Obj, *, must: bool = False) -> Any:
        """The parsed answer; None where it failed but may be ignored."""
        import httpx

        try:
            async with httpx.AsyncClient(verify=self._context(), timeout=self._seconds) as client:
                response = await client.post(f"{self._url}/{verb}", json=body)
            if response.status_code != 200:
                raise ExtenderFailed(f"{self._url}/{verb}: answered {response.status_code}")
            if len(response.content) > MAX_ANSWER:
                raise ExtenderFailed(f"{self._url}/{verb}: the answer is longer than {MAX_ANSWER} bytes")
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            if self._ignorable and not must:
                return None
            raise ExtenderFailed(f"{self._url}/{verb}: {error or type(error).__name__}") from error
        except ExtenderFailed:
            if self._ignorable and not must:
                return None
            raise
        problem = answer.get("error") if isinstance(answer, dict) else None
        if problem:
            if self._ignorable and not must:
                return None
            raise ExtenderFailed(f"{self._url}/{verb}: {problem}")
        return answer

    def _context(self) -> ssl.SSLContext | bool:
        if not self._url.startswith("https") and not self._enable_https:
            return True
        context = ssl.create_default_context(cafile=self._tls.get("caFile"))
        if self._tls.get("caData"):
            context.load_verify_locations(cadata=base64.b64decode(self._tls["caData"]).decode())
        if self._tls.get("certFile"):
            context.load_cert_chain(self._tls["certFile"], self._tls.get("keyFile"))
        if self._tls.get("insecure"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
