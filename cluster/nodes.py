"""A node at run time: its init, its cable, and its daemons.

Booting takes four steps: fork the init, which makes the namespaces; plug the cable in; let the init set up the card; start the daemons in order, each when
those it needs have been started. Stopping in order goes the other way. Pulling the plug kills the init, and the kernel the rest. An init that dies on its own
is booted again after a back-off.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kubeling.cluster import channel, handover, nodeconfig, plan, staticpods
from kubeling.cluster.handover import Handover
from kubeling.cluster.network import Switch
from kubeling.cluster.state import ClusterError
from kubeling.cluster.topology import DOMAIN, Daemon, Node, Topology
from kubeling.cluster.units import ForkClient, ForkFailed, Running, Unit, open_log
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger

log = get_logger("cluster.nodes")

BOOT_SECONDS = 20.0


@dataclass(slots=True)
class Surroundings:
    """What a node needs from the supervisor."""

    topology: Callable[[], Topology]
    switch: Switch | None
    zygote: Callable[[], Awaitable[ForkClient]]
    changed: Callable[[], None]
    #: Set when daemons may start that need the apiserver.
    api_ready: asyncio.Event
    reservation: socket.socket


class NodeRuntime:
    """One node. All methods belong to the supervisor's event loop."""

    def __init__(self, node: Node, around: Surroundings) -> None:
        self.node = node
        self.around = around
        self.units: dict[str, Unit] = {}
        self.init: Running | None = None
        self.state = "stopped"
        self.boots = 0
        self.isolated = False
        self.line: ForkClient | None = None
        self._watch: asyncio.Task[None] | None = None
        self._handover: Handover | None = None

    # -- life ----------------------------------------------------------------------------------------------------------------------

    async def boot(self) -> None:
        """Make the node's world; its daemons begin with :meth:`start_daemons`. Raises ClusterError."""
        topology = self.around.topology()
        folder = topology.layout.node(self.node.name)
        folder.mkdir(parents=True, exist_ok=True)
        self.state = "booting"
        self.boots += 1
        zygote = await self.around.zygote()
        ours, theirs = channel.pair()
        output = open_log(topology.layout.log(f"{self.node.name}/init"))
        request = {
            "op": "init",
            "node": self.node.name,
            "network": topology.spec.network,
            "config": self._config(topology),
        }
        try:
            self.line = ForkClient(ours, self.around.changed)
            up = self.line.event("up")
            born = self.line.event("born") if topology.spec.isolated else None
            self.init = await zygote.fork(request, [theirs.fileno(), output], f"{self.node.name}/init")
        except ForkFailed as error:
            self.state = "failed"
            raise ClusterError(f"node {self.node.name} could not be made: {error}") from error
        finally:
            theirs.close()
            os.close(output)
        if born is not None and self.around.switch is not None:
            await self._expect(born)
            await asyncio.to_thread(self._plug, self.around.switch, self.init.pid)
            self.line.tell({"op": "boot"})
        await self._expect(up)
        self.state = "running"
        self.isolated = False
        self._watch = asyncio.create_task(self._reboot_when_dead(self.init), name=f"{self.node.name}/watch")

    def _plug(self, switch: Switch, pid: int) -> None:
        switch.unplug(self.node)
        switch.plug(self.node, pid)

    async def _expect(self, event: asyncio.Future[dict[str, Any]]) -> None:
        try:
            async with asyncio.timeout(BOOT_SECONDS):
                message = await event
        except TimeoutError as error:
            raise ClusterError(
                f"node {self.node.name} did not come up in {BOOT_SECONDS:.0f} s: see `kubeling logs {self.node.name}/init`"
            ) from error
        if message["event"] == "failed":
            self.state = "failed"
            raise ClusterError(f"node {self.node.name} could not be made: {message['error']}")

    def _config(self, topology: Topology) -> dict[str, Any]:
        runtime = topology.spec.runtime
        keep = [str(topology.layout.root)]
        if runtime.startswith("unix://"):
            keep.append(os.path.dirname(runtime.removeprefix("unix://")))
        return {
            "hostname": self.node.name,
            "networks": [
                {"address": each.address(self.node.place), "bits": each.bits, "gateway": each.gateway}
                for each in topology.spec.families
            ],
            "keep": keep,
            "resolv_conf": f"nameserver {topology.spec.dns_services[0]}\nsearch svc.{DOMAIN} {DOMAIN}\noptions ndots:1\n",
        }

    async def _reboot_when_dead(self, init: Running) -> None:
        backoff = Backoff(base=0.5, limit=60)
        await asyncio.shield(init.exited)
        log.warning("a node died", node=self.node.name)
        while True:
            await self._clear()
            await asyncio.sleep(backoff.next())
            try:
                # This very task must survive: boot() starts the next one.
                self._watch = None
                await self.boot()
                self.start_daemons()
                return
            except ClusterError as error:
                log.error("a dead node could not be booted again", node=self.node.name, error=error)

    async def _clear(self) -> None:
        """After the init's end: forget what ran, and what the kernel may still be taking down."""
        self.state = "stopped"
        await asyncio.gather(*(unit.end(kill=True) for unit in self._here()))
        if self.line is not None:
            self.line.close()
            self.line = None
        if self.around.switch is not None:
            await asyncio.to_thread(self.around.switch.unplug, self.node)

    def start_daemons(self) -> None:
        """Begin every daemon of the node; those that need others wait for them."""
        nodeconfig.write(self.around.topology(), self.node)
        self._write_manifests()
        for daemon in plan.daemons(self.around.topology(), self.node):
            if daemon.static:
                continue
            unit = self.units.get(daemon.name)
            if unit is None or unit.daemon != daemon:
                unit = self.units[daemon.name] = Unit(daemon, self._start)
            unit.begin()

    def _write_manifests(self) -> None:
        """What its kubelet is to run, where the control plane are static pods; and the socket from which the apiserver gets its own."""
        topology = self.around.topology()
        if self.node.role != "control-plane" or not topology.spec.static_pods:
            return
        if self._handover is None:
            self._handover = Handover(topology.layout.node(self.node.name) / handover.NAME, self._listener)
            self._handover.open()
        staticpods.write(topology, self.node)

    async def kill(self) -> None:
        """Pull the plug."""
        self._unwatch()
        for unit in self._here():
            unit.hold()
        if self.init is not None:
            await self.init.kill()
        await self._clear()

    async def stop(self) -> None:
        """Stop the daemons, last started first, then the node."""
        self._unwatch()
        for unit in reversed(self._here()):
            await unit.end()
        await self.kill()

    async def shut_down(self, *, orderly: bool) -> None:
        """For ever, and with what the node keeps beside the supervisor."""
        for unit in self.units.values():
            if unit.daemon.on_host:
                await unit.end(kill=not orderly)
        await (self.stop() if orderly else self.kill())
        if self._handover is not None:
            self._handover.close()
            self._handover = None

    def _here(self) -> list[Unit]:
        """The daemons that are really on the node: what runs on the host does not notice when the node loses power."""
        return [unit for unit in self.units.values() if not unit.daemon.on_host]

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    # -- daemons -------------------------------------------------------------------------------------------------------------------

    async def _start(self, daemon: Daemon) -> Running:
        """Fork `daemon` once what it needs is there."""
        for need in daemon.needs:
            if need == "apiserver":
                await self.around.api_ready.wait()
            elif (other := self.units.get(need)) is not None:
                await other.tried.wait()
        topology = self.around.topology()
        server = await self.around.zygote() if topology.spec.isolated or daemon.on_host else self.line
        down = self.init is None or self.init.exited.done()
        if server is None or (down and not daemon.on_host):
            raise ForkFailed(f"the node {self.node.name} is down")
        fds: list[int] = [open_log(topology.layout.log(daemon.key))]
        named: list[str] = []
        listener: socket.socket | None = None
        try:
            if any("{api}" in arg for arg in daemon.args):
                listener = self._listener()
                fds.append(listener.fileno())
                named.append("api")
            if any("{switch}" in arg for arg in daemon.args) and self.around.switch is not None:
                fds.append(self.around.switch.fd)
                named.append("switch")
            request = {
                "op": "daemon",
                "name": daemon.name,
                "node": daemon.node,
                "module": daemon.module,
                "args": list(daemon.args),
                "fds": named,
                "join": self.init.pid if self.init is not None and topology.spec.isolated and not daemon.on_host else None,
            }
            return await server.fork(request, fds, daemon.key)
        finally:
            os.close(fds[0])
            if listener is not None:
                listener.close()

    def _listener(self) -> socket.socket:
        """A fresh listening socket for the API in the host's namespace. A used one would still hold connections that nobody accepts."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Connections that linger after a server was killed do not keep the next `up` from the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(self.around.reservation.getsockname())
        sock.listen(1024)
        return sock

    @property
    def netns_path(self) -> str:
        """A path to the node's network namespace; empty where it has none of its own."""
        if self.init is None or not self.around.topology().spec.isolated:
            return ""
        return f"/proc/{self.init.pid}/ns/net"
