"""Runs scenarios: once undisturbed, which says what the end state and the writes are, then once for each way of being disturbed.

A run is a namespace, a stand-in for its kubelets, and one or two controller-managers in this process on clients of their own (:mod:`.scoped`). To kill one is to let none of its requests
return and to cancel all that it does: nothing of it reaches the server any more. Then another is started, with an empty memory. The end state has to become that of the undisturbed
run, and to stay so.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.resources import NAMESPACES, PODS, SERVICE_ACCOUNTS, Resource
from kubeling.client.kubeconfig import ClientConfig
from kubeling.client.rest import Client
from kubeling.controllers.context import Options
from kubeling.controllers.manager import run_controllers
from kubeling.daemon.clock import SystemClock

from .endstate import State, difference, read
from .scoped import Death, ScopedClient, parse

Obj = dict[str, Any]
SECONDS = 60.0
#: For so long the end state must stay as it is.
_STILL = 0.4


@dataclass(slots=True)
class Stage:
    """What a scenario acts on: as the administrator, in the run's namespace. Objects without a namespace must have names that begin with its."""

    client: Client
    namespace: str
    hollow: Any
    kinds: set[Resource] = field(default_factory=set)

    async def create(self, resource: Resource, body: Obj) -> Obj:
        """Create an object; its apiVersion and kind are filled in."""
        self.kinds.add(resource)
        made = {"apiVersion": resource.group_version, "kind": resource.kind, **body}
        return await self.client.create(resource, made, self.namespace if resource.namespaced else None)

    async def patch(self, resource: Resource, name: str, body: Obj, **more: Any) -> Obj:
        """Merge something into an object."""
        self.kinds.add(resource)
        return await self.client.patch(resource, name, body, self.namespace if resource.namespaced else None, **more)

    async def delete(self, resource: Resource, name: str, **more: Any) -> None:
        """Delete an object."""
        self.kinds.add(resource)
        await self.client.delete(resource, name, self.namespace if resource.namespaced else None, **more)

    async def get(self, resource: Resource, name: str) -> Obj:
        """Read an object."""
        return await self.client.get(resource, name, self.namespace if resource.namespaced else None)

    async def all(self, resource: Resource) -> list[Obj]:
        """The run's objects of a kind."""
        found = (await self.client.list(resource, self.namespace if resource.namespaced else None))["items"]
        return [each for each in found if resource.namespaced or each["metadata"]["name"].startswith(self.namespace)]

    async def until(self, condition: Callable[[], Awaitable[Any]], what: str) -> None:
        """Wait for something."""
        deadline, problem = time.monotonic() + SECONDS, None
        while True:
            try:
                if await condition():
                    return
            except (ApiError, KeyError, AssertionError) as error:
                problem = error
            assert time.monotonic() < deadline, f"{self.namespace}: not within {SECONDS} s: {what}; {problem!r}"
            await asyncio.sleep(0.05)

    async def has(self, resource: Resource, name: str, **status: Any) -> None:
        """Wait until an object's status has these fields, and is of its present spec."""

        async def seen() -> bool:
            obj = await self.get(resource, name)
            found = obj.get("status") or {}
            if found.get("observedGeneration", obj["metadata"].get("generation")) != obj["metadata"].get("generation"):
                return False
            return all((found.get(key) or 0) == value for key, value in status.items())

        await self.until(seen, f"{resource.plural} {name}: {status}")

    async def is_true(self, resource: Resource, name: str, kind: str) -> None:
        """Wait until an object has a condition."""

        async def seen() -> bool:
            found = ((await self.get(resource, name)).get("status") or {}).get("conditions") or ()
            return any(each["type"] == kind and each["status"] == "True" for each in found)

        await self.until(seen, f"{resource.plural} {name}: {kind}")

    async def gone(self, resource: Resource, name: str) -> None:
        """Wait until an object is no more."""

        async def missing() -> bool:
            try:
                await self.get(resource, name)
            except ApiError as error:
                return error.code == 404
            return False

        await self.until(missing, f"{resource.plural} {name} is gone")


