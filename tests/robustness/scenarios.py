"""What is done to the cluster, by name. A scenario is a function of a run; :data:`SCENARIOS` holds them with the size that they need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .run import Run


@dataclass(frozen=True)
class Scenario:
    """`script` does its faults while its own traffic runs; recovery and verdict come after it."""

    script: Callable[[Run], Awaitable[None]]
    disk: bool = False
    clock: bool = False


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    *, disk: bool = False, clock: bool = False
) -> Callable[[Callable[[Run], Awaitable[None]]], Callable[[Run], Awaitable[None]]]:
    """Enter a function under its name, with dashes."""

    def enter(script: Callable[[Run], Awaitable[None]]) -> Callable[[Run], Awaitable[None]]:
        SCENARIOS[script.__name__.replace("_", "-")] = Scenario(script, disk, clock)
        return script

    return enter


@scenario()
async def calm(run: Run) -> None:
    """Nothing happens. What the checker finds here is its own."""
    await (await run.form(3)).start()
    async with run.load() as traffic:
        await traffic.pause(run.seconds)


@scenario()
async def single_member_crash(run: Run) -> None:
    """kill -9 of a cluster of one, again and again: what was acknowledged is there when it is back."""
    cluster = await run.form(1)
    await cluster.start()
    member = cluster.members[0]
    async with run.load() as traffic:
        end = run.history.now() + run.seconds * 1e9
        while run.history.now() < end:
            await traffic.progress(run.rng.randrange(20, 200))
            await run.kill(member)
            await run.start(member)
            await cluster.ready()
