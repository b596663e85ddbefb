"""Health-check node ports: how a balancer learns which nodes have endpoints of a Service whose traffic stays on its node (`externalTrafficPolicy: Local`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kubeling.daemon.log import get_logger
from kubeling.daemon.serving import Page, StatusServer
from kubeling.kubeproxy.model import ServicePort

log = get_logger("kubeproxy.health")


@dataclass(slots=True)
class _Check:
    namespace: str
    name: str
    endpoints: int


class HealthChecks:
    """A small server for each such port, answering 200 where there are endpoints and the proxy is well, else 503, as upstream's does."""

    def __init__(self, address: str, well: Callable[[], bool]) -> None:
        self._address, self._well = address, well
        self._checks: dict[int, _Check] = {}
        self._servers: dict[int, asyncio.Task[None]] = {}

    def sync(self, ports: Iterable[ServicePort]) -> None:
        """Serve exactly the health ports of these."""
        wanted: dict[int, _Check] = {}
        local: dict[int, set[str]] = {}
        for each in ports:
            if each.health_port:
                wanted[each.health_port] = _Check(each.namespace, each.name, 0)
                local.setdefault(each.health_port, set()).update(end.ip for end in each.external if end.local)
        for number, check in wanted.items():
            check.endpoints = len(local[number])
        self._checks = wanted
        for number in [each for each in self._servers if each not in wanted]:
            self._servers.pop(number).cancel()
        for number in wanted:
            task = self._servers.get(number)
            if task is None or task.done():
                self._servers[number] = asyncio.ensure_future(self._serve(number))

    async def _serve(self, number: int) -> None:
        def page() -> Page:
            return self._page(number)

        try:
            await StatusServer({"/": page, "/healthz": page}).run(self._address, number)
        except OSError as error:
            # The next change of Services tries again.
            log.error("a health-check port cannot be opened", port=number, error=str(error))

    def _page(self, number: int) -> Page:
        check = self._checks[number]
        well = self._well()
        body = {
            "service": {"namespace": check.namespace, "name": check.name},
            "localEndpoints": check.endpoints,
            "serviceProxyHealthy": well,
        }
        # By which a balancer that knows of it gives a node its share, as upstream's proxy says it.
        weight = (("x-load-balancing-endpoint-weight", str(check.endpoints)), ("x-content-type-options", "nosniff"))
        return Page(json.dumps(body) + "\n", 200 if check.endpoints and well else 503, "application/json", weight)

    async def close(self) -> None:
        for task in self._servers.values():
            task.cancel()
        await asyncio.gather(*self._servers.values(), return_exceptions=True)
