"""Controllers of kinds that not every apiserver serves: they are built when the server, asked once in a term of leadership, says that it does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.resources import Resource
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.controllers.context import Context, Obj
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger

log = get_logger("controller-manager")

Run = Callable[[], Awaitable[None]]


async def find_resource(client: Client, group: str, version: str, plural: str) -> Obj | None:
    """The APIResource of a kind, as discovery has it; None where it is not served. Raises ApiError where the server cannot tell."""
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        document = await client.request("GET", path)
    except ApiError as error:
        if is_not_found(error):
            return None
        raise
    return next((each for each in document.get("resources") or () if each.get("name") == plural), None)


def when_served(ctx: Context, resource: Resource, make: Callable[[Context], Run]) -> Run:
    """The run of a controller that is made, with its informers, only where `resource` is served; otherwise it rests."""

    async def run() -> None:
        backoff = Backoff(base=0.2, limit=10)
        while True:
            try:
                found = await find_resource(ctx.client, resource.group, resource.version, resource.plural)
                break
            except (ApiError, ConnectionFailed) as error:
                log.debug("cannot ask what is served", resource=resource.qualified, error=str(error))
                await ctx.clock.sleep(backoff.next())
        if found is None:
            log.info("not served, its controller rests", resource=resource.qualified)
            await asyncio.Event().wait()
        await make(ctx)()

    return run
