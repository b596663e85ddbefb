"""The autoscaler's loop on a live apiserver, at a cloud that can fail: alone, two at once, and after a crash between two steps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from kubeling.api.resources import CONFIG_MAPS, EVENTS, NODES, POD_DISRUPTION_BUDGETS, PODS, SERVICE_ACCOUNTS
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.rest import Client
from kubeling.cloud.autoscaler import nodes as marks
from kubeling.cloud.autoscaler.autoscaler import Autoscaler
from kubeling.cloud.autoscaler.settings import Settings
from kubeling.cloud.provider import Machine, NodeGroup
from kubeling.daemon.clock import SystemClock
from kubeling.daemon.tasks import Supervisor
from tests.cloud.clouds import Cloud, Simulation, group, node, pod
from tests.plane import Plane

pytestmark = pytest.mark.live
Obj = dict[str, Any]
FAST = Settings(
    scan_interval=0.05, unneeded=1.0, delay_after_add=0.0, delay_after_failure=0.2, backoff_initial=0.3, max_pod_eviction=30
)


class World:
    """A group of a test's own, whose machines become Nodes at once, and a stand-in for the scheduler and the kubelets of its pods."""

    def __init__(self, plane: Plane, client: Client, namespace: str, maximum: int) -> None:
        self.plane, self.client, self.namespace = plane, client, namespace
        self.group = f"g{uuid.uuid4().hex[:5]}"
        self.cloud = Cloud({self.group: group(self.group, maximum)}, made=self._register)

    async def _register(self, machine: Machine, found: NodeGroup) -> None:
        template = node(machine.node, "2", group=found.name)
        template["metadata"].pop("uid")
        await self.client.create(NODES, template)
        await self.client.patch(NODES, machine.node, {"status": template["status"]}, subresource="status")

    @asynccontextmanager
    async def autoscaler(self, settings: Settings = FAST) -> AsyncIterator[None]:
        async with Client(self.plane.config("system:cloud-controller-manager")) as own, Supervisor() as parts:
            informers, events = InformerFactory(own), EventRecorder(own, "cluster-autoscaler")
            pods, there = informers.informer(PODS), informers.informer(NODES)
            simulation = Simulation(lambda: (list(there.store), [each for each in pods.store if each["spec"].get("nodeName")]))
            made = Autoscaler(own, informers, events, self.cloud, simulation, settings, SystemClock())
            parts.start("autoscaler", made.run)
            parts.start("events", events.run)
            informers.start(parts)
            yield

    async def wait(self, name: str, cpu: str = "1") -> None:
        """A pod that the scheduler has given up on."""
        body = {**pod(name, cpu), "status": {}}
        body["metadata"] |= {"namespace": self.namespace}
        body["metadata"].pop("uid")
        await self.client.create(PODS, body)
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        await self.client.patch(PODS, name, {"status": {"conditions": [condition]}}, self.namespace, subresource="status")

    async def bind(self, name: str, on: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": on}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": self.namespace}, "target": target}
        await self.client.create(PODS, body, self.namespace, name=name, subresource="binding")
        status = {"phase": "Running", "conditions": [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready")]}
        await self.client.patch(PODS, name, {"status": status}, self.namespace, subresource="status")

    async def grown(self, size: int) -> bool:
        return self.cloud.groups[self.group].size == size

    def members(self) -> list[str]:
        return [each.node for each in self.cloud.groups[self.group].machines]

    def called(self, what: str) -> list[str]:
        return [each for each in self.cloud.calls if each.startswith(what)]

    async def clear(self) -> None:
        listed = await self.client.list(NODES)
        for each in listed["items"]:
            if each["metadata"]["name"].startswith(f"{self.group}-"):
                await self.client.delete(NODES, each["metadata"]["name"])
        for each in (await self.client.list(PODS, namespace=self.namespace))["items"]:
            await self.client.delete(PODS, each["metadata"]["name"], self.namespace, grace_period_seconds=0)


@pytest.fixture
async def world(plane: Plane, client: Client, namespace: str) -> AsyncIterator[Callable[[int], World]]:
    made: list[World] = []
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}
    await client.create(SERVICE_ACCOUNTS, account)

    def make(maximum: int) -> World:
        made.append(World(plane, client, namespace, maximum))
        return made[-1]

    yield make
    for each in made:
        await each.clear()


async def test_two_at_once_bring_what_one_would(world: Callable[[int], World], tools: Any) -> None:
    """And pods say whether they brought one."""
    here = world(5)
    here.cloud.seconds = 0.2  # Both have looked before either gets a machine.
    for number in range(4):
        await here.wait(f"p{number}")
    await here.wait("huge", "64")
    async with here.autoscaler(), here.autoscaler():
        await tools.until(lambda: here.grown(2), "two machines for four pods")

        async def explained() -> bool:
            found = (await here.client.list(EVENTS, namespace=here.namespace))["items"]
            said = {(each["involvedObject"]["name"], each["reason"]) for each in found}
            return {("p0", "TriggeredScaleUp"), ("huge", "NotTriggerScaleUp")} <= said

        await tools.until(explained, "the pods say what became of them")
        await asyncio.sleep(0.5)
        assert len(here.members()) == 2
        found = await here.client.get(CONFIG_MAPS, "cluster-autoscaler-status", "kube-system")
        assert "autoscalerStatus: Running" in found["data"]["status"]


async def test_where_the_cloud_has_no_machines_another_group_is_tried(world: Callable[[int], World], tools: Any) -> None:
    here = world(5)
    other = f"{here.group}-b"
    here.cloud.groups[other] = group(other, 5)
    here.cloud.broken.add(here.group)
    await here.wait("p")
    settings = replace(FAST, expander=("priority",), priorities={here.group: 2, other: 1}, backoff_initial=60.0)
    async with here.autoscaler(settings):

        async def grown() -> bool:
            return here.cloud.groups[other].size == 1

        await tools.until(grown, "the other group has grown")

        async def explained() -> bool:
            found = (await here.client.list(EVENTS, namespace=here.namespace))["items"]
            said = {each["reason"]: each["message"] for each in found}
            return "no machines left" in said.get("FailedScaleUp", "") and f"{other} 0->1" in said.get("TriggeredScaleUp", "")

        await tools.until(explained, "the pod says both")
        assert len(here.called(f"grow {here.group} ")) == 1


async def test_what_is_not_needed_goes_with_its_budget_kept(world: Callable[[int], World], tools: Any) -> None:
    here = world(3)
    client, namespace = here.client, here.namespace
    await here.cloud.grow(here.group, 0, 3)
    first, second, third = here.members()
    for name, on in (("a", first), ("b", second)):
        await here.wait(name, "100m")
        await here.bind(name, on)
    budget: Obj = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": namespace},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
    }
    await client.create(POD_DISRUPTION_BUDGETS, budget)
    here.cloud.failures = 1
    async with here.autoscaler():
        await tools.until(lambda: here.grown(2), "the empty one has gone")
        assert here.called("remove") == [f"remove {third}"]
        await asyncio.sleep(1.5)
        assert here.members() == [first, second]
        # Now the budget has room for one: the disruption controller would say so.
        status = {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2, "observedGeneration": 1}
        await client.patch(POD_DISRUPTION_BUDGETS, "b", {"status": status}, namespace, subresource="status")

        async def one_left() -> bool:
            for each in (await client.list(PODS, namespace=namespace))["items"]:
                if each["metadata"].get("deletionTimestamp"):  # As its kubelet would end it.
                    await client.delete(PODS, each["metadata"]["name"], namespace, grace_period_seconds=0)
            return await here.grown(1)

        await tools.until(one_left, "one of the two has gone")
        left = (await client.list(PODS, namespace=namespace))["items"]
        assert [each["spec"]["nodeName"] for each in left] == here.members()
        said = (await client.get(NODES, here.members()[0]))["spec"].get("taints") or []
        assert marks.TO_BE_DELETED not in [each["key"] for each in said]


async def test_who_comes_after_a_crash_goes_on_or_takes_it_back(world: Callable[[int], World], tools: Any) -> None:
    """Two nodes were marked as going when the one that had marked them died: one is free, the other is not to be taken away any more."""
    here = world(2)
    await here.cloud.grow(here.group, 0, 2)
    free, held = here.members()
    await here.wait("kept", "100m")
    await here.bind("kept", held)
    annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    await here.client.patch(PODS, "kept", {"metadata": {"annotations": annotations}}, here.namespace)
    for name in (free, held):
        taint = {"key": marks.TO_BE_DELETED, "value": "1", "effect": "NoSchedule"}
        await here.client.patch(NODES, name, {"spec": {"taints": [taint]}})
    async with here.autoscaler():

        async def settled() -> bool:
            found = await here.client.get(NODES, held)
            return here.members() == [held] and not marks.mark_of(found, marks.TO_BE_DELETED)

        await tools.until(settled, "one is gone, the other is free again")
        assert (await here.client.get(PODS, "kept", here.namespace))["spec"]["nodeName"] == held
