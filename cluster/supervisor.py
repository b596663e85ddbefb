"""The supervisor: the process that `kubeling up` leaves behind, and that a cluster is.

It holds the switch, the port of the API on the host, and the channels to the zygote and to every node init; when it goes, they go. It starts what is to run,
starts again what dies, writes down what it knows (state.json) and answers on the control socket. Between events it sleeps: everything it waits for
is a descriptor.

`up` runs it detached, with the control socket's first connection already open (``--up-fd``), so that it can begin while the certificates are still
being made: it makes the nodes meanwhile, and waits for ``go`` before it starts the daemons.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kubeling.cluster import cgroups, channel, child, plan, state, uplink
from kubeling.cluster import zygote as zygotes
from kubeling.cluster.controlserver import ControlServer
from kubeling.cluster.machines import Machines
from kubeling.cluster.network import Switch
from kubeling.cluster.nodes import NodeRuntime, Surroundings
from kubeling.cluster.operations import Operations
from kubeling.cluster.state import ClusterError
from kubeling.cluster.steps import STEP_TEXTS, STEPS, Steps
from kubeling.cluster.topology import Daemon, Node, Topology
from kubeling.cluster.units import ForkClient, ForkFailed, Running, describe, open_log
from kubeling.cluster.uplink import Uplink
from kubeling.daemon import log as logs
from kubeling.daemon.backoff import Backoff
from kubeling.linux import syscalls

log = logs.get_logger("cluster.supervisor")

#: Imported by the zygote in this order, as far as they are there.
WARM = (
    "etcdlite",
    "apiserver",
    "kubeling.cluster.bootstrap",
    "crilite",
    "kubelet",
    "controllers",
    "scheduler",
    "dns",
    "kubeproxy",
    "cloud",
)
_BOOTSTRAP = "kubeling.cluster.bootstrap"
_TRIM_SECONDS = 3600.0
_TRIM_BYTES = 64 * 1024 * 1024


class Supervisor:
    """A running cluster."""

    def __init__(
        self, root: Path, found: state.State, reservation: socket.socket, zygote: tuple[socket.socket, int] | None = None
    ) -> None:
        """`zygote`: one that is there already, as the channel to it and its pid."""
        self.root = root
        self.state = found
        self.steps = Steps()
        self.switch: Switch | None = None
        self.nodes: dict[str, NodeRuntime] = {}
        self.go = asyncio.Event()
        self.made = asyncio.Event()
        self.ended = asyncio.Event()
        self.api_ready = asyncio.Event()
        self.began = time.monotonic()
        self._reservation = reservation
        self._zygote: ForkClient | None = None
        self._first_zygote = zygote
        self.zygote_pid = 0
        self.zygote_host_pid = 0
        self._clients: list[ForkClient] = []
        self._zygote_lock = asyncio.Lock()
        self._dirty = False
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.machines = Machines(self)

    # -- what the parts share ------------------------------------------------------------------------------------------------------

    def topology(self) -> Topology:
        return self.state.topology(self.root)

    def surroundings(self) -> Surroundings:
        return Surroundings(self.topology, self.switch, self.zygote, self.changed, self.api_ready, self._reservation)

    def changed(self) -> None:
        """Something started or ended: write the state down, once a turn of the loop however much has changed."""
        if not self._dirty and not self._closing:
            self._dirty = True
            asyncio.get_running_loop().call_soon(self._save)

    def _save(self) -> None:
        self._dirty = False
        if self._closing:
            return
        self.machines.poke()
        self.save()

    def save(self) -> None:
        """Write the state file now."""
        clients = [self._zygote, *(node.line for node in self.nodes.values())]
        self.state.processes = [r.process for c in {*self._clients, *clients} if c is not None for r in c.running.values()]
        if self.zygote_pid:
            self.state.processes.append(state.identify(self.zygote_host_pid, "zygote"))
        self.state.supervisor = state.identify(state.host_pid(), "supervisor")
        state.save(self.root, self.state)

    def spawn(self, work: Any, name: str) -> None:
        """A task of ours whose failure is logged and whose end `close` awaits."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a part of the supervisor failed", part=task.get_name(), error=repr(error))

    # -- the zygote ----------------------------------------------------------------------------------------------------------------

    def start_zygote(self) -> ForkClient:
        """Begin with the zygote that we have, or execute one; have it import what this cluster needs, and return the way to it."""
        first, self._first_zygote = self._first_zygote, None
        ours, self.zygote_pid = first or self._execute_zygote()
        pidfd = os.pidfd_open(self.zygote_pid)
        self.zygote_host_pid = state.host_pid(pidfd)
        os.close(pidfd)
        client = ForkClient(ours, self.changed)
        self._clients.append(client)
        self._zygote = client
        # The inits come first: an import cannot be interrupted, and they need none. See boot().
        client.warm([f"kubeling.{WARM[0]}.__main__"] if first is not None else self._warm())
        self.spawn(self._bury_zygote(client, self.zygote_pid), "zygote")
        return client

    def _execute_zygote(self) -> tuple[socket.socket, int]:
        ours, theirs = channel.pair()
        theirs.set_inheritable(True)
        argv = [sys.executable, "-P", "-m", "kubeling.cluster.zygote", f"--fd={theirs.fileno()}", f"--cluster={self.root.name}"]
        argv += [] if self.state.spec.isolated else ["--kill-orphans"]
        output = open_log(self.topology().layout.log("zygote"))
        null = os.open(os.devnull, os.O_RDONLY)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
        pid = os.posix_spawn(sys.executable, [*argv, "x" * child.TITLE_ROOM], os.environ, file_actions=actions)
        for fd in (null, output):
            os.close(fd)
        theirs.close()
        return ours, pid

    def _warm(self) -> list[str]:
        """What the zygote is to import, in the order in which it will be needed."""
        wanted = {d.name for node in self.state.nodes for d in plan.daemons(self.topology(), node) if not d.static}
        if self.state.spec.control_planes == 1:
            # Nobody to share its modules with, and the slowest to start: it imports them itself, beside the zygote.
            wanted.discard("apiserver")
        return [f"kubeling.{name}.__main__" if name in wanted else name for name in WARM if name in wanted or "." in name]

    async def _bury_zygote(self, client: ForkClient, pid: int) -> None:
        await asyncio.shield(client.lost)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        if self._zygote is client:
            self._zygote, self.zygote_pid, self.zygote_host_pid = None, 0, 0
        if not self._closing:
            log.warning("the zygote ended", how=describe(os.waitstatus_to_exitcode(status)))
            self.changed()
            await asyncio.sleep(1.0)
            await self.zygote()

    async def zygote(self) -> ForkClient:
        """The zygote; a new one where the old one has died."""
        async with self._zygote_lock:
            if self._zygote is None or self._zygote.lost.done():
                self._clients = [c for c in self._clients if c.running]
                return self.start_zygote()
            return self._zygote

    # -- up ------------------------------------------------------------------------------------------------------------------------

    async def boot(self) -> None:
        """From nothing to Ready. What cannot be started is a step that says so; only a node that cannot be made ends it."""
        spec, began = self.state.spec, time.monotonic()
        if spec.isolated:
            self.switch = await asyncio.to_thread(Switch, spec.families)
        if self.switch is not None and spec.uplink:
            await self._lead_out(self.switch, uplink.parse(spec.uplink))
        for node in self.state.nodes:
            self.nodes[node.name] = NodeRuntime(node, self.surroundings())
        wanted = [node for node in self.nodes.values() if node.node.name not in self.state.stopped_nodes]
        await asyncio.gather(*(node.boot() for node in wanted))
        (await self.zygote()).warm(self._warm())
        where = "namespaces on a switch of their own" if spec.isolated else "plain processes of this host"
        await self.steps.add(f"{len(wanted)} nodes, as {where}", began)
        await self.go.wait()
        began = time.monotonic()
        self.state.phase = "running"
        self.save()
        for missing in sorted({d.name for n in wanted for d in plan.daemons(self.topology(), n.node) if not present(d)}):
            await self.steps.add(f"{missing} is not installed here (no module kubeling.{missing}), skipped", began, "-")
        for runtime in wanted:
            runtime.start_daemons()
        self.made.set()
        units = [u for n in wanted for u in n.units.values()]
        if spec.static_pods:
            await asyncio.gather(
                *(u.tried.wait() for u in units if u.daemon.name == "kubelet" and "apiserver" not in u.daemon.needs)
            )
            await self.steps.add("kubelets of the control plane started, with their static pods", began)
        else:
            await asyncio.gather(*(u.tried.wait() for u in units if u.daemon.name == "etcdlite"))
            await self.steps.add("store started", began)
        if not spec.static_pods and not any(d.name == "apiserver" and present(d) for d in (u.daemon for u in units)):
            self.api_ready.set()
            await asyncio.gather(*(u.tried.wait() for u in units))
            await self.steps.add("nothing to wait for without an apiserver", began, "-")
        else:
            await self._bootstrap(began)
        await self.steps.finish()

    async def _lead_out(self, switch: Switch, way: Uplink) -> None:
        began = time.monotonic()
        try:
            await asyncio.to_thread(switch.lead_out, way)
        except OSError as error:
            raise ClusterError(f"--uplink={way}: {error.strerror or error}") from error
        await self.steps.add(f"uplink by {way.link or uplink.PROGRAM}", began)

    async def _bootstrap(self, began: float) -> None:
        """Run the bootstrap job, again if it dies, until it has done all."""
        backoff = Backoff(base=0.2, limit=10)
        last = 0
        while True:
            reading, writing = os.pipe2(os.O_CLOEXEC)
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            pipe = os.fdopen(reading, "rb")
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(partial(_same, protocol), pipe)
            try:
                job = await self._job(writing)
            except ForkFailed as error:
                log.error("the bootstrap could not be started", error=error)
                job = None
            finally:
                os.close(writing)
            while line := await reader.readline():
                step = json.loads(line)["step"]
                if step == "apiserver":
                    self.api_ready.set()
                if STEPS.index(step) >= last:
                    await self.steps.add(STEP_TEXTS[step], began, key=step)
                    last = STEPS.index(step) + 1 if step in STEPS[:2] else last
                began = time.monotonic() if step in STEPS[:2] else began
            transport.close()
            if job is not None and await job.exited == 0:
                return
            await asyncio.sleep(backoff.next())

    async def _job(self, report: int) -> Running:
        topology = self.topology()
        control = next(n for n in topology.of("control-plane") if n.name not in self.state.stopped_nodes)
        daemons = {d.name: d for n in topology.nodes for d in plan.daemons(topology, n)}
        kubelets = "kubelet" in daemons and present(daemons["kubelet"])
        with_kubelet = topology.nodes if topology.spec.static_pods else topology.of("worker")
        expected = [n.name for n in with_kubelet if kubelets and n.name not in self.state.stopped_nodes]
        dns = topology.at(control, "dns") if present(daemons["dns"]) else ""
        args = [
            f"--kubeconfig={topology.layout.admin_kubeconfig}",
            "--report-fd={report}",
            f"--nodes={','.join(expected)}",
            f"--control-plane-nodes={','.join(name for name in expected if topology.node(name).role == 'control-plane')}",
            f"--hollow-nodes={topology.spec.hollow_nodes}",
            f"--dns-service={','.join(topology.spec.dns_services)}",
            f"--dns-address={dns}",
            f"--volumes-path={topology.layout.node('{{node}}') / 'volumes'}",
        ]
        output = open_log(topology.layout.log("bootstrap"))
        fds, names = [output, report], ["report"]
        if self.switch is not None:
            args.append("--dial-netns=/proc/self/fd/{switch}")
            fds.append(self.switch.fd)
            names.append("switch")
        request = {
            "op": "daemon",
            "name": "bootstrap",
            "node": "host",
            "module": _BOOTSTRAP,
            "args": args,
            "fds": names,
            "join": None,
        }
        try:
            return await (await self.zygote()).fork(request, fds, "bootstrap")
        finally:
            os.close(output)

    async def images(self, nodes: Sequence[Node], words: Sequence[str], tell: Callable[[str], None]) -> None:
        """Have `crilite image` do `words` with the store of every node in `nodes`; `tell` is given its lines. Raises ClusterError."""
        if self.state.spec.runtime != "crilite":
            raise ClusterError(
                f"images of {self.state.spec.runtime} are handled by its own tools, such as `ctr -n k8s.io images import`"
            )
        for node in nodes:
            args = ["image", f"--root={self.topology().layout.node(node.name) / 'crilite'}", *words]
            request = {
                "op": "daemon",
                "name": "images",
                "node": node.name,
                "module": "kubeling.crilite.__main__",
                "args": args,
                "fds": [],
                "join": None,
            }
            reading, writing = os.pipe()
            try:
                job = await (await self.zygote()).fork(request, [writing], "images")
            except ForkFailed as error:
                os.close(reading)
                raise ClusterError(f"the images could not be worked on: {error}") from error
            finally:
                os.close(writing)
            last = ""
            async for line in _lines(reading):
                if last:
                    tell(f"{node.name}: {last}")
                last = line
            status = await job.exited
            if status != 0:
                raise ClusterError(f"{node.name}: {last or describe(status)}".replace("error: ", ""))
            if last:
                tell(f"{node.name}: {last}")

    # -- nodes ---------------------------------------------------------------------------------------------------------------------

    async def remove_node(self, runtime: NodeRuntime) -> None:
        """Pull the plug of a node and throw it away, disk and all."""
        await runtime.kill()
        del self.nodes[runtime.node.name]
        name = runtime.node.name
        self.state.nodes = tuple(n for n in self.state.nodes if n.name != name)
        self.state.stopped_nodes = [n for n in self.state.stopped_nodes if n != name]
        self.state.machines.pop(name, None)
        self.state.ports = {key: port for key, port in self.state.ports.items() if not key.startswith(f"{name}/")}
        self.save()
        if self.state.cgroup:
            await asyncio.to_thread(cgroups.remove, f"{self.state.cgroup}/{name}")
        await asyncio.to_thread(state.remove_node_files, self.topology().layout, name)

    # -- down ----------------------------------------------------------------------------------------------------------------------

    async def close(self, *, orderly: bool) -> None:
        """End everything that runs. `orderly` stops the daemons one after another, so that the disks can be booted again; else the plug is pulled."""
        ours = asyncio.current_task()
        for task in [t for t in self._tasks if t is not ours and t.get_name() not in ("down", "stop")]:
            task.cancel()
        workers = [n for n in self.nodes.values() if n.node.role == "worker"]
        others = [n for n in self.nodes.values() if n.node.role != "worker"]
        for group in (workers, others):
            await asyncio.gather(*(n.shut_down(orderly=orderly) for n in group))
        self._closing = True
        if self._zygote is not None:
            self._zygote.close()
        if self.zygote_pid:
            with contextlib.suppress(ChildProcessError):
                await asyncio.to_thread(os.waitpid, self.zygote_pid, 0)
            self.zygote_pid = 0
        if self.switch is not None:
            self.switch.close()
        if self.state.cgroup:
            left = await asyncio.to_thread(cgroups.remove, self.state.cgroup)
            for path in left:
                log.warning("a cgroup is still in use", path=path)

    async def trim_logs(self) -> None:
        """Once an hour, cut the logs that have grown beyond all measure. They are appended to, so cutting is safe."""
        while True:
            await asyncio.sleep(_TRIM_SECONDS)
            for path in self.topology().layout.logs.glob("*.log"):
                if path.stat().st_size > _TRIM_BYTES:
                    os.truncate(path, 0)


