"""Follows the FlowSchemas and priority levels, tells the gate of them, and keeps those that every cluster has.

The mandatory ones are put back as they were; the suggested ones follow this server's idea of them for as long as their annotation says so, and may otherwise be changed
and deleted. Whether the level of a schema exists is told in its status.
"""

from __future__ import annotations

import asyncio

from kubeling.api import errors, resources
from kubeling.api.conditions import get_condition, set_condition
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, annotations_of, copy_json, spec_of
from kubeling.api.resources import Resource
from kubeling.apiserver.cache.entry import Entry
from kubeling.apiserver.cache.follower import Follower
from kubeling.apiserver.config import Config
from kubeling.apiserver.context import Context
from kubeling.apiserver.flowcontrol import objects
from kubeling.apiserver.flowcontrol.gate import Gate
from kubeling.apiserver.flowcontrol.matching import Schema
from kubeling.apiserver.registry import pipeline
from kubeling.apiserver.registry.pipeline import Options
from kubeling.apiserver.registry.planting import plant
from kubeling.apiserver.registry.store import Change, Mutate
from kubeling.apiserver.storage.errors import StoreError
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor

log = get_logger("flowcontrol")

_RETRY_SECONDS = 0.2


def gate_of(config: Config, clock: Clock) -> Gate:
    """The gate of a server; limits that are not to be are far away."""
    reading, mutating = config.max_requests_inflight, config.max_mutating_requests_inflight
    return Gate(clock, reading, mutating, config.request_timeout / 4, config.priority_and_fairness)


class Controller:
    """Run :meth:`run` as a task."""

    def __init__(self, context: Context, gate: Gate) -> None:
        self._context = context
        self._gate = gate
        self._awake = asyncio.Event()
        kinds = context.kinds
        self._caches = {
            each: kinds.store(each).cache for each in (resources.PRIORITY_LEVEL_CONFIGURATIONS, resources.FLOW_SCHEMAS)
        }
        self._followers = [Follower(each, self._wake, self._wake) for each in self._caches.values()]

    def _wake(self, _: object) -> None:
        self._awake.set()

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(base=_RETRY_SECONDS, limit=10)
        async with Supervisor(self._context.clock) as parts:
            for each in self._followers:
                parts.start("flow control", each.run)
                await each.loaded.wait()
            begun = False
            while True:
                await self._awake.wait()
                self._awake.clear()
                try:
                    if not begun:
                        await self._begin()
                        begun = True
                    await self._reconcile()
                    backoff.reset()
                except (ApiError, StoreError) as error:
                    log.warning("the configuration of flow control could not be written", error=str(error))
                    await self._context.clock.sleep(backoff.next())
                    self._awake.set()

    async def _begin(self) -> None:
        """Write all of it at once where nothing of it is there, as in a new cluster; :meth:`_reconcile` sees to the rest."""
        levels, schemas = objects.priority_levels(), objects.flow_schemas()
        if any(self._entries(each) for each in self._caches):
            return
        made = await plant(self._context, [*levels, *schemas], self._finish)
        if made is not None:
            self._gate.configure([Schema(each) for each in made[len(levels) :]], made[: len(levels)])
        for cache in self._caches.values():
            await cache.fresh()

    def _finish(self, obj: Object) -> None:
        if obj["kind"] == "FlowSchema":
            self._say_dangling(obj, True)

    async def _reconcile(self) -> None:
        levels = await self._ensure(resources.PRIORITY_LEVEL_CONFIGURATIONS, objects.priority_levels())
        schemas = await self._ensure(resources.FLOW_SCHEMAS, objects.flow_schemas())
        self._gate.configure([Schema(each) for each in schemas], levels)
        known = {each["metadata"]["name"] for each in levels}
        for each in schemas:
            await self._tell(each, spec_of(each)["priorityLevelConfiguration"]["name"] in known)

    async def _ensure(self, resource: Resource, wanted: list[Object]) -> list[Object]:
        """What there is, with what there has to be."""
        found = {each.name: each.object() for each in self._entries(resource)}
        for each in wanted:
            name = each["metadata"]["name"]
            current = found.get(name)
            if current is None:
                made = await self._create(resource, each)
                if made is not None:
                    found[name] = made
            elif _ours(current) and spec_of(current) != spec_of(each) and not _adjusted(name, current, each):
                await self._restore(resource, each)
        return list(found.values())

    def _entries(self, resource: Resource) -> list[Entry]:
        return list(self._caches[resource].entries())

    async def _create(self, resource: Resource, wanted: Object) -> Object | None:
        from kubeling.apiserver.bootstrap import SELF

        context = self._context
        served = context.kinds.find(resource.group, resource.version, resource.plural)
        assert served is not None
        made: Object = copy_json(wanted)
        try:
            await pipeline.create(context, served, context.kinds.store(resource), "", made, Options(SELF, "kube-apiserver"))
        except ApiError as error:
            if not errors.is_already_exists(error):
                raise
            return None
        return made

    async def _restore(self, resource: Resource, wanted: Object) -> None:
        async def mutate(obj: Object) -> Change:
            if spec_of(obj) != spec_of(wanted):
                obj["spec"] = copy_json(wanted["spec"])
                obj["metadata"]["generation"] = (obj["metadata"].get("generation") or 0) + 1
            return Change(obj)

        await self._change(resource, wanted["metadata"]["name"], mutate)

    async def _tell(self, schema: Object, exists: bool) -> None:
        if not self._say_dangling(copy_json(schema), exists):
            return

        async def mutate(obj: Object) -> Change:
            self._say_dangling(obj, exists)
            return Change(obj)

        await self._change(resources.FLOW_SCHEMAS, schema["metadata"]["name"], mutate)

    def _say_dangling(self, schema: Object, exists: bool) -> bool:
        """Put the condition into the object; False where it is there."""
        level = spec_of(schema)["priorityLevelConfiguration"]["name"]
        status, reason = ("False", "Found") if exists else ("True", "NotFound")
        message = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" '
        message += "and it exists" if exists else "but there is no such object"
        current = get_condition(schema, "Dangling")
        if current is not None and current.get("status") == status and current.get("message") == message:
            return False
        conditions = schema.setdefault("status", {}).setdefault("conditions", [])
        set_condition(conditions, "Dangling", status, self._context.clock.now(), reason=reason, message=message)
        return True

    async def _change(self, resource: Resource, name: str, mutate: Mutate) -> None:
        try:
            await self._context.kinds.store(resource).change("", name, mutate)
        except ApiError as error:
            if not errors.is_not_found(error):
                raise


def _ours(obj: Object) -> bool:
    """Whether an object is to be as this server has it."""
    return obj["metadata"]["name"] in objects.MANDATORY or annotations_of(obj).get(objects.AUTOUPDATE) == "true"


def _adjusted(name: str, current: Object, wanted: Object) -> bool:
    """Of the exempt level the shares that it counts for, and lends, are the administrator's."""
    return name == "exempt" and wanted["kind"] == "PriorityLevelConfiguration" and spec_of(current).get("type") == "Exempt"
