"""The data centre's machines as a cloud shows them: groups that can be resized, machines that can be taken away, and word of what has changed.

This is what the cloud-controller-manager's local provider asks for on the control socket. A group is resized *from* one size *to* another, under the
supervisor's lock: whoever has not seen the latest change is refused, so that two who want one more machine do not get two. A machine is removed by its
own identifier, which is never given out twice; removing it again is fine. Everything that counts stands in state.json before anything is started, so a
supervisor that died between two steps boots what was asked for.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kubeling.cluster import cgroups, groups
from kubeling.cluster.groups import Membership, NodeGroup
from kubeling.cluster.nodes import NodeRuntime
from kubeling.cluster.state import ClusterError
from kubeling.cluster.topology import MAX_WORKERS, missing_ports, next_machine, next_worker
from kubeling.cluster.units import ForkFailed, describe, open_log
from kubeling.daemon.log import get_logger

if TYPE_CHECKING:
    from kubeling.cluster.supervisor import Supervisor

log = get_logger("cluster.machines")

_IDENTITIES = "kubeling.cluster.identities"
#: How long one question for changes may wait; whoever asked has to ask again, so that those who are gone are not waited for.
MAX_WAIT = 300.0


class Machines:
    """Belongs to the supervisor's event loop; the caller holds the lock of the operations."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._of = supervisor
        self._version = 1
        self._seen: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    # -- what there is -------------------------------------------------------------------------------------------------------------

    def poke(self) -> None:
        """Something may have changed: who follows is told where it has."""
        now = self._machines()
        if now != self._seen:
            self._seen, self._version = now, self._version + 1
            self._news.set()
            self._news = asyncio.Event()

    async def report(self, after: int, seconds: float) -> dict[str, Any]:
        """What there is; where that is known already (`after` is its version), what there is when it has changed or the time is over."""
        self.poke()
        if after == self._version:
            news = asyncio.create_task(self._news.wait())
            ended = asyncio.create_task(self._of.ended.wait())
            await asyncio.wait((news, ended), timeout=min(seconds, MAX_WAIT), return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            ended.cancel()
        return {
            "version": self._version,
            "cluster": self._of.state.spec.name,
            "groups": [self._group(each) for each in self._of.state.spec.groups],
            "machines": self._machines(),
        }

    def _group(self, group: NodeGroup) -> dict[str, Any]:
        disk = os.statvfs(self._of.root)
        shown = groups.template(group, disk.f_blocks * disk.f_frsize)
        size = len(groups.machines_of(group.name, self._of.state.machines))
        return {**asdict(group), "size": size, "template": shown}

    def _machines(self) -> list[dict[str, Any]]:
        topology = self._of.topology()
        return [
            {
                "node": name,
                "state": runtime.state,
                "addresses": topology.addresses(runtime.node),
                **asdict(self._of.state.machines.get(name) or Membership("", "")),
            }
            for name, runtime in self._of.nodes.items()
            if runtime.node.role == "worker"
        ]

    # -- changes -------------------------------------------------------------------------------------------------------------------

    async def resize(self, name: str, before: int, after: int) -> list[str]:
        """Make the group greater, from `before` machines to `after`. Returns the names of the new nodes. Raises ClusterError."""
        group = next((each for each in self._of.state.spec.groups if each.name == name), None)
        if group is None:
            raise ClusterError(f"there is no node group {name!r}")
        size = len(groups.machines_of(name, self._of.state.machines))
        if size != before:
            raise ClusterError(f"the node group {name!r} has {size} machines, not {before}: look again")
        if not before < after <= group.maximum:
            raise ClusterError(f"the node group {name!r} cannot grow from {before} to {after}: its maximum is {group.maximum}")
        made = [self._enlist(Membership(name, groups.new_machine(), time.time())) for _ in range(after - before)]
        await self._make(made)
        return [each.node.name for each in made]

    async def add(self) -> str:
        """One more worker that belongs to no group. Returns its name."""
        runtime = self._enlist(None)
        await self._make([runtime])
        return runtime.node.name

    async def remove(self, machine: str) -> None:
        """Throw away the machine of that identifier, if it is still there. Raises ClusterError where its group would become too small."""
        found = next(((name, each) for name, each in self._of.state.machines.items() if each.machine == machine), None)
        if found is None:
            return
        name, member = found
        group = next((each for each in self._of.state.spec.groups if each.name == member.group), None)
        size = len(groups.machines_of(member.group, self._of.state.machines))
        if group is not None and size <= group.minimum:
            raise ClusterError(f"the node group {group.name!r} has {size} machines, and {group.minimum} are its minimum")
        await self._of.remove_node(self._of.nodes[name])
        self.poke()

    def _enlist(self, member: Membership | None) -> NodeRuntime:
        """Write down that there is to be one more node."""
        from kubeling.cluster.launch import free_ports

        found = self._of.state
        node = next_worker(found.nodes) if member is None else next_machine(found.nodes, found.last_machine)
        if node.number > MAX_WORKERS:
            raise ClusterError(f"the cluster {found.spec.name!r} has {MAX_WORKERS} workers, and its switch has room for no more")
        found.ports.update(free_ports(missing_ports(found.spec, [node], found.ports)))
        found.nodes = (*found.nodes, node)
        if member is not None:
            found.machines[node.name] = member
            found.last_machine = node.number
        runtime = self._of.nodes[node.name] = NodeRuntime(node, self._of.surroundings())
        self._of.save()
        return runtime

    async def _make(self, made: list[NodeRuntime]) -> None:
        """Identities, then the nodes themselves, all at once. What cannot be made is struck off again."""
        try:
            await self._identify()
        except (ClusterError, ForkFailed) as error:
            for each in made:
                await self._of.remove_node(each)
            raise ClusterError(f"the identities of new nodes could not be made: {error}") from error
        outcomes = await asyncio.gather(*(self._boot(each) for each in made), return_exceptions=True)
        failed = [error for error in outcomes if isinstance(error, BaseException)]
        for each, outcome in zip(made, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                log.warning("a new node could not be made", node=each.node.name, error=outcome)
                await self._of.remove_node(each)
        self.poke()
        if failed:
            raise ClusterError(f"{len(failed)} of {len(made)} new nodes could not be made: {failed[0]}")

    async def _boot(self, runtime: NodeRuntime) -> None:
        if self._of.state.cgroup:
            await asyncio.to_thread(cgroups.create, f"{self._of.state.cgroup}/{runtime.node.name}")
        await runtime.boot()
        runtime.start_daemons()

    async def _identify(self) -> None:
        """Make the certificates that are missing, in a process that ends with it: what that takes to import is not ours to keep."""
        output = open_log(self._of.topology().layout.log("identities"))
        request = {
            "op": "daemon",
            "name": "identities",
            "node": "host",
            "module": _IDENTITIES,
            "args": [f"--root={self._of.root}"],
            "fds": [],
            "join": None,
        }
        try:
            job = await (await self._of.zygote()).fork(request, [output], "identities")
        finally:
            os.close(output)
        status = await job.exited
        if status != 0:
            raise ClusterError(f"{describe(status)}: see {self._of.topology().layout.log('identities')}")