def _same(protocol: asyncio.StreamReaderProtocol) -> asyncio.StreamReaderProtocol:
    return protocol


def present(daemon: Daemon) -> bool:
    """Whether the daemon's module is installed."""
    try:
        return importlib.util.find_spec(daemon.module) is not None
    except ModuleNotFoundError:
        return False


async def run(
    root: Path,
    found: state.State,
    zygote: tuple[socket.socket, int] | None,
    reservation: socket.socket,
    up: socket.socket | None,
    owner: int,
) -> None:
    """Be the supervisor of the cluster in `root` until it is told to end."""
    supervisor = Supervisor(root, found, reservation, zygote)
    supervisor.start_zygote()
    supervisor.changed()
    operations = Operations(supervisor)
    server = ControlServer(supervisor.topology().layout.control_socket, operations.handlers())
    await server.start()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operations.terminate)
    if up is not None:
        (await server.adopt(up)).add_done_callback(operations.up_ended)
    if owner >= 0:
        _die_with(owner, operations)
    supervisor.spawn(operations.boot(), "boot")
    supervisor.spawn(supervisor.trim_logs(), "trim")
    await supervisor.ended.wait()
    await server.close()


async def _lines(fd: int) -> AsyncIterator[str]:
    """What is written to the pipe `fd`, which is closed in the end."""
    reader = asyncio.StreamReader()
    pipe = os.fdopen(fd, "rb")
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        while line := await reader.readline():
            yield line.decode(errors="replace").rstrip()
    finally:
        transport.close()