@dataclass(frozen=True, slots=True)
class Scenario:
    """`play` does what users and nodes do, and returns when it has had its effect. `fate` is what becomes of a pod: the phase that it ends in.

    `ignore` are lines of the end state that may differ, by what they contain: say why. `two` is False where two leaders rightly do more than one.
    """

    controllers: str
    play: Callable[[Stage], Awaitable[None]]
    fate: Callable[[Obj], str] = lambda pod: "Running"
    options: Options = field(default_factory=Options)
    ignore: tuple[str, ...] = ()
    #: Patterns of what is random in the end state, and left out of it.
    scrub: tuple[str, ...] = ()
    two: bool = True
    #: What it writes is there once in the cluster, so that its runs go one after the other.
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What happens to a run: a death, a copy that stands still for a second at a write, or a second leader."""

    death: Death | None = None
    frozen_at: int | None = None
    second: bool = False

    def __str__(self) -> str:
        if self.death is not None:
            return f"killed {self.death}"
        return f"a copy frozen at write {self.frozen_at}" if self.frozen_at is not None else "two leaders"


@dataclass(slots=True)
class Outcome:
    """Of the undisturbed run."""

    state: State
    kinds: list[Resource]
    writes: list[str]


def disturbances(outcome: Outcome, dice: random.Random, most: int | None) -> list[Disturbance]:
    """All of them, or so many from the seed, with a frozen copy and two leaders always among them."""
    count = len(outcome.writes)
    deaths = [Disturbance(Death(number, after)) for number in range(1, count + 1) for after in (False, True)]
    frozen = [Disturbance(frozen_at=number) for number in range(1, count + 1)]
    if most is not None:
        deaths, frozen = dice.sample(deaths, min(most, len(deaths))), dice.sample(frozen, min(1, len(frozen)))
    return [*deaths, *frozen, Disturbance(second=True)]


class Theatre:
    """Runs scenarios against one apiserver."""

    def __init__(self, admin: Client, manager: ClientConfig, hollow: Callable[[Client, str], Any]) -> None:
        self._admin, self._config, self._hollow = admin, manager, hollow
        self._number = 0

    async def undisturbed(self, name: str, scenario: Scenario) -> Outcome:
        """The end state and the writes that lead to it."""
        async with (
            self._stage(name, scenario) as stage,
            ScopedClient(self._config, stage.namespace) as client,
            self._manager(client, scenario),
        ):
            await scenario.play(stage)
            await self._still(client)
            kinds = self._kinds(stage, client)
            state = _compared(await read(self._admin, stage.namespace, kinds), scenario)
            return Outcome(state, kinds, list(client.writes))

    async def disturbed(self, name: str, scenario: Scenario, outcome: Outcome, way: Disturbance) -> str:
        """What is different in the end; nothing where all is well."""
        async with (
            self._stage(name, scenario) as stage,
            ScopedClient(self._config, stage.namespace, way.death, way.frozen_at) as client,
            ScopedClient(self._config, stage.namespace) as other,
        ):
            playing = asyncio.create_task(scenario.play(stage))
            try:
                async with self._manager(client, scenario):
                    if way.death is None and not way.second:
                        return await self._compare(stage, scenario, outcome, playing)
                    if way.death is None:
                        async with self._manager(other, scenario):
                            return await self._compare(stage, scenario, outcome, playing)
                    await self._first(client.dead.wait(), playing)
                async with self._manager(other, scenario):
                    return await self._compare(stage, scenario, outcome, playing)
            except AssertionError as error:
                return str(error)
            finally:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)

    async def _compare(self, stage: Stage, scenario: Scenario, outcome: Outcome, playing: asyncio.Task[None]) -> str:
        await playing
        deadline, found = time.monotonic() + SECONDS / 2, State()
        since = None
        while time.monotonic() < deadline:
            found = _compared(await read(self._admin, stage.namespace, outcome.kinds), scenario)
            if found != outcome.state:
                since = None
            elif since is None:
                since = time.monotonic()
            elif time.monotonic() - since > _STILL:
                return ""
            await asyncio.sleep(0.1)
        return difference(outcome.state, found) or "the end state does not stay"

    def _kinds(self, stage: Stage, client: ScopedClient) -> list[Resource]:
        written = {parse(each.partition(" ")[2])[0] for each in client.writes}
        return sorted((each for each in {*stage.kinds, *written, PODS} if each is not None), key=lambda each: each.qualified)

    @contextlib.asynccontextmanager
    async def _stage(self, name: str, scenario: Scenario) -> AsyncIterator[Stage]:
        self._number += 1
        namespace = f"cp-{name}-{self._number}-{random.randrange(1 << 20):x}"
        await self._admin.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await self._admin.create(SERVICE_ACCOUNTS, account, namespace)
        async with self._hollow(self._admin, namespace) as hollow:
            hollow.fate = scenario.fate
            stage = Stage(self._admin, namespace, hollow)
            try:
                yield stage
            finally:
                await self._clear(stage)

    async def _clear(self, stage: Stage) -> None:
        """Objects without a namespace; the rest goes with the apiserver."""
        for kind in stage.kinds:
            if not kind.namespaced:
                for each in await stage.all(kind):
                    with contextlib.suppress(ApiError):
                        await self._admin.delete(kind, each["metadata"]["name"])

    @contextlib.asynccontextmanager
    async def _manager(self, client: ScopedClient, scenario: Scenario) -> AsyncIterator[None]:
        names = scenario.controllers.split(",")
        running = asyncio.create_task(run_controllers(client, scenario.options, names, SystemClock()))
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _first(self, event: Any, playing: asyncio.Task[None]) -> None:
        """Until the event comes, or the scenario is over without it. Its failure is raised."""
        waiting = asyncio.ensure_future(event)
        await asyncio.wait({waiting, playing}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if playing.done():
            playing.result()

    async def _still(self, client: ScopedClient) -> None:
        """Until nothing was written for a while."""
        before = -1
        while before != len(client.writes):
            before = len(client.writes)
            await asyncio.sleep(_STILL)


def _compared(state: State, scenario: Scenario) -> State:
    found = State()
    for line, count in state.items():
        if not any(each in line for each in scenario.ignore):
            for pattern in scenario.scrub:
                line = re.sub(pattern, "", line)
            found[line] += count
    return found


async def all_of(
    theatre: Theatre, name: str, scenario: Scenario, dice: random.Random, most: int | None, parallel: int
) -> tuple[Outcome, dict[str, str]]:
    """Run a scenario in every way, several runs at a time: the undisturbed outcome, and what went wrong by the way in which it was disturbed."""
    outcome = await theatre.undisturbed(name, scenario)
    ways: Sequence[Disturbance] = [each for each in disturbances(outcome, dice, most) if scenario.two or not each.second]
    room = asyncio.Semaphore(1 if scenario.alone else parallel)
    wrong: dict[str, str] = {}

    async def one(way: Disturbance) -> None:
        async with room:
            if found := await theatre.disturbed(name, scenario, outcome, way):
                wrong[str(way)] = found

    await asyncio.gather(*map(one, ways))
    return outcome, wrong
