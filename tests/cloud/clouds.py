"""A cloud for tests, which fails, is slow and drifts when told to; the scheduler's own simulation, without its process; and short words for objects."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kubeling.api.meta import name_of, spec_of
from kubeling.cloud.autoscaler.picture import Picture
from kubeling.cloud.autoscaler.simulator import Outcome, Placement, Supposed
from kubeling.cloud.provider import Machine, Metadata, NodeGroup, Obj, Outdated, ProviderError, Route
from kubeling.scheduler.simulate import simulate
from tests.scheduler.worlds import make


def node(name: str, cpu: str = "2", *, group: str = "", ready: bool = True, taints: Sequence[Obj] = (), **labels: str) -> Obj:
    spec: Obj = {"taints": list(taints)}
    if group:
        spec["providerID"] = f"test://{name}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"kubernetes.io/hostname": name, **labels}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def pod(
    name: str, cpu: str = "1", on: str = "", *, owner: str = "ReplicaSet", annotations: Obj | None = None, **spec: Any
) -> Obj:
    owners = [{"apiVersion": "apps/v1", "kind": owner, "name": "o", "uid": "o", "controller": True}] if owner else []
    where = {"nodeName": on} if on else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": spec.pop("namespace", "default"),
            "uid": f"uid-{name}",
            "labels": {"app": "web"},
            "annotations": annotations or {},
            "ownerReferences": owners,
        },
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}], **where, **spec},
        "status": {"phase": "Running" if on else "Pending"},
    }


def budget(allowed: int, app: str = "web") -> Obj:
    return {
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed},
    }


def group(
    name: str, maximum: int, *members: str, minimum: int = 0, cpu: str = "2", created: float = 0.0, **labels: str
) -> NodeGroup:
    machines = tuple(Machine(f"test://{each}", each, created) for each in members)
    return NodeGroup(name, minimum, maximum, len(members), machines, node(f"template-{name}", cpu))


class Simulation:
    """What the scheduler says, of a picture that `look` gives."""

    def __init__(self, look: Callable[[], tuple[Sequence[Obj], Sequence[Obj]]]) -> None:
        self._look = look

    async def ask(self, supposed: Supposed, pods: Sequence[Obj]) -> Outcome:
        nodes, placed = self._look()
        cache, framework = make(None, lambda: 0.0)
        for each in nodes:
            cache.set_node(each)
        for each in placed:
            cache.set_pod(each)
        question: Obj = {
            "remove": supposed.remove,
            "add": [{"node": one, "pods": there} for one, there in supposed.add],
            "pods": list(pods),
        }
        if supposed.grow is not None:
            question["grow"] = {"node": supposed.grow[0], "pods": supposed.grow[1], "max": supposed.grow[2]}
        answer = await simulate(cache, {"default-scheduler": framework}, question)
        found = (Placement(each["node"], each.get("kind", ""), tuple(each.get("reasons") or ())) for each in answer["placements"])
        return Outcome(tuple(found), answer["grown"])


def of_picture(picture: Picture) -> Simulation:
    return Simulation(lambda: (list(picture.nodes.values()), [each for there in picture.by_node.values() for each in there]))


def picture(
    nodes: Sequence[Obj], groups: Sequence[NodeGroup], pods: Sequence[Obj] = (), now: float = 10_000.0, **more: Any
) -> Picture:
    """Pods without a node wait."""
    by_node: dict[str, list[Obj]] = {}
    for each in pods:
        if on := spec_of(each).get("nodeName"):
            by_node.setdefault(on, []).append(each)
    waiting = tuple(each for each in pods if not spec_of(each).get("nodeName"))
    return Picture(now, tuple(groups), {name_of(each): each for each in nodes}, by_node, waiting, **more)


@dataclass
class Cloud:
    """Machines, groups and routes. `failures` calls fail first; each call takes `seconds`; `made` is told of each new machine."""

    groups: dict[str, NodeGroup] = field(default_factory=dict)
    known: dict[str, Metadata] = field(default_factory=dict)
    off: set[str] = field(default_factory=set)
    there: set[Route] = field(default_factory=set)
    failures: int = 0
    #: Groups that give no machines.
    broken: set[str] = field(default_factory=set)
    seconds: float = 0.0
    calls: list[str] = field(default_factory=list)
    made: Callable[[Machine, NodeGroup], Awaitable[None]] | None = None
    _numbers: Any = field(default_factory=itertools.count)

    async def _call(self, what: str) -> None:
        self.calls.append(what)
        await asyncio.sleep(self.seconds)
        if self.failures:
            self.failures -= 1
            raise ProviderError("the cloud is on fire")

    # instances

    def covers(self, node: Obj) -> bool:
        return str(spec_of(node).get("providerID") or "test://").startswith("test://")

    async def exists(self, node: Obj) -> bool:
        await self._call("exists")
        return name_of(node) in self.known

    async def is_shut_down(self, node: Obj) -> bool:
        await self._call("is_shut_down")
        return name_of(node) in self.off

    async def metadata(self, node: Obj) -> Metadata:
        await self._call("metadata")
        if name_of(node) not in self.known:
            raise ProviderError("there is no such machine")
        return self.known[name_of(node)]

    # routes

    async def create(self, cluster: str, route: Route) -> None:
        await self._call(f"create {route.destination}")
        self.there.add(route)

    async def delete(self, cluster: str, route: Route) -> None:
        await self._call(f"delete {route.destination}")
        self.there.discard(route)

    # groups (and routes, which are listed by cluster)

    async def list(self, *_: str) -> Any:
        await self._call("list")
        return list(self.there) if _ else list(self.groups.values())

    async def grow(self, group: str, before: int, after: int) -> None:
        await self._call(f"grow {group} {before}->{after}")
        found = self.groups[group]
        if group in self.broken:
            raise ProviderError("no machines left")
        if found.size != before:
            raise Outdated("look again")
        new = [
            Machine(f"test://{group}-{n}", f"{group}-{n}", time.time()) for n in itertools.islice(self._numbers, after - before)
        ]
        self.groups[group] = replace(found, size=after, machines=(*found.machines, *new))
        for each in new:
            if self.made is not None:
                await self.made(each, self.groups[group])

    async def remove(self, group: str, machine: Machine) -> None:
        await self._call(f"remove {machine.node}")
        found = self.groups[group]
        left = tuple(each for each in found.machines if each.provider_id != machine.provider_id)
        if len(left) < len(found.machines):
            self.groups[group] = replace(found, size=found.size - 1, machines=left)
