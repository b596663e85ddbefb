"""The operations of the control socket, and what else can end a cluster: signals, and the end of its owner."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeling.cluster import inspection, plan, state, staticpods
from kubeling.cluster.controlserver import Handler, Progress
from kubeling.cluster.nodes import NodeRuntime
from kubeling.cluster.state import ClusterError
from kubeling.cluster.units import Unit
from kubeling.daemon.log import get_logger

if TYPE_CHECKING:
    from kubeling.cluster.supervisor import Supervisor

log = get_logger("cluster.operations")

WAIT_SECONDS = 120.0


class Operations:
    """What clients may ask of a supervisor. One change at a time: two `node stop` and a `down` at once do not meet halfway."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._of = supervisor
        self._lock = asyncio.Lock()
        self._failed = ""

    def handlers(self) -> dict[str, Handler]:
        return {
            "ping": self._ping,
            "go": self._go,
            "wait": self._wait,
            "status": self._status,
            "nodes": self._nodes,
            "image": self._image,
            "down": self._down,
            "stop": self._stop,
            "machines": self._machines,
            "group-resize": self._group_resize,
            "machine-remove": self._machine_remove,
            "node-add": self._node_add,
            "node-remove": self._node_remove,
            "node-stop": self._node_stop,
            "node-start": self._node_start,
            "signal": self._signal,
            "isolate": self._isolate,
            "cut": self._cut,
            "heal": self._heal,
        }

    # -- life ----------------------------------------------------------------------------------------------------------------------

    async def boot(self) -> None:
        try:
            await self._of.boot()
        except Exception as error:
            if not isinstance(error, ClusterError):
                log.exception("the cluster could not be started")
            self._failed = str(error)
            self._of.made.set()
            await self._of.steps.finish()

    async def _ping(self, _request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        return {"pid": state.host_pid()}

    async def _go(self, _request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        """The certificates are there: start the daemons. Answered when the nodes have been made, or could not be."""
        self._of.go.set()
        await self._of.made.wait()
        if self._failed:
            raise ClusterError(self._failed)
        return {}

    async def _wait(self, request: dict[str, Any], tell: Progress) -> dict[str, Any]:
        seconds = float(request.get("timeout", WAIT_SECONDS))
        try:
            async with asyncio.timeout(seconds):
                await self._of.steps.follow(tell)
        except TimeoutError as error:
            raise ClusterError(
                f"not ready after {seconds:.0f} s, still waiting for: {', '.join(self._of.steps.missing())}. It goes on starting: "
                f"`kubeling status --name {self._of.root.name}` shows what ails, `kubeling logs DAEMON` why"
            ) from error
        if self._failed:
            raise ClusterError(self._failed)
        return {"seconds": round(time.monotonic() - self._of.began, 3)}

    async def _down(self, _request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        await self._remove()
        return {}

    async def _remove(self) -> None:
        async with self._lock:
            self._of.state.phase = "removing"
            with contextlib.suppress(OSError):
                self._of.save()  # A full disk must not be in the way of making room.
            await self._of.close(orderly=False)
            await asyncio.to_thread(_remove_files, self._of.root, Path(self._of.state.run), self._of.state.spec.isolated)
            self._of.ended.set()

    async def _stop(self, _request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        async with self._lock:
            await self._of.close(orderly=True)
            self._of.state.phase, self._of.state.processes, self._of.state.supervisor = "stopped", [], None
            state.save(self._of.root, self._of.state)
            self._of.ended.set()
        return {}

    def terminate(self) -> None:
        """SIGTERM: the machine goes down. Stop in order; the disks stay."""
        self._of.spawn(self._quietly(self._stop({}, lambda _: None)), "stop")

    def up_ended(self, _connection: asyncio.Task[None]) -> None:
        """The `up` that started us is gone. If it never said `go`, it was killed before there was a cluster: leave nothing."""
        if not self._of.go.is_set() and not self._of.ended.is_set():
            self.abandon()

    def abandon(self) -> None:
        """Whoever this cluster was for has gone: remove it."""
        self._of.spawn(self._quietly(self._remove()), "down")

    @staticmethod
    async def _quietly(work: Any) -> None:
        await work

    # -- status --------------------------------------------------------------------------------------------------------------------

    async def _status(self, _request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        of = self._of
        units = [(unit, node) for node in of.nodes.values() for unit in node.units.values()]
        pods = [
            (daemon, node)
            for node in of.nodes.values()
            for daemon in plan.daemons(of.topology(), node.node)
            if daemon.static and node.state == "running"
        ]
        daemons = await asyncio.gather(
            *(inspection.unit_report(unit, node) for unit, node in units),
            *(inspection.static_report(daemon, node) for daemon, node in pods),
        )
        own = [("supervisor", state.host_pid()), ("zygote", of.zygote_host_pid)]
        return {
            "name": of.root.name,
            "network": of.state.spec.network,
            "server": of.state.spec.server,
            "uptime": round(time.monotonic() - of.began, 1),
            "ready": of.steps.done and not self._failed,
            "error": self._failed,
            "steps": of.steps.taken,
            "own": [
                {"name": name, "pid": pid, "pss_kib": inspection.pss_kib(pid), "cpu_seconds": inspection.cpu_seconds(pid)}
                for name, pid in own
            ],
            "nodes": self._node_reports(),
            "daemons": daemons,
        }

    def _node_reports(self) -> list[dict[str, Any]]:
        return [
            {
                "name": node.node.name,
                "role": node.node.role,
                "group": member.group if (member := self._of.state.machines.get(node.node.name)) else "",
                "address": self._of.topology().address(node.node),
                "state": "isolated" if node.isolated and node.state == "running" else node.state,
                "boots": node.boots,
                "pid": node.init.pid if node.init is not None and not node.init.exited.done() else 0,
                "pss_kib": inspection.pss_kib(node.init.pid) if node.init is not None else 0,
            }
            for node in self._of.nodes.values()
        ]

    async def _nodes(self, _request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        return {"nodes": self._node_reports()}

    async def _image(self, request: dict[str, Any], tell: Progress) -> dict[str, Any]:
        named = [self._node({"node": name}).node for name in request["nodes"]]
        nodes = (named or self._of.topology().of("worker"))[: request["most"] or None]
        await self._of.images(nodes, request["words"], lambda line: tell({"line": line}))
        return {}

    # -- nodes ---------------------------------------------------------------------------------------------------------------------

    def _node(self, request: dict[str, Any]) -> NodeRuntime:
        found = self._of.nodes.get(str(request.get("node")))
        if found is None:
            raise ClusterError(f"there is no node {request.get('node')!r}: there are {', '.join(self._of.nodes)}")
        return found

    async def _machines(self, request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        return await self._of.machines.report(int(request.get("after", 0)), float(request.get("timeout", 0.0)))

    async def _group_resize(self, request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        async with self._lock:
            made = await self._of.machines.resize(str(request["group"]), int(request["before"]), int(request["size"]))
        return {"nodes": made}

    async def _machine_remove(self, request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        async with self._lock:
            await self._of.machines.remove(str(request["machine"]))
        return {}

    async def _node_add(self, _request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        async with self._lock:
            return {"node": await self._of.machines.add()}

    async def _node_remove(self, request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        async with self._lock:
            runtime = self._node(request)
            if runtime.node.role == "control-plane":
                raise ClusterError(
                    f"{runtime.node.name} is part of the control plane and cannot be removed; `node stop` stops it"
                )
            await self._of.remove_node(runtime)
        return {}

    async def _node_stop(self, request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        async with self._lock:
            runtime = self._node(request)
            if runtime.state == "stopped":
                raise ClusterError(f"{runtime.node.name} is stopped already")
            await (runtime.stop() if request.get("orderly") else runtime.kill())
            self._of.state.stopped_nodes = sorted({*self._of.state.stopped_nodes, runtime.node.name})
            self._of.save()
        return {}

    async def _node_start(self, request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        async with self._lock:
            runtime = self._node(request)
            if runtime.state == "running":
                raise ClusterError(f"{runtime.node.name} runs already")
            await runtime.boot()
            runtime.start_daemons()
            self._of.state.stopped_nodes = [n for n in self._of.state.stopped_nodes if n != runtime.node.name]
            self._of.save()
        return {}

    # -- faults --------------------------------------------------------------------------------------------------------------------

    async def _signal(self, request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        node, name, number = self._node(request), str(request.get("daemon")), int(request["signal"])
        if any(each.static and each.name == name for each in plan.daemons(self._of.topology(), node.node)):
            pid = await asyncio.to_thread(staticpods.send, name, node.netns_path, number)
            if not pid:
                raise ClusterError(f"{node.node.name}/{name} does not run: its kubelet will start it")
            return {"pid": pid}
        unit = self._unit(node, name)
        if unit.running is None:
            raise ClusterError(f"{unit.daemon.key} does not run (it is {unit.state})")
        pid = unit.running.pid
        unit.running.signal(number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            unit.paused = number == signal.SIGSTOP
        return {"pid": pid}

    @staticmethod
    def _unit(node: NodeRuntime, name: str) -> Unit:
        unit = node.units.get(name)
        if unit is None:
            raise ClusterError(f"there is no daemon {name!r} on {node.node.name}: there are {', '.join(node.units)}")
        return unit

    async def _isolate(self, request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        node, switch, isolated = self._node(request), self._switch(), bool(request["isolated"])
        await asyncio.to_thread(switch.isolate, node.node, isolated=isolated)
        node.isolated = isolated
        return {}

    async def _cut(self, request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        left, right = ([self._node({"node": name}).node for name in request[side]] for side in ("left", "right"))
        await asyncio.to_thread(self._switch().cut, left, right)
        return {}

    async def _heal(self, _request: dict[str, Any], _tell: Progress) -> dict[str, Any]:
        switch = self._switch()
        await asyncio.to_thread(switch.heal)
        for node in self._of.nodes.values():
            if node.isolated and node.state == "running":
                await asyncio.to_thread(switch.isolate, node.node, isolated=False)
            node.isolated = False
        return {}

    def _switch(self) -> Any:
        if self._of.switch is None:
            raise ClusterError("nodes cannot be parted in a cluster with --network=host: they have no network of their own")
        return self._of.switch


def _remove_files(root: Path, run: Path, isolated: bool) -> None:
    if not isolated:
        shutil.rmtree(run, ignore_errors=True)
    state.remove_tree(root)
