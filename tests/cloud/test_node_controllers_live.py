"""The controllers of nodes and routes on a live apiserver, at a cloud that fails, is slow and drifts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.resources import NODES
from kubeling.client.events import EventRecorder
from kubeling.client.informer import InformerFactory
from kubeling.client.rest import Client
from kubeling.cloud.node_controller import UNINITIALIZED, NodeController, addresses
from kubeling.cloud.node_lifecycle import SHUTDOWN, NodeLifecycleController
from kubeling.cloud.patience import Patience
from kubeling.cloud.provider import Metadata, Route
from kubeling.cloud.route_controller import RouteController, plan
from kubeling.daemon.clock import SystemClock
from kubeling.daemon.tasks import Supervisor
from tests.cloud.clouds import Cloud, node
from tests.plane import Plane

Obj = dict[str, Any]
Run = Callable[[], Awaitable[None]]
TAINT = {"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"}


def patience() -> Patience:
    return Patience(call_seconds=0.5, base=0.05, limit=0.2)


@asynccontextmanager
async def running(plane: Plane, make: Callable[[Client, InformerFactory, EventRecorder], Run]) -> AsyncIterator[None]:
    """A controller with the rights of the daemon that it is part of."""
    async with Client(plane.config("system:cloud-controller-manager")) as client, Supervisor() as parts:
        informers, events = InformerFactory(client), EventRecorder(client, "test")
        parts.start("controller", make(client, informers, events))
        parts.start("events", events.run)
        informers.start(parts)
        yield


async def made(client: Client, name: str, *taints: Obj, ready: str = "True", **spec: Any) -> Obj:
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"taints": list(taints), **spec}}
    await client.create(NODES, body)
    status = {"conditions": [{"type": "Ready", "status": ready}], "addresses": [{"type": "Hostname", "address": name}]}
    return await client.patch(NODES, name, {"status": status}, subresource="status")


@pytest.fixture
def name() -> str:
    return f"n-{uuid.uuid4().hex[:6]}"


@pytest.mark.live
async def test_a_node_is_told_what_it_is_however_the_cloud_behaves(plane: Plane, client: Client, tools: Any, name: str) -> None:
    told = Metadata(f"test://{name}", "m5.large", ({"type": "InternalIP", "address": "10.9.9.9"},), "a", "r")
    cloud = Cloud(known={name: told}, failures=2, seconds=0.05)

    def controller(own: Client, informers: InformerFactory, events: EventRecorder) -> Run:
        return NodeController(own, informers, events, cloud, SystemClock(), patience()).run

    await made(client, name, TAINT, {"key": "kept", "effect": "NoSchedule"})
    try:
        async with running(plane, controller):

            async def initialised() -> bool:
                found = await client.get(NODES, name)
                labels = found["metadata"].get("labels") or {}
                assert found["spec"]["taints"] == [{"key": "kept", "effect": "NoSchedule"}]
                assert found["spec"].get("providerID") == f"test://{name}"
                assert labels.get("topology.kubernetes.io/zone") == "a"
                assert labels["topology.kubernetes.io/region"] == labels["failure-domain.beta.kubernetes.io/region"] == "r"
                assert labels["node.kubernetes.io/instance-type"] == "m5.large"
                addresses = {each["type"]: each["address"] for each in found["status"]["addresses"]}
                return addresses == {"InternalIP": "10.9.9.9", "Hostname": name}

            await tools.until(initialised, "it knows its machine")
        assert cloud.calls.count("metadata") >= 3
    finally:
        await client.delete(NODES, name)


@pytest.mark.live
async def test_a_node_goes_with_its_machine(plane: Plane, client: Client, tools: Any, name: str) -> None:
    foreign = f"{name}-foreign"
    cloud = Cloud(known={name: Metadata(f"test://{name}")}, off={name})
    held: list[NodeLifecycleController] = []

    def controller(own: Client, informers: InformerFactory, events: EventRecorder) -> Run:
        held.append(NodeLifecycleController(own, informers, events, cloud, SystemClock(), patience()))
        return held[0].run

    await made(client, name, ready="Unknown", providerID=f"test://{name}")
    await made(client, foreign, ready="Unknown", providerID="other://x")

    async def taints() -> list[str]:
        return [each["key"] for each in (await client.get(NODES, name))["spec"].get("taints") or ()]

    async def is_off() -> bool:
        return SHUTDOWN in await taints()

    async def is_on() -> bool:
        return SHUTDOWN not in await taints()

    async def gone() -> bool:
        try:
            await client.get(NODES, name)
        except ApiError as error:
            return error.code == 404
        return False

    try:
        async with running(plane, controller):
            await tools.until(is_off, "its machine is switched off")
            cloud.off.clear()
            await client.patch(
                NODES, name, {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, subresource="status"
            )
            await tools.until(is_on, "it is on again")
            # The cloud does not answer, then it does: only what it says counts.
            cloud.seconds = 1.0
            cloud.known.clear()
            held[0].news()
            await asyncio.sleep(0.7)
            assert not await gone()
            cloud.seconds, cloud.failures = 0.0, 2
            await tools.until(gone, "its Node is gone")
            assert (await client.get(NODES, foreign))["spec"]["providerID"] == "other://x"
    finally:
        await client.delete(NODES, foreign)


@pytest.mark.live
async def test_routes_are_made_repaired_and_removed(plane: Plane, client: Client, tools: Any, name: str) -> None:
    stale, foreign = Route("old", "gone", "10.77.9.0/24"), Route("theirs", "x", "192.168.0.0/24")
    cloud = Cloud(there={stale, foreign}, failures=3)

    def controller(own: Client, informers: InformerFactory, events: EventRecorder) -> Run:
        made = RouteController(
            own, informers, events, cloud, SystemClock(), patience(), cluster="c", cluster_cidrs=["10.77.0.0/16"]
        )
        made.period = 0.2
        return made.run

    await made(client, name, podCIDR="10.77.1.0/24", podCIDRs=["10.77.1.0/24"])

    async def right() -> bool:
        ours = {(each.node, each.destination) for each in cloud.there if each.destination.startswith("10.77")}
        found = await client.get(NODES, name)
        shown = {each["type"]: (each["status"], each.get("reason")) for each in found["status"]["conditions"]}
        assert shown.get("NetworkUnavailable") == ("False", "RouteCreated")
        return ours == {(name, "10.77.1.0/24")} and foreign in cloud.there

    try:
        async with running(plane, controller):
            await tools.until(right, "its route is there, the old one is not")
            cloud.there.discard(next(each for each in cloud.there if each.node == name))
            await tools.until(right, "what drifted is repaired")
    finally:
        await client.delete(NODES, name)


def test_what_routes_are_missing_or_too_much() -> None:
    there = {**node("a"), "spec": {"podCIDRs": ["10.1.0.0/24", "fd00::/64"]}}
    going = {**node("b"), "spec": {"podCIDR": "10.1.1.0/24"}}
    going["metadata"] = {**going["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    old, theirs = Route("b", "b", "10.1.1.0/24"), Route("z", "z", "10.2.0.0/24")
    found = plan([there, going], [old, theirs, Route("x", "a", "10.1.0.0/24")], ["10.1.0.0/16", "fd00::/48"])
    assert [(each.node, each.destination) for each in found.create] == [("a", "fd00::/64")]
    assert found.delete == (old,)


def test_addresses_of_which_the_cloud_says_nothing_stay() -> None:
    v4, v6, host = ({"type": "InternalIP", "address": each} for each in ("10.0.0.1", "fd00::1", "x"))
    host["type"] = "Hostname"
    found = {"status": {"addresses": [v4, v6, host]}}
    assert addresses(found, Metadata("x", addresses=(v4,))) is None
    moved = {"type": "InternalIP", "address": "10.0.0.2"}
    assert addresses(found, Metadata("x", addresses=(moved,))) == [moved, v6, host]
    assert addresses(found, Metadata("x")) is None
