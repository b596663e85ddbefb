"""The autoscaler killed right before or right after each of its writes, to the API or the cloud, and another started with an empty memory: the end is the same.

By default one death is tried, chosen by a seed; KUBELING_CRASH_POINTS=all tries every one (a minute or two), KUBELING_CRASH_SEED another choice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.resources import NODES, POD_DISRUPTION_BUDGETS, PODS, SERVICE_ACCOUNTS
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.kubeconfig import ClientConfig
from kubeling.client.rest import Client
from kubeling.cloud.autoscaler import drain, nodes
from kubeling.cloud.autoscaler.autoscaler import Autoscaler
from kubeling.cloud.autoscaler.settings import Settings
from kubeling.cloud.provider import Machine, NodeGroup
from kubeling.daemon.clock import SystemClock
from kubeling.daemon.tasks import Supervisor
from tests.cloud.clouds import Cloud, Simulation, group, node, pod
from tests.controllers.crashpoints.scoped import ScopedClient
from tests.plane import Plane

pytestmark = pytest.mark.live
Obj = dict[str, Any]
Result = TypeVar("Result")
#: The writes that every run makes, by what is in them, and how often at least. The report in the ConfigMap is none that matters.
WRITES = {"grow": 1, "PATCH /api/v1/nodes/": 4, "/eviction": 1, "remove": 1}
FAST = Settings(scan_interval=0.05, unneeded=0.2, delay_after_add=0.0, delay_after_failure=0.1, max_pod_eviction=30)
SEED = int(os.environ.get("KUBELING_CRASH_SEED", "1"))


@dataclass(frozen=True, slots=True)
class Death:
    """At the so-and-so-manieth write of a kind: right before it is sent, or right after it was answered."""

    kind: str
    number: int
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.kind.strip('/')} {self.number}"


ALL = [Death(kind, number + 1, after) for kind, most in WRITES.items() for number in range(most) for after in (False, True)]
CHOSEN = ALL if os.environ.get("KUBELING_CRASH_POINTS") == "all" else random.Random(SEED).sample(ALL, 1)

#: The writes from which on its copies stand still for a second.
FROZEN = range(1, 13) if os.environ.get("KUBELING_CRASH_POINTS") == "all" else (random.Random(SEED).randrange(1, 10),)


class Mortal(ScopedClient):
    """Dies at one of its writes; those to the cloud count like those to the API."""

    def __init__(self, config: ClientConfig, namespace: str, death: Death | None, freeze_at: int | None) -> None:
        super().__init__(config, namespace, freeze_at=freeze_at)
        self._at, self._count = death, 0

    async def request_bytes(self, method: str, path: str, **more: Any) -> bytes:
        if method == "GET":
            return await super().request_bytes(method, path, **more)
        return await self.through(f"{method} {path}", lambda: super(Mortal, self).request_bytes(method, path, **more))

    async def through(self, what: str, work: Callable[[], Awaitable[Result]]) -> Result:
        fatal = False
        if self._at is not None and self._at.kind in what:
            self._count += 1
            fatal = self._count == self._at.number
        if self.dead.is_set() or (fatal and self._at is not None and not self._at.after):
            await self._die()
        answer = await work()
        if fatal:
            await self._die()
        return answer


class Groups:
    """The cloud as one autoscaler sees it."""

    def __init__(self, cloud: Cloud, client: Mortal) -> None:
        self._cloud, self._client = cloud, client

    async def list(self) -> list[NodeGroup]:
        found: list[NodeGroup] = await self._cloud.list()
        return found

    async def grow(self, group: str, before: int, after: int) -> None:
        await self._client.through("grow", lambda: self._cloud.grow(group, before, after))

    async def remove(self, group: str, machine: Machine) -> None:
        await self._client.through("remove", lambda: self._cloud.remove(group, machine))


class Stage:
    """A group, and hands that play ReplicaSets, scheduler, kubelets and the disruption controller for the pods in `wanted`."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client, self.namespace, self.group = client, namespace, f"{namespace}-g"
        self.cloud = Cloud({self.group: group(self.group, 3)}, made=self._register)
        self.wanted: dict[str, str] = {}
        self._numbers = itertools.count()
        self.made = 0
        self.fewest = 99

    async def _register(self, machine: Machine, found: NodeGroup) -> None:
        self.made += 1
        body = node(machine.node, "2", group=found.name)
        body["metadata"].pop("uid")
        await self.client.create(NODES, body)
        await self.client.patch(NODES, machine.node, {"status": body["status"]}, subresource="status")

    async def pods(self) -> list[Obj]:
        found: list[Obj] = (await self.client.list(PODS, namespace=self.namespace))["items"]
        return found

    async def hands(self) -> None:
        while True:
            with contextlib.suppress(ApiError):
                await self._round()
            await asyncio.sleep(0.05)

    async def _round(self) -> None:
        there = await self.pods()
        living = {each["metadata"]["labels"]["role"]: each for each in there if not each["metadata"].get("deletionTimestamp")}
        machines = [each.node for each in self.cloud.groups[self.group].machines]
        listed = (await self.client.list(NODES))["items"]
        open_to = [each["metadata"]["name"] for each in listed if each["metadata"]["name"] in machines]
        open_to = [
            name
            for name in open_to
            if not any(nodes.mark_of(n, nodes.TO_BE_DELETED) is not None for n in listed if n["metadata"]["name"] == name)
        ]
        for each in listed:  # The node lifecycle controller.
            if each["metadata"]["name"].startswith(self.group) and each["metadata"]["name"] not in machines:
                await self.client.delete(NODES, each["metadata"]["name"])
        for each in there:
            role, name = each["metadata"]["labels"]["role"], each["metadata"]["name"]
            if each["metadata"].get("deletionTimestamp") or role not in self.wanted:
                await self.client.delete(PODS, name, self.namespace, grace_period_seconds=0)
            elif not each["spec"].get("nodeName") and open_to:
                await self._bind(each, living, open_to)
        for role, cpu in self.wanted.items():
            if role not in living:
                await self._create(role, cpu)
        running = [each for role, each in living.items() if role.startswith("small") and each["spec"].get("nodeName")]
        if len(running) < 2 and self.fewest < 99:
            self.fewest = min(self.fewest, len(running))
        status = {
            "disruptionsAllowed": max(0, len(running) - 1),
            "currentHealthy": len(running),
            "desiredHealthy": 1,
            "expectedPods": 2,
            "observedGeneration": 1,
        }
        await self.client.patch(POD_DISRUPTION_BUDGETS, "b", {"status": status}, self.namespace, subresource="status")

    async def _create(self, role: str, cpu: str) -> None:
        body = {**pod(f"{role}-{next(self._numbers)}", cpu), "status": {}}
        body["metadata"] |= {"namespace": self.namespace, "labels": {"role": role, "app": role[:5]}}
        body["metadata"].pop("uid")
        made = await self.client.create(PODS, body)
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        name = made["metadata"]["name"]
        await self.client.patch(PODS, name, {"status": {"conditions": [condition]}}, self.namespace, subresource="status")

    async def _bind(self, each: Obj, living: dict[str, Obj], open_to: list[str]) -> None:
        """One big pod on a node, and a small one beside each where two nodes are open."""
        role = each["metadata"]["labels"]["role"]
        same = {other["spec"].get("nodeName") for key, other in living.items() if key[:3] == role[:3]}
        free = [name for name in open_to if name not in same]
        if not free and role.startswith("small") and "big0" not in self.wanted:
            free = open_to
        if not free:
            return
        target = {"apiVersion": "v1", "kind": "Node", "name": free[0]}
        name = each["metadata"]["name"]
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": self.namespace}, "target": target}
        await self.client.create(PODS, body, self.namespace, name=name, subresource="binding")
        status = {"phase": "Running", "conditions": [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready")]}
        await self.client.patch(PODS, name, {"status": status}, self.namespace, subresource="status")
        each["spec"]["nodeName"] = free[0]


async def autoscaler(plane: Plane, stage: Stage, death: Death | None, born: list[Mortal], freeze_at: int | None = None) -> None:
    """One life, until it is cancelled or dies."""
    async with Mortal(plane.config(), stage.namespace, death, freeze_at) as own:
        born.append(own)

        async def live() -> None:
            async with Supervisor() as parts:
                informers, events = InformerFactory(own), EventRecorder(own, "cluster-autoscaler")
                pods, there = informers.informer(PODS), informers.informer(NODES)
                simulation = Simulation(
                    lambda: (list(there.store), [each for each in pods.store if each["spec"].get("nodeName")])
                )
                made = Autoscaler(own, informers, events, Groups(stage.cloud, own), simulation, FAST, SystemClock())
                parts.start("autoscaler", made.run)
                informers.start(parts)
                await asyncio.Event().wait()

        life, end = asyncio.create_task(live()), asyncio.create_task(own.dead.wait())
        try:
            await asyncio.wait((life, end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (life, end):
                each.cancel()
            await asyncio.gather(life, end, return_exceptions=True)


async def lives(plane: Plane, stage: Stage, death: Death | None, born: list[Mortal]) -> None:
    """One after the other; only the first has to die."""
    await autoscaler(plane, stage, death, born)
    await autoscaler(plane, stage, None, born)


@pytest.fixture
async def stage(client: Client, namespace: str) -> AsyncIterator[Stage]:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}
    await client.create(SERVICE_ACCOUNTS, account)
    budget: Obj = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "small"}}},
    }
    await client.create(POD_DISRUPTION_BUDGETS, budget)
    made = Stage(client, namespace)
    yield made
    for each in await made.pods():
        await client.delete(PODS, each["metadata"]["name"], namespace, grace_period_seconds=0)
    for each in (await client.list(NODES))["items"]:
        if each["metadata"]["name"].startswith(made.group):
            await client.delete(NODES, each["metadata"]["name"])


