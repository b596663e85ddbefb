"""A quota, its controller and several clients at once: what is allowed is never exceeded, and what is given back can be had again."""

from __future__ import annotations

import asyncio
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.resources import CONFIG_MAPS, RESOURCE_QUOTAS
from kubeling.client.rest import Client

ALLOWED = 8


async def test_never_more_than_allowed_and_never_less_for_long(tools: Any, client: Client, namespace: str, manager: Any) -> None:
    """Twelve clients create and delete as fast as they can while the controller counts. A list at any moment shows no more than is allowed."""
    manager("--controllers=resourcequota")
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": str(ALLOWED)}}}
    await client.create(RESOURCE_QUOTAS, quota, namespace)

    async def counts() -> bool:
        status = (await client.get(RESOURCE_QUOTAS, "q", namespace)).get("status") or {}
        return (status.get("hard") or {}).get("count/configmaps") == str(ALLOWED)

    await tools.until(counts, "the controller has seen the quota")
    made = refused = 0
    most = 0
    stop = asyncio.Event()

    async def work(number: int) -> None:
        nonlocal made, refused
        at = 0
        while not stop.is_set():
            name, at = f"c-{number}-{at}", at + 1
            try:
                await client.create(CONFIG_MAPS, {"metadata": {"name": name}}, namespace)
            except ApiError as error:
                if error.code != 403 or "exceeded quota: q, requested: count/configmaps=1" not in error.message:
                    raise
                refused += 1
                await asyncio.sleep(0.02)
                continue
            made += 1
            await client.delete(CONFIG_MAPS, name, namespace)

    async def look() -> None:
        nonlocal most
        while not stop.is_set():
            most = max(most, len((await client.list(CONFIG_MAPS, namespace))["items"]))

    tasks = [asyncio.create_task(work(number)) for number in range(12)] + [asyncio.create_task(look())]
    await asyncio.sleep(6)
    stop.set()
    await asyncio.gather(*tasks)
    assert most <= ALLOWED
    assert refused
    # What was deleted was given back, again and again.
    assert made > 2 * ALLOWED

    async def empty() -> bool:
        status = (await client.get(RESOURCE_QUOTAS, "q", namespace))["status"]
        there = len((await client.list(CONFIG_MAPS, namespace))["items"])
        return status["used"] == {"count/configmaps": str(there)}

    await tools.until(empty, "in the end the numbers agree")
