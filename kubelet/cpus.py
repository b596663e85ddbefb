"""The CPU manager with the static policy: containers of Guaranteed pods that ask for whole cpus have them to themselves, all others share the rest.

Whole cores are given before single threads, and the cores of one socket before those of another. The reserved cpus are never given away, and so what is shared is
never empty. Assignments are kept on disk; a file that was written for another policy or another machine is begun anew. What is shared changes when an assignment
comes or goes, and every running container is then told which cpus it may use.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeling.api import quantity
from kubeling.api.meta import Object, uid_of
from kubeling.api.pods import containers_of, init_containers_of, is_sidecar, qos_class
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.kubelet import checkpoint
from kubeling.kubelet.cri import Runtime, RuntimeFailure
from kubeling.kubelet.podstate import CONTAINER_NAME, POD_UID
from kubeling.kubelet.topology import Hint, cpu_nodes, hints

log = get_logger("kubelet.cpus")

_RUNNING = 1


class CpuProblem(Exception):
    """A pod cannot have the cpus that it asks for; the words are those of its rejection."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cpu is."""

    socket: int
    core: int


def parse_cpus(text: str) -> frozenset[int]:
    """`0-2,5` as numbers. ValueError where it is no such list."""
    found: set[int] = set()
    for part in filter(None, text.replace(" ", "").split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def format_cpus(cpus: Iterable[int]) -> str:
    """The inverse: `0-2,5`."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def read_places(cpus: Iterable[int], root: Path = Path("/sys/devices/system/cpu")) -> dict[int, Place]:
    """From the kernel; where it does not say, each cpu is a core of its own on one socket."""
    found = {}
    for cpu in cpus:
        try:
            folder = root / f"cpu{cpu}" / "topology"
            socket, core = int((folder / "physical_package_id").read_text()), int((folder / "core_id").read_text())
        except (OSError, ValueError):
            socket, core = 0, cpu
        found[cpu] = Place(max(0, socket), core)
    return found


def choose(available: Iterable[int], places: Mapping[int, Place], count: int) -> frozenset[int]:
    """`count` of the available cpus: whole sockets first, then whole cores, then the threads of cores that are begun already."""
    left = sorted(available)
    chosen: list[int] = []
    siblings: dict[Place, int] = {}
    for place in places.values():
        siblings[place] = siblings.get(place, 0) + 1
    sockets: dict[int, int] = {}
    for place in places.values():
        sockets[place.socket] = sockets.get(place.socket, 0) + 1

    def take(group: list[int]) -> None:
        chosen.extend(group)
        for each in group:
            left.remove(each)

    for socket in sorted(sockets):
        group = [each for each in left if places[each].socket == socket]
        if len(group) == sockets[socket] <= count - len(chosen):
            take(group)
    free = {socket: sum(places[each].socket == socket for each in left) for socket in sockets}
    for place in sorted({places[each] for each in left}, key=lambda each: (free[each.socket], each.socket, each.core)):
        group = [each for each in left if places[each] == place]
        if len(group) == siblings[place] <= count - len(chosen):
            take(group)
    rest = sorted(left, key=lambda each: (sum(places[other] == places[each] for other in left), each))
    take(rest[: count - len(chosen)])
    return frozenset(chosen)


def exclusive(pod: Object, container: Mapping[str, object]) -> int:
    """How many cpus the container is to have to itself; 0 for one that shares."""
    if qos_class(pod) != "Guaranteed" or (pod["spec"].get("resources") or {}).get("requests"):
        return 0
    resources: Mapping[str, Mapping[str, str]] = container.get("resources") or {}  # type: ignore[assignment]
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    milli = quantity.milli(requests.get("cpu", limits.get("cpu")))
    return milli // 1000 if milli % 1000 == 0 else 0


class CpuManager:
    """`reserved` are never given away. With the policy `none` nothing is ever assigned."""

    def __init__(
        self, policy: str, cpus: frozenset[int], reserved: frozenset[int], path: Path, runtime: Runtime, clock: Clock
    ) -> None:
        self.enabled = policy == "static"
        self._all = cpus
        self._reserved = reserved
        self._places = read_places(cpus)
        #: Each cpu's NUMA node.
        self.nodes = cpu_nodes(cpus)
        self._path = path
        self._runtime = runtime
        self._clock = clock
        self._given: dict[str, dict[str, frozenset[int]]] = {}
        #: Container ID → the cpus that it was told last.
        self._told: dict[str, str] = {}
        self._dirty = asyncio.Event()
        self._policy = policy
        self._load()

    def _load(self) -> None:
        found = checkpoint.load(self._path)
        if found is None or (found.get("policy"), found.get("cpus")) != (self._policy, format_cpus(self._all)):
            return
        self._given = {
            uid: {name: parse_cpus(text) for name, text in held.items()} for uid, held in (found.get("entries") or {}).items()
        }
        self._dirty.set()

    def _save(self) -> None:
        entries = {uid: {name: format_cpus(each) for name, each in held.items()} for uid, held in self._given.items()}
        state = {"policy": self._policy, "cpus": format_cpus(self._all), "default": format_cpus(self.shared), "entries": entries}
        try:
            checkpoint.save(self._path, state)
        except OSError as error:
            log.warning("who has which cpus could not be written down", error=str(error))

    @property
    def shared(self) -> frozenset[int]:
        """What those use that have none to themselves."""
        return self._all - {cpu for held in self._given.values() for each in held.values() for cpu in each}

    def hints(self, pod: Object, container: Mapping[str, object]) -> list[Hint] | None:
        """Near to which NUMA nodes the container could have its cpus; None where it has none to itself, or has them already."""
        count = exclusive(pod, container) if self.enabled else 0
        if not count or container["name"] in self._given.get(uid_of(pod), {}):
            return None
        return hints(self.nodes, self.shared - self._reserved, count)

    def allocate(self, pod: Object, near: Mapping[str, frozenset[int]]) -> None:
        """Give the pod's containers what they are to have to themselves, from the NUMA nodes that are named for them as far as there is enough.
        CpuProblem where there is not enough at all."""
        if not self.enabled:
            return
        uid = uid_of(pod)
        held = dict(self._given.get(uid, {}))
        # What init containers had, those have after them.
        handed: frozenset[int] = frozenset()
        before = dict(held)
        for container in [*init_containers_of(pod), *containers_of(pod)]:
            count = exclusive(pod, container)
            if not count or container["name"] in held:
                continue
            available = (self.shared - self._reserved - {cpu for each in held.values() for cpu in each}) | handed
            if len(available) < count:
                raise CpuProblem(
                    "Allocate failed due to not enough cpus available to satisfy request: "
                    f"requested={count}, available={len(available)}, which is unexpected"
                )
            wanted = near.get(container["name"], frozenset())
            close = frozenset(each for each in available if self.nodes.get(each, frozenset()) & wanted)
            pool = handed if len(handed) >= count else close if len(close) >= count else available
            given = choose(pool, self._places, count)
            held[container["name"]] = given
            plain_init = any(container is each for each in init_containers_of(pod)) and not is_sidecar(container)
            handed = handed | given if plain_init else handed - given
        if held != before:
            self._given[uid] = held
            self._save()
            self._dirty.set()

    def cpus_of(self, uid: str, name: str) -> str:
        """What the container may use, for the runtime; empty where the kernel may choose."""
        if not self.enabled:
            return ""
        return format_cpus(self._given.get(uid, {}).get(name) or self.shared)

    def forget(self, uid: str) -> None:
        """The pod is over: its cpus are shared again."""
        if self._given.pop(uid, None) is not None:
            self._save()
            self._dirty.set()

    def keep_only(self, uids: set[str]) -> None:
        """Forget pods that are not here any more."""
        for uid in set(self._given) - uids:
            self.forget(uid)

    async def run(self) -> None:
        """Whenever what is shared has changed, tell all running containers; until cancelled."""
        backoff = Backoff(base=0.5, limit=10.0)
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            if not self.enabled:
                continue
            try:
                await self._tell()
                backoff.reset()
            except RuntimeFailure as error:
                log.warning("containers could not be told which cpus they may use", error=str(error))
                self._dirty.set()
                await self._clock.sleep(backoff.next())

    async def _tell(self) -> None:
        alive = set()
        for each in await self._runtime.list_containers():
            if each.state != _RUNNING:
                continue
            alive.add(each.id)
            wanted = self.cpus_of(each.labels.get(POD_UID, ""), each.labels.get(CONTAINER_NAME, ""))
            if self._told.get(each.id) != wanted:
                await self._runtime.update_container(each.id, self._runtime.pb.LinuxContainerResources(cpuset_cpus=wanted))
                self._told[each.id] = wanted
        for gone in set(self._told) - alive:
            del self._told[gone]


def reserved_cpus(explicit: str, millicores: int, cpus: frozenset[int]) -> frozenset[int]:
    """Those that are named, or as many of the lowest as what is reserved makes up."""
    if explicit:
        return parse_cpus(explicit)
    return frozenset(sorted(cpus)[: -(-millicores // 1000)])


def available_cpus() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0))