def _die_with(owner: int, operations: Operations) -> None:
    """Take the cluster down when the process behind the pidfd `owner` ends: a test run that was killed leaves nothing."""

    def gone() -> None:
        asyncio.get_running_loop().remove_reader(owner)
        operations.abandon()

    asyncio.get_running_loop().add_reader(owner, gone)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubeling.cluster.supervisor", description="keeps one cluster running")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--reservation-fd", type=int, required=True, help="a socket bound to the API's port on the host")
    parser.add_argument("--slot-fd", type=int, required=True, help="the socket whose name keeps our loopback addresses ours")
    parser.add_argument("--up-fd", type=int, default=-1, help="the control connection of the `up` that started us")
    parser.add_argument("--owner-fd", type=int, default=-1, help="go down when the process behind this pidfd ends")
    parser.add_argument("room", nargs="?", help="room for the process title; not read")
    args = parser.parse_args(argv)
    child.title("supervisor", f"kubeling-supervisor [{args.root.name}] --root={args.root}")
    logs.configure()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    for fd in (args.reservation_fd, args.slot_fd, args.up_fd, args.owner_fd):
        # Ours alone: in the zygote they would outlive us.
        if fd >= 0:
            os.set_inheritable(fd, False)
    found = state.load(args.root)
    if found is None:
        raise ClusterError(f"there is no cluster in {args.root}")
    output = open_log(found.topology(args.root).layout.log("zygote"))
    zygote = zygotes.fork(output, args.root.name, kill_orphans=not found.spec.isolated)
    os.close(output)
    reservation = socket.socket(fileno=args.reservation_fd)
    up = socket.socket(fileno=args.up_fd) if args.up_fd >= 0 else None
    asyncio.run(run(args.root, found, zygote, reservation, up, args.owner_fd))
    return 0


if __name__ == "__main__":
    sys.exit(main())
