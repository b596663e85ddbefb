"""NetworkPolicies by the real proxy process: how long until a change of a policy, or of a pod that policies speak of, is in the kernel."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

from kubeling.api.resources import NETWORK_POLICIES, NODES, PODS
from kubeling.bench.net.services import NODE, changes_of, share_of, start_proxy, timed
from kubeling.bench.report import Figure, percentile
from kubeling.bench.scheduler.plane import Plane, stop
from kubeling.client.rest import Client

Obj = dict[str, Any]
#: Pods of the measured node, and of all others: each is an app of its own.
_HERE, _ELSEWHERE = 110, 1000
_PARALLEL = 32


def measure(folder: Path, count: int, changes: int) -> list[Figure]:
    """With `count` policies, each for one app, from one other."""
    words = f"{count:,} policies"
    with Plane(folder) as plane:
        asyncio.run(_fill(plane, count))
        began = time.monotonic()
        proxy = start_proxy(plane)
        try:
            return asyncio.run(_measure(plane, words, proxy.pid, began, changes))
        finally:
            stop(proxy)


async def _measure(plane: Plane, words: str, pid: int, began: float, changes: int) -> list[Figure]:
    async with plane.client() as client, changes_of("kubeling-policy") as seen:
        await asyncio.wait_for(seen.get(), 120)
        figures = [Figure(f"{words}: proxy started until they are enforced", time.monotonic() - began, "s")]
        for what, change in (("policy", _change_policy), ("pod elsewhere", _change_pod)):
            times = await timed(seen, partial(change, client), changes)
            figures.append(
                Figure(f"{words}: {what} changed until the rule is in force, p50", percentile(times, 0.5) * 1000, "ms")
            )
            figures.append(Figure(f"{words}: the same, p99", percentile(times, 0.99) * 1000, "ms"))

        async def churn() -> None:
            for number in range(100):
                began = time.monotonic()
                await _change_pod(client, number)
                await asyncio.sleep(max(0.0, 0.1 - (time.monotonic() - began)))

        share = await share_of(pid, churn)
        figures.append(Figure(f"{words}: the proxy while 10 pods elsewhere change in a second", share, "% of a core"))
        return figures


async def _change_policy(client: Client, number: int) -> float:
    """Another port; returns when it was begun."""
    body = {"spec": {"ingress": [{"from": [_peer(_HERE)], "ports": [{"port": 1000 + number}]}]}}
    began = time.monotonic()
    await client.patch(NETWORK_POLICIES, "p0", body, "default")
    return began


async def _change_pod(client: Client, number: int) -> float:
    """The pod from which the first policy's app may be reached gets another address."""
    body = {"status": _status(f"10.250.0.{number % 250 + 1}")}
    began = time.monotonic()
    await client.patch(PODS, f"a{_HERE}", body, "default", subresource="status")
    return began


async def _fill(plane: Plane, count: int) -> None:
    gate = asyncio.Semaphore(_PARALLEL)
    async with plane.client() as client:
        await plane.namespace(client, "default")
        for name, cidr in ((NODE, "10.244.0.0/24"), ("elsewhere", "10.245.0.0/16")):
            await client.create(
                NODES,
                {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDRs": [cidr], "podCIDR": cidr}},
            )

        async def pod(number: int) -> None:
            here = number < _HERE
            address = f"10.244.0.{number + 1}" if here else f"10.245.{number // 250}.{number % 250 + 1}"
            async with gate:
                body = {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"a{number}", "labels": {"app": f"a{number}"}},
                    "spec": {"nodeName": NODE if here else "elsewhere", "containers": [{"name": "c", "image": "i"}]},
                }
                await client.create(PODS, body, "default")
                await client.patch(PODS, f"a{number}", {"status": _status(address)}, "default", subresource="status")

        async def policy(number: int) -> None:
            async with gate:
                spec = {
                    "podSelector": {"matchLabels": {"app": f"a{number % (_HERE + _ELSEWHERE)}"}},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"from": [_peer((number + _HERE) % (_HERE + _ELSEWHERE))], "ports": [{"port": 80}]}],
                }
                body = {
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "NetworkPolicy",
                    "metadata": {"name": f"p{number}"},
                    "spec": spec,
                }
                await client.create(NETWORK_POLICIES, body, "default")

        await asyncio.gather(*(pod(number) for number in range(_HERE + _ELSEWHERE)))
        await asyncio.gather(*(policy(number) for number in range(count)))


def _peer(app: int) -> Obj:
    return {"podSelector": {"matchLabels": {"app": f"a{app}"}}}


def _status(address: str) -> Obj:
    return {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
