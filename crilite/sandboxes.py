"""Pod sandboxes: made, stopped and removed.

A sandbox is pinned namespaces, an address, a few files, and (where its containers share a pid namespace) one waiting process. Its record is on
disk before any of it exists, and goes last; making is undone as a whole when a step fails.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path

from kubeling.crilite import containers as containers_module
from kubeling.crilite import namespaces, network, spec, userns
from kubeling.crilite.core import Core, new_id, sandbox_name
from kubeling.crilite.errors import AlreadyExists, CriError, FailedPrecondition, InvalidArgument
from kubeling.crilite.keeper_client import KeeperError
from kubeling.crilite.records import READY, STOPPED, Sandbox, SandboxRecord, pack
from kubeling.daemon.log import get_logger
from kubeling.linux import syscalls
from kubeling.proto import cri_pb2

log = get_logger("crilite.sandboxes")

#: Kernel settings that belong to a pod's own namespaces. The kubelet decides which of them a pod may set.
_POD_SYSCTLS = ("net.", "fs.mqueue.", "kernel.shm", "kernel.msg", "kernel.sem")


class Sandboxes:
    def __init__(self, core: Core, containers: containers_module.Containers) -> None:
        self._core = core
        self._containers = containers

    async def run(self, config: cri_pb2.PodSandboxConfig, handler: str) -> str:
        """Make a sandbox; its id."""
        core = self._core
        handler = handler or core.config.default_handler
        if handler not in core.config.handlers:
            raise InvalidArgument(f"no runtime handler {handler!r} here; there are: {', '.join(core.config.handlers)}")
        if not config.metadata.name or not config.metadata.uid:
            raise InvalidArgument("the sandbox's metadata needs a name and a uid")
        name = sandbox_name(config.metadata)
        if name in core.sandbox_names:
            raise AlreadyExists(f"sandbox name {name!r} is taken by {core.sandbox_names[name]!r}")
        record = SandboxRecord(id=new_id(), config=pack(config), handler=handler, created_at=time.time_ns())
        record.cgroup = self._cgroup_parent(record.id, config)
        sandbox = core.add_sandbox(record)
        try:
            async with sandbox.lock:
                self._check_sysctls(sandbox)
                if handler != "native" and userns.wanted(sandbox.options):
                    raise InvalidArgument(f"the handler {handler!r} has no user namespaces")
                core.attachment(sandbox)  # What it asks of the network must be understood before anything is made.
                if handler == "process" or not sandbox.host_network:
                    taken = {ip for other in core.sandboxes.values() for ip in other.record.ips}
                    record.ips = core.network_of(sandbox).allocate(taken)
                    record.ip = record.ips[0] if record.ips else ""
                record.owns_cgroup = not core.cgroups.exists(record.cgroup)
                core.sandbox_records.save(record, settled=False)
                try:
                    await self._make(sandbox)
                except BaseException:
                    await self._unmake(sandbox, force=True)
                    raise
                record.phase = READY
                core.sandbox_records.save(record, settled=False)
        except BaseException as error:
            core.forget_sandbox(sandbox)
            core.sandbox_records.delete(record.id)
            if isinstance(error, OSError | KeeperError):
                raise CriError(
                    f"cannot make the sandbox of pod {config.metadata.namespace}/{config.metadata.name}: {error}"
                ) from error
            raise
        core.emit(cri_pb2.CONTAINER_CREATED_EVENT, sandbox.id, sandbox)
        core.emit(cri_pb2.CONTAINER_STARTED_EVENT, sandbox.id, sandbox)
        return record.id

    async def stop(self, name: str) -> None:
        """Stop all containers of the sandbox and give its namespaces and its address back. One that is not there is stopped."""
        sandbox = self._core.sandboxes.get(name)
        if sandbox is None:
            return
        await asyncio.gather(*(self._containers.stop(one.id, 0) for one in self._core.containers_of(name)))
        async with sandbox.lock:
            if sandbox.record.phase == STOPPED:
                return
            await self._unmake(sandbox)
            sandbox.record.phase = STOPPED
            self._core.sandbox_records.note(sandbox.record)
        self._core.emit(cri_pb2.CONTAINER_STOPPED_EVENT, name, sandbox)

    async def remove(self, name: str) -> None:
        """Remove the sandbox with its containers, whatever state they are in."""
        sandbox = self._core.sandboxes.get(name)
        if sandbox is None:
            return
        await self.stop(name)
        await asyncio.gather(*(self._containers.remove(one.id) for one in self._core.containers_of(name)))
        async with sandbox.lock:
            if self._core.sandboxes.get(name) is not sandbox:
                return
            self._core.forget_sandbox(sandbox)
            await asyncio.to_thread(self._core.sandbox_records.delete, name)
        self._core.emit(cri_pb2.CONTAINER_DELETED_EVENT, name, None)

    async def pause_ended(self, sandbox: Sandbox) -> None:
        """The process that holds the shared pid namespace is gone, and with it every process in there."""
        if sandbox.record.phase == READY and sandbox.record.pause_pid:
            log.warning("the sandbox has lost its pid namespace", sandbox=sandbox.id)
            await self.stop(sandbox.id)

    # -- how -----------------------------------------------------------------------------------------------------------------------------------

    def _cgroup_parent(self, name: str, config: cri_pb2.PodSandboxConfig) -> str:
        root = self._core.config.cgroup_root.rstrip("/")
        parent = os.path.normpath("/" + config.linux.cgroup_parent.lstrip("/"))
        if parent == "/":
            return f"{root}/pod{name[:12]}"
        # A kubelet with the same --cgroup-root already says the whole path.
        return parent if parent == root or parent.startswith(root + "/") else root + parent

    @staticmethod
    def _check_sysctls(sandbox: Sandbox) -> None:
        for name in sandbox.config.linux.sysctls:
            if ".." in name or not name.replace("/", ".").startswith(_POD_SYSCTLS):
                raise InvalidArgument(f"sysctl {name!r} does not belong to a pod's namespaces")
            if name.startswith("net.") and sandbox.host_network:
                raise InvalidArgument(f"sysctl {name!r} needs a network namespace of the pod's own")

    async def _make(self, sandbox: Sandbox) -> None:
        core, record = self._core, sandbox.record
        expected = list(record.ips)
        # Both are mostly spent in the kernel. Either comes to its end although the other fails, so that what is undone then is whole.
        parts = [asyncio.to_thread(self._make_cgroup_and_files, sandbox), asyncio.to_thread(self._connect, sandbox)]
        for outcome in await asyncio.gather(*parts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        if record.ips != expected:
            self._write_files(sandbox)  # Some networks say only now what address it has.
        if _has_pause(sandbox):
            # Not in the pod's own cgroup: on version 2 one with processes cannot give controllers to those below it.
            own = _pause_cgroup(record)
            core.cgroups.create(own, None)
            answer, _ = await core.keeper.request("pause", container=sandbox.id, cgroup_procs=core.cgroups.joins(own))
            record.pause_pid = answer["pid"]

    def _make_cgroup_and_files(self, sandbox: Sandbox) -> None:
        core, record, config = self._core, sandbox.record, sandbox.config
        if record.cgroup:
            core.cgroups.create(record.cgroup, None)
            if record.owns_cgroup and config.linux.HasField("resources"):
                core.cgroups.update(record.cgroup, config.linux.resources)
        self._write_files(sandbox)

    def _connect(self, sandbox: Sandbox) -> None:
        """Its namespaces and its network, where it has its own."""
        if sandbox.record.handler == "process":
            return
        folder = self._core.sandbox_state(sandbox.id)
        kinds = [] if sandbox.host_network else ["net", "uts"]
        if sandbox.options.ipc != cri_pb2.NODE:
            kinds.append("ipc")
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        sysctls = dict(sandbox.config.linux.sysctls)
        own_users = userns.wanted(sandbox.options)
        if own_users:
            userns.pin(str(folder), kinds, sandbox.options)
        namespaces.pin(str(folder), kinds, sandbox.config.hostname, sysctls, network.bring_up_loopback, pinned=own_users)
        if "net" in kinds:
            record = sandbox.record
            record.ips = self._core.network_of(sandbox).attach(self._core.attachment(sandbox))
            record.ip = record.ips[0] if record.ips else ""
        if "ipc" in kinds:
            shm = folder / "shm"
            shm.mkdir(exist_ok=True)
            syscalls.mount(
                "shm", str(shm), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC, "mode=1777,size=65536k"
            )

    def _write_files(self, sandbox: Sandbox) -> None:
        folder = Path(self._core.sandbox_records.path(sandbox.id))
        hostname = sandbox.config.hostname or os.uname().nodename
        (folder / "hostname").write_text(hostname + "\n")
        (folder / "hosts").write_text(spec.hosts(hostname, sandbox.record.ips))
        text = spec.resolv_conf(sandbox.config.dns_config) if sandbox.config.HasField("dns_config") else ""
        if not text:
            try:
                text = Path("/etc/resolv.conf").read_text()
            except OSError:
                text = ""
        (folder / "resolv.conf").write_text(text)
        if sandbox.config.log_directory:
            os.makedirs(sandbox.config.log_directory, exist_ok=True)

    async def _unmake(self, sandbox: Sandbox, *, force: bool = False) -> None:
        """`force`: go on although the network cannot be taken away; what is left of that goes after the next start."""
        core, record = self._core, sandbox.record
        if _has_pause(sandbox):
            # Also where the record does not know of one: the daemon may have died, or the keeper, between its start and its being written down.
            record.pause_pid = 0
            await core.keeper.request("kill", container=sandbox.id, signal=int(signal.SIGKILL))
        await asyncio.to_thread(self._release, sandbox, force)

    def _release(self, sandbox: Sandbox, force: bool) -> None:
        core, record = self._core, sandbox.record
        folder = core.sandbox_state(sandbox.id)
        if record.handler == "process" or not sandbox.host_network:
            try:
                core.network_of(sandbox).detach(core.attachment(sandbox))
            except (CriError, OSError) as error:
                if not force:
                    raise
                log.warning("a pod's network cannot be taken away", sandbox=sandbox.id, error=error)
        namespaces.unpin(str(folder))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(core.container_state(sandbox.id), ignore_errors=True)
        if _has_pause(sandbox):
            core.cgroups.kill(_pause_cgroup(record))
            core.cgroups.remove(_pause_cgroup(record))
        if record.owns_cgroup and record.cgroup and not core.cgroups.remove(record.cgroup):
            log.warning("the sandbox's cgroup cannot be removed", sandbox=sandbox.id, cgroup=record.cgroup)
        record.ip, record.ips = "", []

    async def update(self, name: str, resources: cri_pb2.LinuxContainerResources) -> None:
        """New limits for the pod as a whole."""
        sandbox = self.ready(name)
        async with sandbox.lock:
            await asyncio.to_thread(self._core.cgroups.update, sandbox.record.cgroup, resources)

    def ready(self, name: str) -> Sandbox:
        """The sandbox, if things can run in it."""
        sandbox = self._core.sandbox(name)
        if sandbox.record.phase != READY:
            raise FailedPrecondition(f"sandbox {name!r} is not ready")
        return sandbox


def _has_pause(sandbox: Sandbox) -> bool:
    """Whether a process holds the pid namespace that the sandbox's containers share."""
    return sandbox.options.pid == cri_pb2.POD and sandbox.record.handler != "process"


def _pause_cgroup(record: SandboxRecord) -> str:
    return f"{record.cgroup}/{record.id}"
