"""The service controller on a live apiserver, at a cloud that fails and hangs: nothing is forgotten, neither a balancer nor its removal."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.resources import EVENTS, SERVICES
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.rest import Client
from kubeling.cloud.patience import Patience
from kubeling.cloud.provider import LoadBalancer, Obj, ProviderError
from kubeling.cloud.service_controller import FINALIZER, ServiceController
from kubeling.daemon.clock import SystemClock
from kubeling.daemon.tasks import Supervisor
from tests.plane import Plane


class Balancers:
    """What a cloud has, by the names of Services; `script` says how the next calls go: an error, seconds to hang, or (when it is over) well."""

    owned_annotations: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.script: list[ProviderError | float] = []

    async def _go(self) -> None:
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, ProviderError):
                raise step
            await asyncio.sleep(step)

    async def ensure(self, service: Obj, nodes: Sequence[Obj]) -> LoadBalancer:
        await self._go()
        self.there.add(service["metadata"]["name"])
        return LoadBalancer(({"ip": "192.0.2.7"},))

    async def update(self, service: Obj, nodes: Sequence[Obj]) -> None:
        await self._go()

    async def delete(self, service: Obj) -> None:
        await self._go()
        self.there.discard(service["metadata"]["name"])


@pytest.mark.live
async def test_what_fails_is_tried_until_it_works(plane: Plane, client: Client, tools: Any) -> None:
    cloud, name = Balancers(), f"s-{uuid.uuid4().hex[:6]}"
    trouble: list[ProviderError | float] = [ProviderError("quota"), 5.0, ProviderError("quota")]
    cloud.script = list(trouble)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"app": "x"}},
    }
    async with Client(plane.config("system:cloud-controller-manager")) as own, Supervisor() as parts:
        informers, events = InformerFactory(own), EventRecorder(own, "service-controller")
        patience = Patience(call_seconds=0.3, base=0.05, limit=0.2)
        controller = ServiceController(own, informers, events, SystemClock(), patience)
        controller.balancers = cloud
        parts.start("controller", controller.run)
        parts.start("events", events.run)
        informers.start(parts)
        await client.create(SERVICES, service)

        async def has_address() -> bool:
            found = await client.get(SERVICES, name, "default")
            ingress = (found["status"].get("loadBalancer") or {}).get("ingress") or []
            return [each["ip"] for each in ingress] == ["192.0.2.7"]

        await tools.until(has_address, "it has its balancer")
        assert cloud.script == []
        said = [
            each["message"]
            for each in (await client.list(EVENTS, namespace="default"))["items"]
            if each["involvedObject"]["name"] == name
        ]
        assert "Error syncing load balancer: failed to ensure load balancer: quota" in said
        assert any("has not answered within" in each for each in said)

        cloud.script = list(trouble)
        await client.delete(SERVICES, name, "default")
        assert FINALIZER in (await client.get(SERVICES, name, "default"))["metadata"]["finalizers"]

        async def gone() -> bool:
            try:
                await client.get(SERVICES, name, "default")
            except ApiError as error:
                return error.code == 404
            return False

        await tools.until(gone, "the Service is gone")
        assert cloud.there == set()
