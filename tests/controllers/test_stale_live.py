"""A controller whose copy of the pods has stopped to follow the server: what it does with it must not be wrong for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.resources import JOBS, PODS, REPLICA_SETS, SERVICE_ACCOUNTS
from kubeling.client.controller import Request
from kubeling.client.informer import InformerFactory
from kubeling.client.rest import Client
from kubeling.controllers.context import Context
from kubeling.controllers.job import JobController
from kubeling.controllers.replicaset import ReplicaController
from kubeling.daemon.tasks import Supervisor

pytestmark = pytest.mark.live
Obj = dict[str, Any]


class Frozen:
    """A controller in this process, whose informers run until :meth:`freeze` stops that of the pods."""

    def __init__(self, client: Client, build: Any, owners: Any) -> None:
        self.ctx = Context(client, InformerFactory(client))
        self.controller = build(self.ctx)
        self.pods = self.ctx.informers.informer(PODS)
        self.owners = self.ctx.informers.informer(owners)
        self._tasks = {each: asyncio.create_task(each.run()) for each in (self.pods, self.owners)}

    async def __aenter__(self) -> Frozen:
        for each in (self.pods, self.owners):
            await each.synced.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self._tasks.values():
            each.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def freeze(self) -> None:
        self._tasks[self.pods].cancel()
        await asyncio.gather(self._tasks[self.pods], return_exceptions=True)

    async def act(self, request: Request, times: int = 1) -> None:
        """Reconcile as the work queue would; a conflict is ordinary."""
        for _ in range(times):
            try:
                await self.controller.reconcile(request)
            except ApiError as error:
                if error.code != 409:
                    raise
            await asyncio.sleep(0.1)


async def test_a_job_counts_nothing_twice(tools: Any, client: Client, namespace: str, manager: Any, hollow: Any) -> None:
    account = manager("--controllers=serviceaccount")
    await tools.until(lambda: client.get(SERVICE_ACCOUNTS, "default", namespace), "the account")
    tools.stop(account)
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {"completions": 6, "parallelism": 2, "template": template},
    }
    hollow.fate = lambda pod: "Succeeded"
    request = Request(namespace, "j")
    async with Frozen(client, JobController, JOBS) as frozen:
        await client.create(JOBS, body, namespace)

        async def there() -> bool:
            return frozen.owners.store.get("j", namespace) is not None

        await tools.until(there, "the copy shows the Job")
        await frozen.act(request)

        async def finished() -> bool:
            found = [each for each in frozen.pods.store if each["metadata"]["namespace"] == namespace]
            return [each["status"].get("phase") for each in found] == ["Succeeded"] * 2

        await tools.until(finished, "the copy shows two pods that have finished, with their finalizers")
        await frozen.freeze()
        hollow.fate = lambda pod: "Pending"
        other = manager("--controllers=job")

        async def counted() -> bool:
            status = (await client.get(JOBS, "j", namespace))["status"]
            pods = (await client.list(PODS, namespace))["items"]
            held = [each for each in pods if each["status"].get("phase") == "Succeeded" and each["metadata"].get("finalizers")]
            return (
                status.get("succeeded") == 2 and not held and not (status.get("uncountedTerminatedPods") or {}).get("succeeded")
            )

        await tools.until(counted, "the other one has counted them")
        tools.stop(other)
        await frozen.act(request, times=4)
        status = (await client.get(JOBS, "j", namespace))["status"]
        assert status["succeeded"] == 2
        assert not (status.get("uncountedTerminatedPods") or {}).get("succeeded")

        # What it made too much, not seeing what runs, is put right by the one that sees.
        manager("--controllers=job")

        async def two_run() -> bool:
            pods = (await client.list(PODS, namespace))["items"]
            return (
                sum(
                    1
                    for each in pods
                    if each["status"].get("phase") != "Succeeded" and not each["metadata"].get("deletionTimestamp")
                )
                == 2
            )

        await tools.until(two_run, "two at a time again")


async def test_a_replicaset_makes_nothing_twice(tools: Any, client: Client, namespace: str, manager: Any) -> None:
    account = manager("--controllers=serviceaccount")
    await tools.until(lambda: client.get(SERVICE_ACCOUNTS, "default", namespace), "the account")
    tools.stop(account)
    labels = {"app": "r"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}
    request = Request(namespace, "r")

    def build(ctx: Context) -> ReplicaController:
        return ReplicaController(ctx, REPLICA_SETS, "replicaset-controller")

    async with Frozen(client, build, REPLICA_SETS) as frozen, Supervisor() as parts:
        parts.start("events", frozen.ctx.recorder("replicaset-controller").run)
        await frozen.freeze()
        await client.create(
            REPLICA_SETS, {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r"}, "spec": spec}, namespace
        )

        async def there() -> bool:
            return frozen.owners.store.get("r", namespace) is not None

        await tools.until(there, "the copy shows the ReplicaSet")
        await frozen.act(request, times=5)
        assert len((await client.list(PODS, namespace))["items"]) == 3, "it knows what it made, though it does not see it"