@pytest.mark.parametrize("death", CHOSEN, ids=str)
async def test_the_end_is_the_same(plane: Plane, tools: Any, stage: Stage, death: Death, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "UNMARK_SECONDS", 0.1)  # The dead are not waited for.
    born: list[Mortal] = []
    await play(tools, stage, lives(plane, stage, death, born))
    assert born[0].dead.is_set(), f"it was not killed {death}: {born[0].writes}"


@pytest.mark.parametrize("write", FROZEN)
async def test_copies_that_stand_still_for_a_second_do_no_harm(plane: Plane, tools: Any, stage: Stage, write: int) -> None:
    await play(tools, stage, autoscaler(plane, stage, None, [], freeze_at=write))


async def play(tools: Any, stage: Stage, work: Coroutine[Any, Any, None]) -> None:
    """Two machines come, one goes."""
    tasks = [asyncio.create_task(stage.hands()), asyncio.create_task(work)]

    async def settled(pods: int, machines: int) -> bool:
        found = await stage.pods()
        placed = [each for each in found if each["spec"].get("nodeName") and not each["metadata"].get("deletionTimestamp")]
        names = {each.node for each in stage.cloud.groups[stage.group].machines}
        assert len(placed) == len(found) == pods
        assert {each["spec"]["nodeName"] for each in placed} <= names
        return len(names) == machines

    try:
        stage.wanted = {"big0": "1500m", "big1": "1500m", "small0": "100m", "small1": "100m"}
        await tools.until(lambda: settled(4, 2), "two machines came")
        stage.fewest = 2
        stage.wanted = {"small0": "100m", "small1": "100m"}
        await tools.until(lambda: settled(2, 1), "one of them has gone, and its pod is on the other")
        await tools.until(lambda: free(stage), "nothing is left half done")
        assert stage.made == 2
        assert stage.fewest >= 1
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def free(stage: Stage) -> bool:
    """The node that is left is not marked as going."""
    (left,) = [each.node for each in stage.cloud.groups[stage.group].machines]
    return nodes.mark_of(await stage.client.get(NODES, left), nodes.TO_BE_DELETED) is None
